//! Cuts a submit into requests that the daemon takes.
//!
//! A chunk is handed out when the next job no longer fits, so that the one that turns out to be the last can say
//! so.

use crate::wire::control::{Limits, VERSION};
use crate::wire::object::Object;

/// What stands in front of a batch's jobs.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub name: Option<String>,
    /// A JSON object.
    pub defaults: Option<String>,
    /// A JSON object of strings.
    pub environment: Option<String>,
    /// An absolute path.
    pub directory: Option<String>,
    /// The name of a batch to join.
    pub into: Option<String>,
}

/// A submit being cut.
pub struct Chunks {
    key: String,
    /// The next request up to its jobs.
    head: String,
    /// Whether more stands there than every request needs.
    is_heavy: bool,
    jobs: String,
    count: u64,
    chunk: u64,
    bytes_max: usize,
    jobs_max: u64,
}

impl Chunks {
    pub fn new(key: &str, head: &Head, limits: &Limits) -> Chunks {
        let mut object = open(key, 0);
        let Head { name, defaults, environment, directory, into } = head;
        for (field, text) in [("name", name), ("into", into), ("directory", directory)] {
            if let Some(text) = text {
                object.text(field, text);
            }
        }
        for (field, json) in [("defaults", defaults), ("environment", environment)] {
            if let Some(json) = json {
                object.raw(field, json);
            }
        }
        let head = up_to_jobs(object);
        Chunks {
            key: key.to_owned(),
            is_heavy: head.len() > up_to_jobs(open(key, 0)).len(),
            head,
            jobs: String::new(),
            count: 0,
            chunk: 0,
            bytes_max: usize::try_from(limits.request_bytes_max).unwrap_or(usize::MAX),
            jobs_max: limits.chunk_jobs_max.max(1),
        }
    }

    /// Takes a job, JSON text; gives the request that was full without it.
    #[must_use]
    pub fn push(&mut self, job: &str) -> Option<Vec<u8>> {
        let with_it =
            self.head.len() + self.jobs.len() + 1 + job.len() + TAIL_LAST.len().max(TAIL_MORE.len());
        let is_full = self.count == self.jobs_max || with_it > self.bytes_max;
        // A job that does not even fit alone is the daemon's to refuse; what came before it goes first.
        let full = (is_full && (self.count > 0 || self.is_heavy)).then(|| self.cut(TAIL_MORE));
        if self.count > 0 {
            self.jobs.push(',');
        }
        self.jobs.push_str(job);
        self.count += 1;
        full
    }

    /// The last request; nothing comes after it.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.cut(TAIL_LAST)
    }

    fn cut(&mut self, tail: &str) -> Vec<u8> {
        let frame = [&self.head, self.jobs.as_str(), tail].concat().into_bytes();
        self.chunk += 1;
        self.head = up_to_jobs(open(&self.key, self.chunk));
        self.is_heavy = false;
        self.jobs.clear();
        self.count = 0;
        frame
    }
}

/// The request that takes a submit back.
#[must_use]
pub fn abort(key: &str) -> Vec<u8> {
    let mut object = request(key);
    object.raw("abort", "true");
    object.finish().into_bytes()
}

const TAIL_MORE: &str = r#"],"last":false}"#;
const TAIL_LAST: &str = r#"],"last":true}"#;

fn request(key: &str) -> Object {
    let mut object = Object::with_capacity(128);
    object.number("v", VERSION);
    object.text("op", "submit");
    object.text("key", key);
    object
}

fn open(key: &str, chunk: u64) -> Object {
    let mut object = request(key);
    object.number("chunk", chunk);
    object
}

fn up_to_jobs(object: Object) -> String {
    let mut text = object.finish();
    text.pop();
    text.push_str(r#","jobs":["#);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::Submit;

    fn limits(request_bytes_max: u64, chunk_jobs_max: u64) -> Limits {
        Limits { request_bytes_max, chunk_jobs_max, batch_jobs_max: 1_000, job_bytes_max: 1_000 }
    }

    fn cut(head: &Head, limits: &Limits, jobs: &[&str]) -> Vec<Vec<u8>> {
        let mut chunks = Chunks::new("k", head, limits);
        let mut frames: Vec<Vec<u8>> = jobs.iter().filter_map(|job| chunks.push(job)).collect();
        frames.push(chunks.finish());
        frames
    }

    #[test]
    fn every_job_goes_out_once_in_order_and_only_the_last_chunk_says_so() {
        let head =
            Head { name: Some("n\"".into()), environment: Some("{\"A\":\"b\"}".into()), ..Head::default() };
        let frames = cut(&head, &limits(10_000, 2), &["1", "\"a\"", "{}", "[2]", "3"]);
        let submits: Vec<Submit> =
            frames.iter().map(|frame| serde_json::from_slice(frame).expect("a submit")).collect();
        let jobs: Vec<Vec<&str>> =
            submits.iter().map(|submit| submit.jobs.iter().map(|raw| raw.get()).collect()).collect();
        assert_eq!(jobs, [vec!["1", "\"a\""], vec!["{}", "[2]"], vec!["3"]]);
        for (at, submit) in submits.iter().enumerate() {
            assert_eq!(submit.chunk, Some(at as u64));
            assert_eq!(submit.last, Some(at == 2));
            assert_eq!((submit.v, submit.key.as_deref()), (VERSION, Some("k")));
            assert_eq!(submit.name.is_some(), at == 0);
            assert_eq!(submit.environment.is_some(), at == 0);
        }
    }

    #[test]
    fn no_request_is_longer_than_the_daemon_takes() {
        let job = "\"0123456789\"";
        for bytes_max in 90..400 {
            let frames = cut(&Head::default(), &limits(bytes_max, 1_000), &[job; 20]);
            assert!(frames.iter().all(|frame| frame.len() as u64 <= bytes_max), "{bytes_max}");
            let count: usize = frames
                .iter()
                .map(|frame| serde_json::from_slice::<Submit>(frame).expect("a submit").jobs.len())
                .sum();
            assert_eq!(count, 20);
        }
    }

    #[test]
    fn a_large_environment_goes_alone_rather_than_too_long() {
        let head =
            Head { environment: Some(format!("{{\"A\":\"{}\"}}", "x".repeat(200))), ..Head::default() };
        let frames = cut(&head, &limits(300, 10), &[&format!("\"{}\"", "y".repeat(100))]);
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|frame| frame.len() <= 300));
    }

    #[test]
    fn no_jobs_are_one_empty_chunk() {
        let frames = cut(&Head::default(), &limits(1_000, 10), &[]);
        let submit: Submit = serde_json::from_slice(&frames[0]).expect("a submit");
        assert_eq!((frames.len(), submit.jobs.len(), submit.last), (1, 0, Some(true)));
    }

    #[test]
    fn an_abort_names_its_submit() {
        let frame = abort("k");
        let submit: Submit = serde_json::from_slice(&frame).expect("a submit");
        assert!(submit.abort);
        assert_eq!(submit.key.as_deref(), Some("k"));
    }
}
