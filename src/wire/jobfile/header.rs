//! The fields of a file that is an object: `name`, `defaults` and `jobs`.

use super::extent::{Extent, read_value};
use super::shape::Ahead;
use super::{FileError, Header, JobFile, LOOKAHEAD_BYTES_MAX, Result};
use crate::wire::job::{Defaults, JobError};
use crate::wire::nearest::{nearest, quote};
use crate::wire::select::check_batch_name;
use serde::de::IgnoredAny;
use std::io::BufRead;

/// The fields.
const FIELDS: [&str; 3] = ["name", "defaults", "jobs"];

impl<R: BufRead> JobFile<R> {
    /// Reads what was seen of `name` and `defaults`.
    pub(super) fn check_header(&self, ahead: Ahead) -> Result<Header> {
        let mut header = Header::default();
        if let Some((raw, line)) = ahead.name.filter(|(raw, _)| raw != "null") {
            let name: String = serde_json::from_str(&raw)
                .map_err(|_| self.field_error("name", line, "\"name\" must be a string"))?;
            check_batch_name(&name).map_err(|problem| self.field_error("name", line, problem))?;
            header.name = Some(name);
        }
        if let Some((raw, line)) = ahead.defaults.filter(|(raw, _)| raw != "null") {
            Defaults::parse(&raw).map_err(|error| {
                let message = format!("in \"defaults\": {}", error.message);
                FileError::at_field(&self.file, line, JobError { message, ..error })
            })?;
            header.defaults = Some(raw);
        }
        Ok(header)
    }

    /// Goes on behind the `[` of `jobs`, from behind the object's `{`.
    pub(super) fn pass_fields_before(&mut self) -> Result<()> {
        loop {
            if self.pass_field()? == "jobs" {
                if self.peek()? != Some(b'[') {
                    let line = self.source.place().line;
                    return Err(self.field_error("jobs", line, "\"jobs\" must be an array"));
                }
                return self.advance();
            }
            match self.peek()? {
                Some(b',') => self.advance()?,
                Some(_) | None => {
                    return Err(self.wrong("there should be a comma behind the field before this"));
                }
            }
        }
    }

    /// Goes on behind the object's `}`, from behind the `]` of `jobs`.
    pub(super) fn pass_fields_behind(&mut self) -> Result<()> {
        loop {
            match self.peek()? {
                None => return Err(self.wrong("the file ends inside its object: its } is missing")),
                Some(b'}') => return self.advance(),
                Some(b',') => self.advance()?,
                Some(_) => {
                    return Err(self.wrong("there should be a comma or } behind the field before this"));
                }
            }
            self.pass_field()?;
        }
    }

    /// Goes on behind the next field; of `jobs`, which may not come twice, behind its colon.
    fn pass_field(&mut self) -> Result<&'static str> {
        self.peek()?;
        let line = self.source.place().line;
        let name = self.field_name()?;
        if self.passed.contains(&name) {
            return Err(self.field_error(name, line, format!("{name:?} stands twice")));
        }
        self.passed.push(name);
        if name != "jobs" {
            self.pass_value(name, line)?;
        }
        Ok(name)
    }

    /// The name of the next field; goes on behind its colon.
    fn field_name(&mut self) -> Result<&'static str> {
        let line = self.source.place().line;
        let mut bytes = Vec::new();
        read_value(&mut self.source, &mut bytes, self.job_bytes_max)
            .map_err(|error| self.unreadable(&error))?;
        let Ok(name) = serde_json::from_slice::<String>(&bytes) else {
            return Err(FileError::at(&self.file, line, "there should be a field's name in quotes"));
        };
        let Some(known) = FIELDS.into_iter().find(|known| *known == name) else {
            return Err(self.unknown_field(&name, line));
        };
        if self.peek()? != Some(b':') {
            return Err(self.field_error(known, line, format!("{known:?} is not followed by a colon")));
        }
        self.advance()?;
        Ok(known)
    }

    fn unknown_field(&self, name: &str, line: u64) -> FileError {
        let hint = match nearest(name, FIELDS) {
            Some(meant) => format!("Did you mean {meant:?}?"),
            None => "Beside \"jobs\" there are \"name\" and \"defaults\"; what all jobs share stands there"
                .to_owned(),
        };
        let short: String = name.chars().take(64).collect();
        self.field_error(&short, line, format!("unknown field {}", quote(name))).hint(hint)
    }

    /// Goes on behind the value of `name` or `defaults`, which was read when the file was opened.
    fn pass_value(&mut self, name: &'static str, line: u64) -> Result<()> {
        self.peek()?;
        let place = self.source.place();
        let mut bytes = Vec::new();
        let extent = read_value(&mut self.source, &mut bytes, LOOKAHEAD_BYTES_MAX)
            .map_err(|error| self.unreadable(&error))?;
        if extent != Extent::Whole {
            return Err(self.field_error(name, line, format!("{name:?} does not end")));
        }
        let text = self.utf8(place, bytes)?;
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&text) {
            return Err(FileError::syntax(&self.file, place, &error));
        }
        let was_seen =
            if name == "name" { self.header.name.is_some() } else { self.header.defaults.is_some() };
        if was_seen || text == "null" {
            return Ok(());
        }
        let message = format!("{name:?} stands behind more than {} MiB of jobs", LOOKAHEAD_BYTES_MAX >> 20);
        Err(self.field_error(name, line, message).hint("Put it before \"jobs\""))
    }

    fn field_error(&self, field: &str, line: u64, message: impl Into<String>) -> FileError {
        let error = JobError { field: Some(field.to_owned()), ..JobError::new(message) };
        FileError::at_field(&self.file, line, error)
    }
}
