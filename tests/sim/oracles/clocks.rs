//! When delayed jobs are due, by the clock that nobody sets.

use super::Seen;
use pushpull::model::{
    Answer, Applied, BatchId, ChunkFate, JobId, Now, Query, Record, Select, State, Wall, Word,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The wall clock counts whole milliseconds, twice on the way.
const ROUNDING_NS: u64 = 2_000_000;

#[derive(Debug)]
pub struct Clocks {
    /// When the daemon that runs was started.
    booted: Now,
    /// The time before which a job must not be sent, in nanoseconds.
    due: BTreeMap<JobId, u64>,
    /// When each submit began.
    begun: BTreeMap<BatchId, u64>,
}

impl Clocks {
    pub fn new(now: Now) -> Clocks {
        Clocks { booted: now, due: BTreeMap::new(), begun: BTreeMap::new() }
    }

    /// The wall clock as it would stand if nobody had set it since the daemon started.
    pub fn steady(&self, now: Now) -> Wall {
        self.booted.wall + now.mono.since(self.booted.mono)
    }

    pub fn is_early(&self, id: JobId, now: Now) -> bool {
        self.due.get(&id).is_some_and(|due| now.mono.0 + ROUNDING_NS < *due)
    }

    /// A job is to wait for so long from now.
    pub fn put_off(&mut self, id: JobId, now: Now, pause: Duration) {
        self.due.insert(id, (now.mono + pause).0);
    }

    /// The first chunk of a submit is handed to the store: delays count from now.
    pub fn on_begun(&mut self, batch: BatchId, now: Now) {
        self.begun.insert(batch, now.mono.0);
    }

    /// A submit is complete: its first chunk came some time ago, and delays count from there.
    pub fn on_durable(&mut self, record: &Record, applied: &Applied, seen: &mut Seen) {
        // A job's delay is over with its round.
        if let Record::Finish(outcome) = record {
            self.due.remove(&outcome.id);
        }
        for id in &applied.cancelled {
            self.due.remove(id);
        }
        let Record::Chunk(chunk) = record else {
            return;
        };
        if let [ChunkFate::Visible(submitted)] = &applied.chunks[..] {
            let since = self.begun.get(&chunk.batch).copied();
            for id in submitted.ids.iter().flat_map(|(first, last)| (first.0..=last.0).map(JobId)) {
                let Some(row) = seen.disk.row(id) else { continue };
                let delay = row.job.policy().delay.filter(|_| row.job.batch == submitted.batch);
                if let (Some(delay), Some(since)) = (delay, since) {
                    let due = since + u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
                    self.due.insert(id, due);
                }
            }
        }
    }

    /// After a start the wall clock counts, and nobody waits longer than his delay.
    pub fn on_boot(&mut self, seen: &mut Seen) -> Result<(), String> {
        self.booted = seen.now;
        self.due.clear();
        self.begun.clear();
        let select = Select { words: vec![Word::All], states: vec![State::Delayed], pools: Vec::new() };
        let query = Query::Jobs { select, after: JobId(0), limit: 1_000, results: false };
        let Answer::Jobs { rows, .. } = seen.disk.look(&query) else {
            return Ok(());
        };
        for row in rows {
            let Some(due) = row.due else { continue };
            let left = due.since(seen.now.wall);
            if left > Duration::from_secs(3) {
                return Err(format!("job {} is delayed by {left:?} after a restart", row.job.id));
            }
            self.due.insert(row.job.id, (seen.now.mono + left).0);
        }
        Ok(())
    }
}
