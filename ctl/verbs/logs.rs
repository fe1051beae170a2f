//! `logs`: what workers and the daemon have written.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::screen::say;
use crate::words::plain;
use pushpull::wire::control::Ask;
use pushpull::wire::record::one_line;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Prints what workers and the daemon have written, oldest first.
#[derive(clap::Args)]
pub struct Logs {
    /// Means this worker (default.3.17), or all that were ever in this slot (default.3) [default: everything].
    #[arg(value_name = "WORKER")]
    worker: Option<String>,
    /// Goes on with what is written from now on, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
}

/// How long the daemon may hold a question for more.
const POLL_MS: u64 = 5_000;

#[derive(Deserialize)]
struct Page {
    pieces: Vec<Box<RawValue>>,
    next: Value,
    gap: bool,
    done: bool,
}

#[derive(Deserialize)]
struct Piece {
    at: String,
    worker: Option<String>,
    stream: String,
    text: Option<String>,
    base64: Option<String>,
}

impl Run for Logs {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let timeout_ms = self.follow.then_some(POLL_MS);
        let mut ask = Ask { worker: self.worker, timeout_ms, ..request("logs") };
        loop {
            let page: Page = client.ask_again(&ask)?.as_type()?;
            if page.gap {
                say("pushpullctl: some lines are missing here: their files have been deleted to make room");
            }
            for raw in &page.pieces {
                let line = if screen.json { one_line(raw.get()).into_owned() } else { for_people(raw)? };
                screen.line(&line)?;
            }
            // Whoever follows wants to see each line when it is there.
            screen.flush()?;
            if page.done && !self.follow {
                return Ok(Ending::Done);
            }
            ask.after = Some(page.next);
        }
    }
}

/// As in the files: when, who, where, what.
fn for_people(raw: &RawValue) -> Result<String, Failure> {
    let piece: Piece = serde_json::from_str(raw.get()).map_err(|error| {
        Failure::Answer(format!("the daemon's answer is not what was asked for: {error}"))
    })?;
    let who = match &piece.worker {
        Some(worker) => format!("{worker} {}", piece.stream),
        None => "pushpulld".to_owned(),
    };
    let what = match (&piece.text, &piece.base64) {
        (Some(text), _) => text.split('\t').map(plain).collect::<Vec<_>>().join("\t"),
        (None, Some(base64)) => format!("[no text, in base64] {}", plain(base64)),
        (None, None) => String::new(),
    };
    Ok(format!("{} {} {what}", plain(&piece.at), plain(&who)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_who_where_and_what_and_steers_no_terminal() {
        let shown = |piece: &str| {
            let raw: Box<RawValue> = serde_json::from_str(piece).expect("JSON");
            for_people(&raw).expect("a piece")
        };
        assert_eq!(
            shown(r#"{"at":"T","worker":"default.0.1","stream":"stderr","text":"\u001b[31mred"}"#),
            r"T default.0.1 stderr \u{1b}[31mred"
        );
        assert_eq!(shown(r#"{"at":"T","worker":null,"stream":"log","text":"ready"}"#), "T pushpulld ready");
        assert_eq!(
            shown(r#"{"at":"T","worker":"a.0.1","stream":"stdout","base64":"/w=="}"#),
            "T a.0.1 stdout [no text, in base64] /w=="
        );
    }
}
