//! `ping`: whether the daemon answers, and how fast.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use pushpull::wire::control::PingReply;
use std::time::Instant;

/// Asks the daemon whether it is there.
#[derive(clap::Args)]
pub struct Ping {}

impl Run for Ping {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let start = Instant::now();
        let reply = session.client.ask(&request("ping"))?;
        let took = start.elapsed();
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            let PingReply { version, pid, .. } = reply.as_type()?;
            let ms = took.as_secs_f64() * 1_000.0;
            session.screen.line(&format!("pushpulld {version}, pid {pid}, answered in {ms:.1} ms"))?;
        }
        Ok(Ending::Done)
    }
}
