//! The verbs, one file each. A new one is its file, its `mod`, and its line in the table below.

mod add;
mod audit;
mod batches;
mod cancel;
mod completions;
mod drain;
mod explain;
mod list;
mod logs;
mod metrics;
mod pause;
mod ping;
mod reload;
mod remove;
mod restart;
mod results;
mod resume;
mod retry;
mod scale;
mod show;
mod shutdown;
mod status;
mod submit;
mod version;
mod wait;
mod workers;

use crate::client::Client;
use crate::failure::{Ending, Failure};
use crate::reply::Reply;
use crate::screen::Screen;
use crate::words::grouped;

/// What every verb works with.
pub struct Session {
    pub client: Client,
    pub screen: Screen,
}

/// What a verb does with its options.
trait Run {
    fn run(self, session: &mut Session) -> Result<Ending, Failure>;
}

/// From one table: the enumeration that clap reads, the way to each verb's code, and the groups of `--help`.
macro_rules! verbs {
    ($($heading:literal: $($file:ident $verb:ident),+;)+) => {
        #[derive(clap::Subcommand)]
        #[command(disable_help_subcommand = true)]
        pub enum Verb {
            $($($verb($file::$verb),)+)+
        }

        impl Verb {
            pub fn run(self, session: &mut Session) -> Result<Ending, Failure> {
                match self {
                    $($(Verb::$verb(verb) => verb.run(session),)+)+
                }
            }
        }

        pub const GROUPS: &[(&str, &[&str])] = &[$(($heading, &[$(stringify!($file)),+])),+];
    };
}

verbs! {
    "Give jobs": submit Submit, add Add;
    "Look": status Status, list List, show Show, explain Explain, batches Batches, workers Workers, logs Logs, audit Audit, metrics Metrics;
    "Get what came out": wait Wait, results Results;
    "Change": cancel Cancel, retry Retry, remove Remove, pause Pause, resume Resume, scale Scale, restart Restart;
    "The daemon": ping Ping, version Version, reload Reload, drain Drain, shutdown Shutdown;
    "The shell": completions Completions;
}

impl Session {
    /// Prints how many jobs met which fate: `3 cancelled, 2 already finished`. Programs get the reply.
    fn print_fates(&mut self, reply: &Reply, main: &str) -> Result<Ending, Failure> {
        if self.screen.json {
            self.screen.line(&reply.document())?;
        } else {
            self.screen.line(&fates(&reply.numbers(), main))?;
        }
        Ok(Ending::Done)
    }
}

/// The fate that was asked for first, then the others; those that nobody met are left out.
fn fates(numbers: &[(&str, u64)], main: &str) -> String {
    let mut met: Vec<&(&str, u64)> = numbers.iter().filter(|(_, jobs)| *jobs > 0).collect();
    met.sort_by_key(|(fate, _)| *fate != main);
    if met.is_empty() {
        return "0 jobs".to_owned();
    }
    let texts: Vec<String> = met
        .iter()
        .map(|(fate, jobs)| {
            let words =
                if *fate == "finished" { "already finished".to_owned() } else { fate.replace('_', " ") };
            format!("{} {words}", grouped(*jobs))
        })
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::fates;

    #[test]
    fn fates_begin_with_the_one_that_was_asked_for() {
        assert_eq!(
            fates(&[("not_failed", 4_983), ("retried", 17)], "retried"),
            "17 retried, 4,983 not failed"
        );
        assert_eq!(
            fates(&[("cancelled", 3), ("finished", 2)], "cancelled"),
            "3 cancelled, 2 already finished"
        );
        assert_eq!(fates(&[("already_finished", 2), ("cancelled", 0)], "cancelled"), "2 already finished");
        assert_eq!(fates(&[("cancelled", 0)], "cancelled"), "0 jobs");
    }
}
