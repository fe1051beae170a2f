//! How jobs enter: chunk by chunk, unseen until the last.

use super::codec::{STAGED, after_text, get_id, num, policy_text, sql};
use super::finish::Standings;
use super::hidden::Hidden;
use super::known;
use super::visible::Runs;
use super::work::{Place, Work};
use crate::model::{After, BatchHead, BatchId, Chunk, ChunkFate, Job, JobId, Wall, Work as Command};
use crate::store::label::Labels;
use std::sync::Arc;

/// A submit that is not complete.
pub(super) struct Open {
    pub(super) id: i64,
    pub(super) batch: i64,
    base: i64,
}

/// What a chunk adds.
pub(super) struct Added {
    /// Ids in file order, with whether they were known.
    spans: Vec<(JobId, JobId, bool)>,
    pub(super) runs: Runs,
    known: u64,
    next_index: u64,
}

/// Why a chunk's jobs were not taken.
enum Stop {
    Unknown(usize, After),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Work<'_> {
    pub(super) fn chunk(&mut self, chunk: &Chunk) -> rusqlite::Result<ChunkFate> {
        let find = "SELECT id, batch, base, state, ticket FROM submit WHERE key = ?1";
        let known = self.one(find, [&*chunk.key], |row| {
            let open = Open { id: row.get(0)?, batch: row.get(1)?, base: row.get(2)? };
            Ok((open, row.get::<_, i64>(3)?, row.get::<_, i64>(4)?))
        })?;
        let open = match (known, &chunk.head) {
            (Some((open, 1, _)), _) => {
                let digest = known::digest(self.db, open.id)?;
                let submitted = known::submitted(self.db, open.id)?;
                return Ok(ChunkFate::Repeated { digest, submitted });
            }
            (Some((open, 0, _)), None) => Some(open),
            (Some((_, _, ticket)), Some(_)) => {
                self.discard_ticket(BatchId(num(ticket)))?;
                None
            }
            (None, Some(_)) => None,
            (_, None) => return Ok(ChunkFate::Missing),
        };
        let can_be_refused = chunk.jobs.iter().any(|job| !job.after.is_empty());
        if can_be_refused {
            self.fold()?;
            self.db.execute_batch("SAVEPOINT chunk")?;
        }
        let refused = open.as_ref().map(|open| open.id);
        match self.take(chunk, open) {
            Ok((open, added)) => {
                if can_be_refused {
                    self.db.execute_batch("RELEASE chunk")?;
                }
                self.taken(chunk, &open, &added)
            }
            Err(Stop::Unknown(position, after)) => {
                self.db.execute_batch("ROLLBACK TO chunk; RELEASE chunk")?;
                // Numbers that were given to pools and contexts since are no longer true.
                self.facts.names = super::names::Names::default();
                self.contexts_of_chunk.clear();
                self.facts.labels.clear();
                self.facts.hidden = None;
                if let Some(id) = refused {
                    self.run("UPDATE submit SET state = 2 WHERE id = ?1", [id])?;
                }
                Ok(ChunkFate::Unknown { position, after })
            }
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Writes a chunk's jobs.
    fn take(&mut self, chunk: &Chunk, open: Option<Open>) -> Result<(Open, Added), Stop> {
        let open = match (open, &chunk.head) {
            (Some(open), _) => open,
            (None, Some(head)) => self.begin(chunk, head)?,
            (None, None) => unreachable!("a chunk without a head was answered before"),
        };
        if chunk.jobs.iter().any(|job| job.after.iter().any(|after| matches!(after, After::Label(_)))) {
            self.build_labels(open.id)?;
        }
        let first = chunk.jobs.first().map_or(0, |job| job.id.0);
        let sight = Sight { hidden: self.hidden()?, submit: open.id, first };
        let mut added = Added { spans: Vec::new(), runs: Runs::default(), known: 0, next_index: 0 };
        for (position, job) in chunk.jobs.iter().enumerate() {
            if let Some(known) = self.known(job, &sight)? {
                added.known += 1;
                added.push(known, true);
                continue;
            }
            let place = Place {
                batch: open.batch,
                pool: self.facts.names.pool_number(self.db, &job.pool)?,
                priority: job.priority,
            };
            if let Err(after) = self.link(job, &sight)? {
                return Err(Stop::Unknown(position, after));
            }
            let index = num(open.base) + job.index;
            added.next_index = added.next_index.max(index + 1);
            self.insert(job, &place, index)?;
            added.push(job.id, false);
            if let Some(labels) = self.facts.labels.get_mut(&open.id) {
                labels.add(job.id, job.name.as_deref(), job.key.as_deref());
            }
            if job.after.is_empty() && due(job).is_none() {
                added.runs.add(place.pool, place.priority, job.id, position);
            } else {
                let pause = due(job).map_or(0, |due| sql(due.0.saturating_sub(job.submitted.0)));
                let standings = Standings { due: due(job), pause, ..Standings::default() };
                self.put_aside(job.id, &place, STAGED, &standings)?;
            }
        }
        Ok((open, added))
    }

    /// A submit that begins with this chunk, in its own batch or in the one that it joins.
    fn begin(&mut self, chunk: &Chunk, head: &BatchHead) -> rusqlite::Result<Open> {
        self.see(head.submitted);
        let mut joined = None;
        if let Some(name) = head.name.as_deref().filter(|_| head.join) {
            self.fold()?;
            let find = "SELECT id, next_index FROM batch WHERE name = ?1 AND visible = 1 AND EXISTS
                (SELECT 1 FROM counter WHERE counter.batch = batch.id AND state < 4 AND jobs > 0)
                ORDER BY id DESC LIMIT 1";
            joined = self.one(find, [name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        }
        let ticket = sql(chunk.batch.0);
        let (batch, base) = if let Some(joined) = joined {
            joined
        } else {
            self.run(
                "INSERT INTO batch (id, name, key, submitted, born) VALUES (?1, ?2, ?3, ?4, ?5)",
                (ticket, head.name.as_deref(), &*chunk.key, sql(head.submitted.0), self.facts.meta.finishes),
            )?;
            (ticket, 0)
        };
        self.run(
            "INSERT INTO submit (key, ticket, batch, state, base) VALUES (?1, ?2, ?3, 0, ?4)",
            (&*chunk.key, ticket, batch, base),
        )?;
        Ok(Open { id: self.db.last_insert_rowid(), batch, base })
    }

    /// The kept job that has this job's key.
    fn known(&mut self, job: &Job, sight: &Sight) -> rusqlite::Result<Option<JobId>> {
        let Some(key) = job.key.as_deref() else { return Ok(None) };
        let find = "SELECT id, name FROM job WHERE key = ?1 ORDER BY id";
        let alike = self.all(find, [key], |row| Ok((get_id(row, 0)?, row.get::<_, Option<Box<str>>>(1)?)))?;
        let visible = alike.iter().find(|(id, _)| sight.is_visible(*id));
        let Some((id, name)) = visible.or_else(|| alike.iter().find(|(id, _)| sight.is_own(*id))) else {
            return Ok(None);
        };
        if let Some(labels) = self.facts.labels.get_mut(&sight.submit) {
            labels.add(*id, name.as_deref(), Some(key));
        }
        Ok(Some(*id))
    }

    /// Draws the edges to a job, or says what it waits for that is not kept.
    fn link(&mut self, job: &Job, sight: &Sight) -> rusqlite::Result<Result<(), After>> {
        for after in &job.after {
            let predecessors = match after {
                After::Id(id) if self.is_kept(*id, sight)? => vec![*id],
                After::Id(_) => Vec::new(),
                After::Label(label) => match self.facts.labels.get(&sight.submit) {
                    Some(labels) => labels.find(label, |id| self.is_kept(id, sight))?,
                    None => Vec::new(),
                },
            };
            if predecessors.is_empty() {
                return Ok(Err(after.clone()));
            }
            for before in predecessors {
                let drawn = self.run(
                    "INSERT OR IGNORE INTO edge SELECT ?1, ?2 WHERE NOT EXISTS
                     (SELECT 1 FROM outcome WHERE id = ?1 AND state = 4)",
                    (sql(before.0), sql(job.id.0)),
                )?;
                self.facts.has_edges |= drawn > 0;
            }
        }
        Ok(Ok(()))
    }

    fn is_kept(&self, id: JobId, sight: &Sight) -> rusqlite::Result<bool> {
        let exists = self.one("SELECT 1 FROM job WHERE id = ?1", [sql(id.0)], |_| Ok(()))?.is_some();
        Ok(exists && (sight.is_visible(id) || sight.is_own(id)))
    }

    fn insert(&mut self, job: &Job, place: &Place, index: u64) -> rusqlite::Result<()> {
        let context = match &job.context {
            Some(context) => {
                let number = self.facts.names.context_number(self.db, context)?;
                *self.contexts_of_chunk.entry(number).or_default() += 1;
                Some(number)
            }
            None => None,
        };
        let (kind, work) = match &job.work {
            Command::Run(json) => (0, json),
            Command::Data(json) => (1, json),
        };
        self.run(
            "INSERT INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            (
                sql(job.id.0),
                place.batch,
                sql(index),
                place.pool,
                job.priority,
                job.name.as_deref(),
                job.key.as_deref(),
                kind,
                &**work,
                job.policy.as_deref().map(policy_text),
                context,
                after_text(&job.after),
                sql(job.submitted.0),
            ),
        )?;
        Ok(())
    }

    fn build_labels(&mut self, submit: i64) -> rusqlite::Result<()> {
        if self.facts.labels.contains_key(&submit) {
            return Ok(());
        }
        let mut labels = Labels::default();
        let find =
            "SELECT job.id, job.name, job.key FROM span JOIN job ON job.id BETWEEN first_id AND last_id
            WHERE span.submit = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            Ok((get_id(row, 0)?, row.get::<_, Option<Box<str>>>(1)?, row.get::<_, Option<Box<str>>>(2)?))
        };
        for (id, name, key) in self.all(find, [submit], read)? {
            labels.add(id, name.as_deref(), key.as_deref());
        }
        self.facts.labels.insert(submit, labels);
        Ok(())
    }

    /// Books a chunk whose jobs are written.
    fn taken(&mut self, chunk: &Chunk, open: &Open, added: &Added) -> rusqlite::Result<ChunkFate> {
        for (context, jobs) in std::mem::take(&mut self.contexts_of_chunk) {
            *self.contexts.entry(context).or_default() += jobs;
        }
        self.write_spans(open, &added.spans)?;
        self.facts.hidden = None;
        self.run(
            "UPDATE submit SET jobs = jobs + ?2, known = known + ?3 WHERE id = ?1",
            (open.id, sql(chunk.jobs.len() as u64), sql(added.known)),
        )?;
        self.run(
            "UPDATE batch SET next_index = max(next_index, ?2) WHERE id = ?1",
            (open.batch, sql(added.next_index)),
        )?;
        let meta = &mut self.facts.meta;
        meta.next_batch = meta.next_batch.max(sql(chunk.batch.0 + 1));
        if let Some(job) = chunk.jobs.last() {
            meta.next_job = meta.next_job.max(sql(job.id.0 + 1));
        }
        if let Some(digest) = chunk.last {
            let is_whole = chunk.head.is_some();
            self.complete(open, digest, &added.runs, is_whole)?;
            return Ok(ChunkFate::Visible(known::submitted(self.db, open.id)?));
        }
        self.stage(open, &added.runs)?;
        Ok(ChunkFate::Staged)
    }

    fn write_spans(&self, open: &Open, spans: &[(JobId, JobId, bool)]) -> rusqlite::Result<()> {
        let find = "SELECT seq, last_id, known FROM span WHERE submit = ?1 ORDER BY seq DESC LIMIT 1";
        let tail = self.one(find, [open.id], |row| Ok((row.get(0)?, get_id(row, 1)?, row.get(2)?)))?;
        let mut seq: i64 = tail.map_or(0, |(seq, _, _): (i64, JobId, bool)| seq + 1);
        for (at, (first, last, known)) in spans.iter().enumerate() {
            let follows = tail.filter(|(_, end, kind)| at == 0 && end.0 + 1 == first.0 && kind == known);
            if let Some((tail, _, _)) = follows {
                let extend = "UPDATE span SET last_id = ?3 WHERE submit = ?1 AND seq = ?2";
                self.run(extend, (open.id, tail, sql(last.0)))?;
            } else {
                self.run(
                    "INSERT INTO span VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    (open.id, seq, open.batch, sql(first.0), sql(last.0), known),
                )?;
                seq += 1;
            }
        }
        Ok(())
    }
}

/// Which ids a chunk can see.
struct Sight {
    hidden: Arc<Hidden>,
    submit: i64,
    /// Ids from here on are its own.
    first: u64,
}

impl Sight {
    fn is_visible(&self, id: JobId) -> bool {
        id.0 < self.first && self.hidden.end_of(id.0).is_none()
    }

    fn is_own(&self, id: JobId) -> bool {
        id.0 >= self.first || self.hidden.submit_of(id.0) == Some(self.submit)
    }
}

impl Added {
    fn push(&mut self, id: JobId, known: bool) {
        match self.spans.last_mut() {
            Some((_, last, kind)) if last.0 + 1 == id.0 && *kind == known => *last = id,
            Some(_) | None => self.spans.push((id, id, known)),
        }
    }
}

/// When a job may start, if not at once.
fn due(job: &Job) -> Option<Wall> {
    let delay = job.policy.as_ref()?.delay.filter(|delay| !delay.is_zero())?;
    Some(job.submitted + delay)
}
