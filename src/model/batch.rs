//! Submits: how jobs enter.

use super::{After, BatchId, Context, Counts, Job, JobId, Wall};
use std::sync::Arc;

/// A chunk of a submit. The jobs become visible, all at once, with the chunk that says `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub batch: BatchId,
    /// Names the submit in every later chunk and in a repetition.
    pub key: Box<str>,
    /// In chunk 0 only: what makes the batch.
    pub head: Option<BatchHead>,
    /// In file order, with ascending ids.
    pub jobs: Vec<Arc<Job>>,
    /// In the last chunk: the digest of the whole submit, by which a repetition is recognised.
    pub last: Option<u128>,
}

/// What is known of a batch before its first job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHead {
    pub name: Option<Box<str>>,
    /// Join the newest unfinished batch of this name, if there is one. Its number then replaces the chunk's.
    pub join: bool,
    pub submitted: Wall,
    /// Shared by the batch's jobs.
    pub context: Option<Arc<Context>>,
}

/// What became of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkFate {
    /// Written but not yet visible.
    Staged,
    /// The submit is complete and its jobs are visible.
    Visible(Submitted),
    /// A complete submit with this key exists: nothing was written.
    Repeated { digest: u128, submitted: Submitted },
    /// Nothing was written: the job at `position` in the chunk waits for `after`, which names no kept job.
    Unknown { position: usize, after: After },
    /// Nothing was written: the chunks before this one are not kept, because one of them was refused or the
    /// submit was discarded.
    Missing,
}

/// A complete submit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitted {
    pub batch: BatchId,
    /// Jobs named in the submit, known ones included.
    pub jobs: u64,
    /// Jobs that were already kept under their key.
    pub known: u64,
    /// Inclusive ranges in file order, one id per element of the file.
    pub ids: Vec<(JobId, JobId)>,
}

/// A batch, as `batches` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    pub batch: BatchId,
    pub name: Option<Box<str>>,
    pub key: Box<str>,
    pub submitted: Wall,
    pub counts: Counts,
}

/// Appends `id` to inclusive ranges, joining it to the last one where it follows.
pub fn push_id(ranges: &mut Vec<(JobId, JobId)>, id: JobId) {
    match ranges.last_mut() {
        Some((_, last)) if last.0 + 1 == id.0 => *last = id,
        _ => ranges.push((id, id)),
    }
}
