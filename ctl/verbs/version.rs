//! `version`: of this program, and of the daemon if one can be reached.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::trouble::Trouble;
use pushpull::wire::control::PingReply;
use serde_json::json;

/// Prints the versions of this program and of the daemon.
#[derive(clap::Args)]
pub struct Version {}

const OWN: &str = env!("CARGO_PKG_VERSION");

impl Run for Version {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = match session.client.ask(&request("version")) {
            Ok(reply) => Some(reply),
            Err(Failure::Trouble(Trouble::Unreachable(_))) => None,
            Err(failure) => return Err(failure),
        };
        if session.screen.json {
            let text = match reply {
                Some(reply) => reply.document_with(&[("pushpullctl", &json!(OWN).to_string())]),
                None => json!({"version": null, "pushpullctl": OWN}).to_string(),
            };
            session.screen.line(&text)?;
            return Ok(Ending::Done);
        }
        session.screen.line(&format!("pushpullctl {OWN}"))?;
        match reply {
            Some(reply) => {
                let PingReply { version, pid, .. } = reply.as_type()?;
                session.screen.line(&format!("pushpulld {version}, pid {pid}"))?;
            }
            None => session.screen.line("pushpulld is not running")?,
        }
        Ok(Ending::Done)
    }
}
