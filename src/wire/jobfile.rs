//! A job file, read as a stream: its size costs no memory.
//!
//! What it is shows in its content, not in its name: a JSON array of jobs, jobs one after another (JSON Lines,
//! though a job may go across lines), or an object with `name`, `defaults` and `jobs`. With [`Format::Lines`] each
//! line is a shell command; with [`Format::Raw`] each value is one job's data.
//!
//! ```text
//! Source (bytes, places, a way back) -> shape (which of them?) -> extent (where does the job end?) -> job::parse
//! ```
//!
//! Every error carries the line, and the index of the job if it is about one.

mod blame;
mod error;
mod extent;
#[cfg(test)]
mod generated;
mod header;
mod shape;
mod source;
#[cfg(test)]
mod tests;

pub use error::FileError;

use super::job::{self, Defaults, Draft, JobError};
use super::object::string;
use extent::{Extent, read_value};
use serde::de::IgnoredAny;
use shape::Shape;
use source::{Place, Source};
use std::io::{self, BufRead};

/// The longest job unless a daemon says otherwise, in bytes of JSON.
pub const JOB_BYTES_MAX: usize = 1024 * 1024;

/// How far is looked ahead for `name` and `defaults` behind `jobs`, in bytes.
pub const LOOKAHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How the jobs stand in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON, in whatever shape.
    #[default]
    Json,
    /// A shell command in each line; blank lines do not count.
    Lines,
    /// JSON values that are data for workers: the elements of one array, or one after another.
    Raw,
}

/// What a file says about all its jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub name: Option<String>,
    /// A JSON object that [`Defaults::parse`] has accepted.
    pub defaults: Option<String>,
}

/// One job of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// As [`job::parse`] takes it.
    pub json: String,
    /// Its place among the jobs, from 0.
    pub index: u64,
    /// The line in which it begins, from 1.
    pub line: u64,
}

/// A job file being read.
pub struct JobFile<R> {
    source: Source<R>,
    file: Box<str>,
    format: Format,
    header: Header,
    job_bytes_max: usize,
    stage: Stage,
    /// The index of the next job.
    index: u64,
    /// Fields of the file's object that were passed: they may not come again.
    passed: Vec<&'static str>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Lines,
    Values,
    /// An element of an array, the first or another one.
    Array {
        is_first: bool,
        in_object: bool,
    },
    /// Nothing, or nothing after an error.
    End,
}

type Result<T> = std::result::Result<T, FileError>;

impl<R: BufRead> JobFile<R> {
    /// Begins to read a file; `file` is what people call it.
    ///
    /// # Errors
    /// It cannot be read, is empty, or has something wrong before its first job.
    pub fn open(reader: R, file: &str, format: Format) -> Result<JobFile<R>> {
        let mut opened = JobFile {
            source: Source::new(reader),
            file: file.into(),
            format,
            header: Header::default(),
            job_bytes_max: JOB_BYTES_MAX,
            stage: Stage::End,
            index: 0,
            passed: Vec::new(),
        };
        let shape = shape::find(&mut opened.source, format).map_err(|error| opened.unreadable(&error))?;
        opened.stage = match shape {
            Shape::Empty => return Err(opened.empty()),
            Shape::Lines => Stage::Lines,
            Shape::Values => Stage::Values,
            Shape::Array => {
                opened.advance()?;
                Stage::Array { is_first: true, in_object: false }
            }
            Shape::Object(ahead) => {
                opened.header = opened.check_header(ahead)?;
                opened.advance()?;
                opened.pass_fields_before()?;
                Stage::Array { is_first: true, in_object: true }
            }
        };
        Ok(opened)
    }

    /// With another limit for one job, as a daemon has set it.
    #[must_use]
    pub fn with_job_bytes_max(mut self, bytes: usize) -> JobFile<R> {
        self.job_bytes_max = bytes;
        self
    }

    /// What the file says about all its jobs.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next job's text, which is valid JSON; `None` at the end, and after an error.
    ///
    /// # Errors
    /// It cannot be read, is no JSON or too long.
    pub fn next_element(&mut self) -> Result<Option<Element>> {
        let Some((element, place)) = self.next_text()? else {
            return Ok(None);
        };
        match serde_json::from_str::<IgnoredAny>(&element.json) {
            Ok(IgnoredAny) => Ok(Some(element)),
            Err(error) => self.fail(self.broken(place, &element, &error)),
        }
    }

    /// The next job, read; `None` at the end, and after an error. Faster than [`next_element`](Self::next_element)
    /// followed by [`job::parse`], for the text is looked at only once.
    ///
    /// # Errors
    /// As for [`next_element`](Self::next_element), and if it is not a job.
    pub fn next_job(&mut self, defaults: &Defaults) -> Result<Option<(Element, Draft)>> {
        let Some((element, place)) = self.next_text()? else {
            return Ok(None);
        };
        match job::parse(&element.json, defaults) {
            Ok(draft) => Ok(Some((element, draft))),
            Err(error) => match serde_json::from_str::<IgnoredAny>(&element.json) {
                Ok(IgnoredAny) => self.fail(self.refuse(&element, error)),
                Err(error) => self.fail(self.broken(place, &element, &error)),
            },
        }
    }

    /// What the file itself says for jobs that do not say.
    ///
    /// # Errors
    /// When something is wrong with one of its fields.
    pub fn defaults(&self) -> Result<Defaults> {
        match &self.header().defaults {
            None => Ok(Defaults::default()),
            Some(text) => Defaults::parse(text).map_err(|error| FileError::at_field(&self.file, 0, error)),
        }
    }

    /// The error of a job, with its place in this file.
    #[must_use]
    pub fn refuse(&self, element: &Element, error: JobError) -> FileError {
        FileError::of_job(&self.file, element, error)
    }

    /// The next job's text, whether or not it is valid, and where it begins.
    fn next_text(&mut self) -> Result<Option<(Element, Place)>> {
        let found = match self.stage {
            Stage::End => Ok(None),
            Stage::Lines => self.next_line(),
            Stage::Values => self.next_value(),
            Stage::Array { is_first, in_object } => self.next_of_array(is_first, in_object),
        };
        match found {
            Ok(Some((json, place))) => {
                let element = Element { json, index: self.index, line: place.line };
                self.index += 1;
                Ok(Some((element, place)))
            }
            Ok(None) => {
                self.stage = Stage::End;
                Ok(None)
            }
            Err(error) => self.fail(error),
        }
    }

    fn next_line(&mut self) -> Result<Option<(String, Place)>> {
        loop {
            let place = self.source.place();
            let mut line = Vec::new();
            let is_last = !self.read_line(&mut line).map_err(|error| self.unreadable(&error))?;
            if line.len() > self.job_bytes_max {
                return Err(self.too_long(place));
            }
            let line = self.utf8(place, line)?;
            let command = line.strip_suffix('\r').unwrap_or(&line);
            if !command.trim_ascii().is_empty() {
                return self.within_limit(string(command), place).map(Some);
            }
            if is_last {
                return if self.index == 0 { Err(self.empty()) } else { Ok(None) };
            }
        }
    }

    /// Reads up to a line break, or a little more than fits; false if the file ended instead.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let chunk = self.source.chunk()?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
            let used = end.map_or(chunk.len(), |end| end + 1);
            if used == 0 {
                return Ok(false);
            }
            self.source.advance(used)?;
            if end.is_some() || line.len() > self.job_bytes_max {
                return Ok(true);
            }
        }
    }

    fn next_value(&mut self) -> Result<Option<(String, Place)>> {
        match self.peek()? {
            None => Ok(None),
            Some(b',') if self.index > 0 => {
                Err(self.wrong("there is a comma between two jobs").hint("Remove it, or put all jobs in [ ]"))
            }
            Some(_) => self.element().map(Some),
        }
    }

    fn next_of_array(&mut self, is_first: bool, in_object: bool) -> Result<Option<(String, Place)>> {
        match self.peek()? {
            None => return Err(self.wrong("the file ends inside the array of jobs: its ] is missing")),
            Some(b']') => {
                self.advance()?;
                if in_object {
                    self.pass_fields_behind()?;
                }
                return self.expect_end().map(|()| None);
            }
            Some(b',') if is_first => {
                return Err(self.wrong("there is a comma before the first job: remove it"));
            }
            Some(b',') => self.advance()?,
            Some(_) if is_first => {}
            Some(_) => return Err(self.wrong("there should be a comma or ] behind the job before this")),
        }
        match self.peek()? {
            None => return Err(self.wrong("the file ends behind a comma inside the array of jobs")),
            Some(b']' | b',') => return Err(self.wrong("there is a comma that no job follows: remove it")),
            Some(_) => {}
        }
        self.stage = Stage::Array { is_first: false, in_object };
        self.element().map(Some)
    }

    /// The next value, as a job's text.
    fn element(&mut self) -> Result<(String, Place)> {
        let place = self.source.place();
        let mut bytes = Vec::new();
        let extent = read_value(&mut self.source, &mut bytes, self.job_bytes_max)
            .map_err(|error| self.unreadable(&error))?;
        match extent {
            Extent::Whole => {}
            // A quote or bracket that is not closed swallows what follows; the true error may be within.
            Extent::TooLong | Extent::Open => return Err(self.endless(place, &bytes, extent)),
        }
        let text = self.utf8(place, bytes)?;
        if text.is_empty() {
            return Err(self.no_json(place));
        }
        let json = match self.format {
            Format::Json | Format::Lines => text,
            Format::Raw => format!("{{\"data\":{text}}}"),
        };
        self.within_limit(json, place)
    }

    fn expect_end(&mut self) -> Result<()> {
        if self.peek()?.is_none() {
            return Ok(());
        }
        let error = self.wrong("something follows behind the end of the jobs");
        Err(error.hint("A file is one array, one object with \"jobs\", or jobs one after another"))
    }

    fn fail<T>(&mut self, error: FileError) -> Result<T> {
        self.stage = Stage::End;
        Err(error)
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Result<Option<u8>> {
        let next = self.source.skip_blank().and_then(|()| self.source.peek());
        next.map_err(|error| self.unreadable(&error))
    }

    /// Goes on behind the byte that was peeked at.
    fn advance(&mut self) -> Result<()> {
        self.source.advance(1).map_err(|error| self.unreadable(&error))
    }
}
