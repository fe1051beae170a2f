//! The worker protocol: what daemon and workers say to each other, one frame of JSON each.
//!
//! | module | direction |
//! |---|---|
//! | [`report`] | worker to daemon: ready, result, error, progress, heartbeat |
//! | [`order`] | daemon to worker: a job, and for the built-in worker the job's command and cancels |
//! | [`outcome`] | inside a report of the built-in worker: how a command ended |
//!
//! Data of jobs and results is never taken apart: it is found, checked for its nesting and carried as the bytes
//! that came.

pub mod order;
pub mod outcome;
pub mod report;

pub use order::{Command, Delivery, JobOrder, Order, Run, encode_cancel, encode_job, parse_order};
pub use outcome::CommandOutcome;
pub use report::{Report, encode_report, parse_report};

/// How deep JSON from a worker may be nested. Most parsers of others give up a little above.
pub const DEPTH_MAX: usize = 100;

/// A pool's `message` setting: whether jobs and answers are wrapped in messages of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `{"type":"job","id":17,"attempt":1,"data":ANY}`, and answers may carry that `id`.
    #[default]
    Envelope,
    /// The job's data is the message; an `id` in an answer is the user's own field.
    Bare,
}

/// Whether `json`, one valid value, is nested no deeper than [`DEPTH_MAX`].
fn is_shallow(json: &str) -> bool {
    let opens = json.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    opens <= DEPTH_MAX || nesting(json) <= DEPTH_MAX
}

/// How deep `json`, one valid value, is nested.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Moves on to behind the quote that closes a string.
fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Appends `value` as JSON.
fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value)
        .expect("texts and numbers always have a JSON form, and memory takes all bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_counts_brackets_outside_strings() {
        assert_eq!(nesting("1"), 0);
        assert_eq!(nesting(r#"{"a":[1,{"b":[]}]}"#), 4);
        assert_eq!(nesting(r#"["[[[[\"[[[\\",[]]"#), 2);
    }

    #[test]
    fn only_real_depth_is_refused() {
        let wide = format!("[{}[]]", "[],".repeat(5000));
        assert!(is_shallow(&wide));
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_shallow(&deep(DEPTH_MAX)));
        assert!(!is_shallow(&deep(DEPTH_MAX + 1)));
    }
}
