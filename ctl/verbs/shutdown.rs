//! `shutdown`: stops the daemon.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use pushpull::wire::control::Ask;

/// Stops the daemon; running jobs may finish first.
#[derive(clap::Args)]
pub struct Shutdown {
    /// Stops the workers at once; what they ran goes back to the queue.
    #[arg(long)]
    now: bool,
}

impl Run for Shutdown {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&Ask { now: self.now.then_some(true), ..request("shutdown") })?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            session.screen.line("pushpulld is stopping")?;
        }
        Ok(Ending::Done)
    }
}
