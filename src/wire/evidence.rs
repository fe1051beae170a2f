//! What is kept of a bad end, for `show` and `explain`.

use crate::model::{Exit, Json};
use serde_json::json;

/// What was seen of a worker's death, as a JSON object.
#[must_use]
pub fn death(
    exit: Exit,
    max_rss_kib: u64,
    last_output: &[String],
    perhaps_out_of_memory: bool,
    survivor: Option<u32>,
) -> Json {
    let (status, signal) = match exit {
        Exit::Status(status) => (Some(status), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    let mut evidence = json!({
        "exit": status,
        "signal": signal,
        "max_rss_kib": max_rss_kib,
        "last_output": last_output,
    });
    if perhaps_out_of_memory {
        evidence["note"] = json!("perhaps out of memory");
    }
    if let Some(pid) = survivor {
        evidence["survivor_pid"] = json!(pid);
    }
    Json::from(evidence.to_string())
}

/// That something survived which should not have, as a JSON object.
#[must_use]
pub fn survivor(pid: u32) -> Json {
    Json::from(json!({ "survivor_pid": pid }).to_string())
}

/// A crash in one line for people.
#[must_use]
pub fn crash_error(exit: Exit, perhaps_out_of_memory: bool) -> String {
    let note = if perhaps_out_of_memory { "; perhaps out of memory" } else { "" };
    format!("the worker died on it: {exit}{note}")
}

/// What a worker said beyond its one line, as a traceback.
#[must_use]
pub fn detail(text: &str) -> Json {
    Json::from(json!({ "detail": text }).to_string())
}
