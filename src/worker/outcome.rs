//! From the end of a command to the report of its job.

use super::capture::{OUTPUT_BYTES_MAX, fit_together};
use super::command::{Failure, reason};
use super::running::{Ended, Stop};
use crate::model::{Cause, Exit, JobId};
use crate::wire::pipeline::{CommandOutcome, Report};

/// The report on a command that has ended; none when the worker leaves, for then the job is to run elsewhere.
#[must_use]
pub fn report(id: JobId, ended: Ended) -> Option<Report> {
    let bad_end = match (ended.stop, ended.exit) {
        (Some(Stop::Leaving), _) => return None,
        (Some(Stop::Cancelled), _) => Some((Cause::Cancelled, "cancelled".to_owned())),
        (Some(Stop::Timeout(timeout)), _) => Some((Cause::Timeout, format!("timed out after {timeout:?}"))),
        (None, Exit::Status(0)) => None,
        (None, exit @ Exit::Status(_)) => Some((Cause::Exit, exit.to_string())),
        (None, exit @ Exit::Signal(_)) => Some((Cause::Signal, exit.to_string())),
    };
    let file_error = ended.stdout.file_error.or(ended.stderr.file_error);
    let incomplete = file_error.map(|error| format!("the output file is incomplete: {}", reason(&error)));
    let (stdout, stderr, truncated) =
        fit_together(ended.stdout.capture, ended.stderr.capture, OUTPUT_BYTES_MAX);
    let (exit, run, max_rss_kib) = (ended.exit, ended.run, ended.max_rss_kib);
    let data = CommandOutcome { exit, stdout, stderr, truncated, run, max_rss_kib }.to_json();
    let (cause, error, detail) = match (bad_end, incomplete) {
        (None, None) => return Some(Report::Result { id: Some(id), data }),
        // Whoever asked for whole streams has no success without them.
        (None, Some(incomplete)) => (Cause::Error, incomplete, None),
        (Some((cause, error)), incomplete) => (cause, error, incomplete),
    };
    let detail = detail.map(String::into_boxed_str);
    Some(Report::Error {
        id: Some(id),
        error: error.into(),
        detail,
        retry: true,
        cause: Some(cause),
        data: Some(data),
    })
}

/// The report of a job that was cancelled before it began.
pub fn cancelled_report(id: JobId) -> Report {
    Report::Error {
        id: Some(id),
        error: "cancelled".into(),
        detail: None,
        retry: false,
        cause: Some(Cause::Cancelled),
        data: None,
    }
}

/// The report on a command that was not started.
#[must_use]
pub fn start_report(id: JobId, failure: Failure) -> Report {
    Report::Error {
        id: Some(id),
        error: failure.error.into(),
        detail: None,
        retry: failure.retry,
        cause: Some(Cause::Start),
        data: None,
    }
}
