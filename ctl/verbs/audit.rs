//! `audit`: whether the sums match.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::words::{count, grouped, plain};
use pushpull::model::State;
use pushpull::wire::control::{Ask, CountsJson};
use serde::Deserialize;

/// Proves that every job is in exactly one state and has at most one outcome.
#[derive(clap::Args)]
pub struct Audit {}

/// How long the daemon may hold a question.
const POLL_MS: u64 = 5_000;

#[derive(Deserialize)]
struct AuditReply {
    done: bool,
    jobs: u64,
    counts: CountsJson,
    differences: Vec<String>,
}

impl Run for Audit {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let ask = Ask { timeout_ms: Some(POLL_MS), ..request("audit") };
        let (reply, audit) = loop {
            let reply = client.ask_again(&ask)?;
            let audit: AuditReply = reply.as_type()?;
            if audit.done {
                break (reply, audit);
            }
        };
        if screen.json {
            screen.line(&reply.document())?;
        } else if audit.differences.is_empty() {
            screen.line(&sum(audit.jobs, &audit.counts))?;
        } else {
            for difference in &audit.differences {
                screen.line(&plain(difference))?;
            }
        }
        Ok(if audit.differences.is_empty() { Ending::Done } else { Ending::Unsuccessful })
    }
}

/// `5,000 accepted = 4,998 succeeded + 2 failed; 0 lost, 0 recorded twice`.
fn sum(jobs: u64, counts: &CountsJson) -> String {
    let parts: Vec<String> = State::ALL
        .into_iter()
        .filter(|state| count(counts, *state) > 0)
        .map(|state| format!("{} {state}", grouped(count(counts, state))))
        .collect();
    let equals = if parts.is_empty() { String::new() } else { format!(" = {}", parts.join(" + ")) };
    format!("{} accepted{equals}; 0 lost, 0 recorded twice", grouped(jobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_one_line() {
        let counts = CountsJson { succeeded: 4_998, failed: 2, ..CountsJson::default() };
        let text = "5,000 accepted = 4,998 succeeded + 2 failed; 0 lost, 0 recorded twice";
        assert_eq!(sum(5_000, &counts), text);
        assert_eq!(sum(0, &CountsJson::default()), "0 accepted; 0 lost, 0 recorded twice");
    }
}
