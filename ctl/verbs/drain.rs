//! `drain`: no new jobs, and a stop when all is worked off.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};

/// Takes no more jobs, works off what is queued, and stops the daemon.
#[derive(clap::Args)]
pub struct Drain {}

impl Run for Drain {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&request("drain"))?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            session
                .screen
                .line("draining; pushpullctl wait sees the end, pushpullctl resume goes on instead")?;
        }
        Ok(Ending::Done)
    }
}
