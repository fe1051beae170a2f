//! `cancel`: of jobs, with a word on how many.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::selecting::SelectOptions;
use pushpull::wire::control::Ask;

/// Cancels jobs, running ones too.
#[derive(clap::Args)]
pub struct Cancel {
    #[command(flatten)]
    select: SelectOptions,
    /// Notes why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Run for Cancel {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let ask = self.select.fill_said(request("cancel"))?;
        let reply = session.client.ask(&Ask { reason: self.reason, ..ask })?;
        session.print_fates(&reply, "cancelled")
    }
}
