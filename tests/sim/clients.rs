//! Invented clients: they submit, repeat themselves when they hear nothing, and some vanish in the middle.

use crate::plan::Plans;
use pushpull::model::JobId;
use pushpull::wire::request::Submission;
use std::collections::BTreeMap;

/// A submit until it is acknowledged, and after that.
#[derive(Clone, Debug)]
pub struct Submit {
    pub key: String,
    /// The numbers of its jobs, chunk by chunk.
    pub chunks: Vec<Vec<u64>>,
    /// What it says; set when it is first said, since a repetition must say the same.
    pub said: Vec<Vec<String>>,
    /// For each job that waits for others: the numbers of those.
    pub after: BTreeMap<u64, Vec<u64>>,
    /// The chunk that is under way.
    pub at: usize,
    /// Counts what the client said, so that an old alarm does not have it speak.
    pub turn: u64,
    /// The client sends this chunk no more, nor any behind it.
    pub vanishes: Option<usize>,
}

impl Submit {
    pub fn new(key: String) -> Submit {
        Submit {
            key,
            chunks: Vec::new(),
            said: Vec::new(),
            after: BTreeMap::new(),
            at: 0,
            turn: 0,
            vanishes: None,
        }
    }

    pub fn tags(&self) -> Vec<u64> {
        self.chunks.concat()
    }

    /// Decides what is said: jobs of its own file are named by their label, others by their id, if the client
    /// knows it.
    pub fn settle(&mut self, plans: &Plans, known: &BTreeMap<u64, JobId>) {
        let tags = self.tags();
        self.said.clear();
        self.after.clear();
        for chunk in self.chunks.clone() {
            let said = chunk.iter().map(|tag| self.spell(*tag, &tags, plans, known)).collect();
            self.said.push(said);
        }
    }

    fn spell(&mut self, tag: u64, tags: &[u64], plans: &Plans, known: &BTreeMap<u64, JobId>) -> String {
        let plan = &plans.0[&tag];
        let mut words = Vec::new();
        let mut meant = Vec::new();
        for before in &plan.after {
            let word = if tags.contains(before) {
                let label = plans.0[before].key.clone().unwrap_or_else(|| format!("n{before}"));
                format!("\"{label}\"")
            } else if let Some(id) = known.get(before) {
                id.to_string()
            } else {
                continue;
            };
            words.push(word);
            meant.push(*before);
        }
        if !meant.is_empty() {
            self.after.insert(tag, meant);
        }
        plan.json(tag, &words)
    }

    /// The request for the chunk that is under way.
    pub fn request(&self) -> Submission {
        Submission {
            key: Some(self.key.as_str().into()),
            chunk: self.at as u64,
            last: self.at + 1 == self.said.len(),
            jobs: self.said[self.at].iter().map(|json| json.as_str().into()).collect(),
            ..Submission::default()
        }
    }
}
