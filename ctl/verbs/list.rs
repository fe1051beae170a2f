//! `list`: jobs, one line each.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::pages;
use crate::selecting::SelectOptions;
use crate::table::{Cell, Column, Table};
use crate::words::ago;
use pushpull::wire::record::{Record, one_line};
use serde_json::value::RawValue;
use std::time::SystemTime;

/// Lists jobs in the order of their ids.
///
/// Without SELECT these are the unfinished and the last 20 finished ones.
#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    select: SelectOptions,
}

impl Run for List {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let ask = self.select.fill(request("list"))?;
        let mut table = Table::new(&[
            Column::Number("ID"),
            Column::Text("BATCH"),
            Column::Text("POOL"),
            Column::Text("STATE"),
            Column::Number("ATTEMPTS"),
            Column::Text("SINCE"),
            Column::Long("JOB"),
            Column::Long("ERROR"),
        ]);
        pages::each(client, ask, |page| {
            if screen.json {
                page.records.iter().try_for_each(|raw| screen.line(&one_line(raw.get())))?;
            } else {
                let rows: Vec<Record> = pages::parse(&page.records)?;
                table.print(screen, rows.iter().map(row).collect())?;
            }
            Ok(!page.done)
        })?;
        if table.is_empty() {
            screen.people("0 jobs")?;
        }
        Ok(Ending::Done)
    }
}

fn row(job: &Record) -> Vec<Cell> {
    let since = [&job.finished, &job.started].into_iter().flatten().next().unwrap_or(&job.submitted);
    vec![
        Cell::new(job.id.to_string()),
        Cell::new(format!("@{}", job.batch)),
        Cell::new(&job.pool),
        Cell::state(&job.state),
        Cell::new(job.attempts.to_string()),
        Cell::new(ago(since, SystemTime::now())),
        Cell::new(title(job)),
        Cell::new(job.error.as_deref().unwrap_or("")),
    ]
}

/// What people know a job by: its name and its command.
pub(super) fn title(job: &Record) -> String {
    let command = job.run.as_deref().map(command);
    match (job.name.as_deref(), command) {
        (Some(name), Some(command)) => format!("{name}: {command}"),
        (Some(only), None) => only.to_owned(),
        (None, command) => command.unwrap_or_else(|| "(data)".to_owned()),
    }
}

/// A command as one would type it.
pub(super) fn command(run: &RawValue) -> String {
    if let Ok(shell) = serde_json::from_str::<String>(run.get()) {
        return shell;
    }
    let words: Vec<String> = serde_json::from_str(run.get()).unwrap_or_default();
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./=:,+@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        command(&RawValue::from_string(json.to_owned()).expect("JSON"))
    }

    #[test]
    fn commands_are_shown_as_one_would_type_them() {
        assert_eq!(shown(r#""a | b""#), "a | b");
        assert_eq!(shown(r#"["grep", "-r", "it's", "", "src/x.rs"]"#), r"grep -r 'it'\''s' '' src/x.rs");
    }
}
