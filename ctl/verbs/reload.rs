//! `reload`: a changed configuration is taken over while everything runs.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};

/// Has the daemon read its configuration again; only what changed is restarted.
#[derive(clap::Args)]
pub struct Reload {}

impl Run for Reload {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&request("reload"))?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            session.screen.line("reloaded; pushpullctl workers shows whom it replaces")?;
        }
        Ok(Ending::Done)
    }
}
