//! Why a file is no job file, with the place.

use super::Element;
use super::source::Place;
use crate::wire::job::{JobError, json_problem};
use std::fmt;
use std::io;

/// Why a file, or one job of it, cannot be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file, as people know it.
    pub file: Box<str>,
    /// From 1; 0 if the file as a whole is meant.
    pub line: u64,
    /// The place among the jobs, from 0.
    pub index: Option<u64>,
    pub field: Option<String>,
    /// Goes on where the place ends.
    pub message: String,
    /// What to do about it, a sentence of its own.
    pub hint: Option<String>,
    /// The limit that the job is above, and its value.
    pub limit: Option<(&'static str, u64)>,
    /// Whether the place is the message's subject, as in `commands.txt:1 is not JSON`.
    is_subject: bool,
}

impl FileError {
    /// Something wrong with the file as a whole.
    pub(super) fn whole(file: &str, message: impl Into<String>) -> FileError {
        FileError { is_subject: true, ..FileError::at(file, 0, message) }
    }

    /// Something wrong in a line.
    pub(super) fn at(file: &str, line: u64, message: impl Into<String>) -> FileError {
        let message = message.into();
        FileError {
            file: file.into(),
            line,
            index: None,
            field: None,
            message,
            hint: None,
            limit: None,
            is_subject: false,
        }
    }

    /// Something wrong with a field of the file's own.
    pub(super) fn at_field(file: &str, line: u64, error: JobError) -> FileError {
        let JobError { field, message, hint, limit } = error;
        FileError { field, hint, limit, ..FileError::at(file, line, message) }
    }

    /// A line that is something else than it should be; `message` begins with a verb.
    pub(super) fn line_is(file: &str, line: u64, message: impl Into<String>) -> FileError {
        FileError { is_subject: true, ..FileError::at(file, line, message) }
    }

    /// A job with something wrong in it.
    pub(super) fn of_job(file: &str, element: &Element, error: JobError) -> FileError {
        FileError::at_field(file, element.line, error).of_element(element.index)
    }

    pub(super) fn read(file: &str, error: &io::Error) -> FileError {
        FileError::whole(file, format!("cannot be read: {error}"))
    }

    pub(super) fn of_element(mut self, index: u64) -> FileError {
        self.index = Some(index);
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> FileError {
        self.hint = Some(hint.into());
        self
    }

    /// What `error` says of a text that begins at `start`.
    pub(super) fn syntax(file: &str, start: Place, error: &serde_json::Error) -> FileError {
        let above = (error.line() as u64).saturating_sub(1);
        let column = error.column() as u64 + if above == 0 { start.column } else { 0 };
        let what = json_problem(error);
        FileError::at(file, start.line + above, format!("{what}, column {column}"))
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(if self.is_subject { " " } else { ": " })?;
        if let Some(index) = self.index {
            write!(f, "element {index}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FileError {}
