//! Which error it is, when something is wrong with a job's text.

use super::extent::Extent;
use super::source::Place;
use super::{Element, FileError, Format, JobFile, Result, Stage};
use crate::wire::job::JobError;
use serde::de::IgnoredAny;
use std::io::{self, BufRead};

impl<R: BufRead> JobFile<R> {
    pub(super) fn within_limit(&self, json: String, place: Place) -> Result<(String, Place)> {
        if json.len() > self.job_bytes_max { Err(self.too_long(place)) } else { Ok((json, place)) }
    }

    pub(super) fn utf8(&self, place: Place, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = place.after(&error.as_bytes()[..good]).line;
            FileError::at(&self.file, line, "there are bytes that are not UTF-8").of_element(self.index)
        })
    }

    pub(super) fn endless(&self, place: Place, bytes: &[u8], extent: Extent) -> FileError {
        match serde_json::from_slice::<IgnoredAny>(bytes) {
            Err(error) if !error.is_eof() => {
                return self
                    .first_line_hint(FileError::syntax(&self.file, place, &error).of_element(self.index));
            }
            Ok(IgnoredAny) | Err(_) => {}
        }
        match extent {
            Extent::TooLong => self.too_long(place),
            Extent::Whole | Extent::Open => FileError::at(
                &self.file,
                place.line,
                "the file ends inside this job: a bracket or quote is not closed",
            )
            .of_element(self.index),
        }
    }

    /// The error of an element that is no JSON.
    pub(super) fn broken(&self, place: Place, element: &Element, error: &serde_json::Error) -> FileError {
        let wrapping = match self.format {
            Format::Json | Format::Lines => "",
            Format::Raw => "{\"data\":",
        };
        let value = element.json.strip_prefix(wrapping).unwrap_or(&element.json);
        if self.stage == Stage::Values && !value.starts_with(['{', '[', '"']) {
            return self.no_json(place);
        }
        // Read without its wrapping, the value has its columns from where it begins in the file.
        let unwrapped = serde_json::from_str::<IgnoredAny>(value).err();
        let error = FileError::syntax(&self.file, place, unwrapped.as_ref().unwrap_or(error))
            .of_element(element.index);
        if element.index == 0 { self.first_line_hint(error) } else { error }
    }

    /// Shell commands may begin with a bracket or a quote, too.
    pub(super) fn first_line_hint(&self, error: FileError) -> FileError {
        if error.line == 1 && self.format == Format::Json {
            error.hint("One shell command per line? Add --lines.")
        } else {
            error
        }
    }

    /// The error of something that cannot begin a job.
    pub(super) fn no_json(&self, place: Place) -> FileError {
        match self.stage {
            Stage::Lines | Stage::Values | Stage::End => {}
            Stage::Array { .. } => return self.wrong("there should be a job here"),
        }
        let error = FileError::line_is(&self.file, place.line, "is not JSON");
        match self.format {
            Format::Json | Format::Lines => error.hint("One shell command per line? Add --lines."),
            Format::Raw => error.hint("With --raw each job's data is a JSON value; texts stand in quotes."),
        }
    }

    pub(super) fn too_long(&self, place: Place) -> FileError {
        let message = format!("the job is too long: job_bytes_max is {}", self.job_bytes_max);
        let limit = Some(("job_bytes_max", self.job_bytes_max as u64));
        let error = JobError { limit, ..JobError::new(message) };
        FileError::at_field(&self.file, place.line, error).of_element(self.index)
    }

    pub(super) fn empty(&self) -> FileError {
        FileError::whole(&self.file, "is empty: nothing to submit")
    }

    pub(super) fn unreadable(&self, error: &io::Error) -> FileError {
        FileError::read(&self.file, error)
    }

    /// Something wrong where the next byte stands.
    pub(super) fn wrong(&self, message: &str) -> FileError {
        FileError::at(&self.file, self.source.place().line, message)
    }
}
