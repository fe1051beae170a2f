//! Where a command runs and what it finds in its environment, apart from what its job says.
//!
//! A submitter's environment replaces the daemon's, which is the worker's own. The worker's variables come last,
//! so that nobody can hide them: the daemon finds the survivors of an earlier one by `PUSHPULL_DAEMON`. The two
//! endpoints are the worker's alone.

use crate::model::Context;
use crate::wire::pipeline::order::parse_environment;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Variables that a command has from its worker.
const HANDED_DOWN: [&str; 4] = ["PUSHPULL_WORKER", "PUSHPULL_POOL", "PUSHPULL_SLOT", "PUSHPULL_DAEMON"];

/// Variables that are kept from commands.
const KEPT_BACK: [&str; 2] = ["PUSHPULL_JOBS", "PUSHPULL_RESULTS"];

/// What all commands of a submit share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    environment: Vec<(OsString, OsString)>,
    handed_down: Vec<(OsString, OsString)>,
    /// `None`: the worker's own.
    pub directory: Option<PathBuf>,
}

impl Surroundings {
    /// The worker's own.
    #[must_use]
    pub fn own() -> Surroundings {
        let (handed_down, rest) = std::env::vars_os().partition(|(name, _)| is_one_of(name, &HANDED_DOWN));
        Surroundings { environment: without_kept_back(rest), handed_down, directory: None }
    }

    /// A submitter's, where it has none the worker's `own`.
    ///
    /// # Errors
    ///
    /// Text for people when the environment is not an object of texts.
    pub fn of(context: Option<&Context>, own: &Surroundings) -> Result<Surroundings, String> {
        let Some(context) = context else { return Ok(own.clone()) };
        let environment = match &context.environment {
            Some(json) => {
                let variables = parse_environment(json)?;
                without_kept_back(variables.into_iter().map(|(name, value)| (name.into(), value.into())))
            }
            None => own.environment.clone(),
        };
        let directory = context.directory.as_deref().map(PathBuf::from);
        Ok(Surroundings { environment, handed_down: own.handed_down.clone(), directory })
    }

    /// What a command finds before its job adds to it.
    pub fn environment(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        borrowed(&self.environment)
    }

    /// What a command finds whatever its job adds.
    pub fn handed_down(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        borrowed(&self.handed_down)
    }

    /// The value of a variable before the job adds to the environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment().find(|(other, _)| *other == name).map(|(_, value)| value)
    }
}

fn borrowed(variables: &[(OsString, OsString)]) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
}

fn without_kept_back(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    variables.into_iter().filter(|(name, _)| !is_one_of(name, &KEPT_BACK)).collect()
}

fn is_one_of(name: &OsStr, names: &[&str]) -> bool {
    names.iter().any(|other| name == *other)
}
