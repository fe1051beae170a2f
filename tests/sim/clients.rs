//! Invented clients: they submit, repeat themselves when they hear nothing, and cancel.

use pushpull::engine::Client;
use pushpull::wire::request::Submission;

/// A submit until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Submit {
    pub key: String,
    /// Chunks of jobs, as JSON.
    pub chunks: Vec<Vec<String>>,
    /// The number in the data of each job, in order.
    pub tags: Vec<u64>,
    /// The chunk that is under way.
    pub at: usize,
    /// Whom the engine will answer.
    pub client: Option<Client>,
}

impl Submit {
    /// The request for the chunk that is under way.
    pub fn request(&self) -> Submission {
        Submission {
            key: Some(self.key.as_str().into()),
            chunk: self.at as u64,
            last: self.at + 1 == self.chunks.len(),
            jobs: self.chunks[self.at].iter().map(|json| json.as_str().into()).collect(),
            ..Submission::default()
        }
    }
}
