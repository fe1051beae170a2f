//! `remove`: of finished jobs, with a word on how many.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::selecting::SelectOptions;

/// Forgets finished jobs and their results.
#[derive(clap::Args)]
pub struct Remove {
    #[command(flatten)]
    select: SelectOptions,
}

impl Run for Remove {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&self.select.fill_said(request("remove"))?)?;
        session.print_fates(&reply, "removed")
    }
}
