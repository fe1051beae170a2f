//! `completions`: a script for a shell.

use super::{Run, Session};
use crate::args::Cli;
use crate::failure::{Ending, Failure};
use clap::CommandFactory;

/// Prints a script that completes these commands in a shell.
#[derive(clap::Args)]
pub struct Completions {
    /// Writes for this shell.
    shell: clap_complete::Shell,
}

impl Run for Completions {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        // Into memory first: the generator panics when a write fails.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "pushpullctl", &mut script);
        session.screen.line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Ending::Done)
    }
}
