//! `metrics`: counts since the start, for machines that watch.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use serde::Deserialize;

/// Prints counts since the daemon's start in the text format of Prometheus.
#[derive(clap::Args)]
pub struct Metrics {}

#[derive(Deserialize)]
struct Text {
    text: String,
}

impl Run for Metrics {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&request("metrics"))?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            session.screen.line(reply.as_type::<Text>()?.text.trim_end())?;
        }
        Ok(Ending::Done)
    }
}
