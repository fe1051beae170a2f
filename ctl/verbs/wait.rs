//! `wait`: until jobs are finished.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::screen::say;
use crate::selecting::SelectOptions;
use crate::waiting;
use pushpull::wire::duration;
use std::time::Duration;

/// Waits until jobs are finished.
///
/// Without SELECT these are all unfinished ones. Exit status 1 says that one failed or was cancelled.
#[derive(clap::Args)]
pub struct Wait {
    #[command(flatten)]
    select: SelectOptions,
    /// Gives up after this time, with exit status 124.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

impl Run for Wait {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let ask = self.select.fill(request("wait"))?;
        let again = format!("pushpullctl wait {}", self.select.words());
        let waited = waiting::wait(client, screen, &ask, self.timeout, again.trim_end())?;
        if screen.json {
            screen.line(&waited.reply.document())?;
        } else {
            screen.line(&waited.summary())?;
        }
        if waited.ending() == Ending::TimedOut && !screen.json {
            let left = waited.wait.counts.unfinished();
            say(&format!("the time is up; {} not finished", crate::words::jobs(left)));
        }
        Ok(waited.ending())
    }
}
