//! Accepted means durable; a submit is all or nothing, and repeated it is the same.

use super::Seen;
use super::desk::{Asked, Open};
use super::jobs::Jobs;
use super::pauses::Pauses;
use pushpull::model::{BatchId, JobId};
use pushpull::wire::control::{Code, Refusal, SubmitReply};
use pushpull::wire::reply::Reply;
use std::collections::BTreeMap;

/// What a client was told.
#[derive(Clone, Debug)]
struct Acknowledged {
    batch: BatchId,
    ids: Vec<JobId>,
}

#[derive(Debug, Default)]
pub struct Submits {
    acknowledged: BTreeMap<usize, Acknowledged>,
    /// Numbers of jobs and their ids, as far as clients know them.
    known: BTreeMap<u64, JobId>,
}

impl Acknowledged {
    /// Nothing is left of the batch, and with it of its key. Jobs that were known before are other batches'.
    fn is_gone(&self, jobs: &Jobs, seen: &mut Seen) -> bool {
        self.ids.iter().all(|id| {
            jobs.removed.contains(id) || seen.disk.row(*id).is_none_or(|row| row.job.batch != self.batch)
        })
    }
}

impl Submits {
    pub fn is_acknowledged(&self, number: usize) -> bool {
        self.acknowledged.contains_key(&number)
    }

    pub fn known(&self) -> BTreeMap<u64, JobId> {
        self.known.clone()
    }

    /// Every job that was promised to be kept.
    pub fn promised(&self) -> impl Iterator<Item = JobId> + '_ {
        self.acknowledged.values().flat_map(|acknowledged| acknowledged.ids.iter().copied())
    }

    pub fn on_reply(
        &mut self,
        open: &Open,
        reply: &Reply,
        jobs: &Jobs,
        pauses: &Pauses,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let number = match open.asked {
            Asked::Submit(number) | Asked::Repeat(number) | Asked::Conflict(number) => number,
            Asked::Forgotten(number) => return check_forgotten(number, reply),
            _ => return Ok(()),
        };
        let key = &seen.submits[number].key;
        match reply {
            // One that was accepted before gets its reply again, whatever speaks against new ones.
            Reply::Submitted(said)
                if open.refuses
                    && open.chunk == 0
                    && said.ids.iter().any(|(_, last)| JobId(*last) > open.newest) =>
            {
                Err(format!("{key} is accepted by a daemon that drains"))
            }
            Reply::Submitted(said) if matches!(open.asked, Asked::Conflict(_)) => {
                self.on_conflict(number, said, jobs, seen)
            }
            Reply::Submitted(said) => self.on_acknowledged(number, said, jobs, seen),
            Reply::Expect(chunk) if *chunk == open.chunk + 1 => Ok(()),
            Reply::Refused(refusal) => self.check_refusal(number, open, refusal, jobs, pauses, seen),
            other => Err(format!("{key} is answered with {other:?}")),
        }
    }

    fn on_acknowledged(
        &mut self,
        number: usize,
        said: &SubmitReply,
        jobs: &Jobs,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let submit = &seen.submits[number];
        let (key, tags) = (&submit.key, submit.tags());
        let ids: Vec<JobId> = said.ids.iter().flat_map(|(first, last)| (*first..=*last).map(JobId)).collect();
        if ids.len() != tags.len() || said.jobs != tags.len() as u64 || submit.vanishes.is_some() {
            return Err(format!("{key} is acknowledged with {said:?} for {} jobs", tags.len()));
        }
        for (id, tag) in ids.iter().zip(&tags) {
            let is_it = jobs.tags.get(id) == Some(tag) || seen.plans.0[tag].key.is_some();
            let is_kept = seen.disk.row(*id).is_some() || jobs.removed.contains(id);
            if !is_it || !is_kept {
                return Err(format!("{key} is acknowledged, but its job {tag} is not kept as {id}"));
            }
            self.known.insert(*tag, *id);
        }
        let batch = BatchId(said.batch);
        if let Some(before) = self.acknowledged.get(&number) {
            let is_gone = before.is_gone(jobs, seen);
            if (before.batch != batch || before.ids != ids) && !is_gone {
                return Err(format!("{key} is acknowledged again, as batch {batch} with other ids"));
            }
        }
        self.acknowledged.insert(number, Acknowledged { batch, ids });
        Ok(())
    }

    /// Another submit was taken under a key: only when nothing of the first is left.
    fn on_conflict(
        &mut self,
        number: usize,
        said: &SubmitReply,
        jobs: &Jobs,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let before = &self.acknowledged[&number];
        let is_gone = before.is_gone(jobs, seen);
        if BatchId(said.batch) == before.batch || !is_gone {
            return Err(format!("another submit is taken under the key of batch {}", before.batch));
        }
        Ok(())
    }

    fn check_refusal(
        &self,
        number: usize,
        open: &Open,
        refusal: &Refusal,
        jobs: &Jobs,
        pauses: &Pauses,
        seen: &Seen,
    ) -> Result<(), String> {
        let submit = &seen.submits[number];
        let needs_others = |tag: &u64| {
            let plan = &seen.plans.0[tag];
            seen.pool(&plan.pool).is_none_or(|pool| pool.is_builtin() != plan.runs)
        };
        // Nothing is left of the submit: another may be under way under its key.
        let before = self.acknowledged.get(&number);
        let is_free = before.is_some_and(|before| before.ids.iter().all(|id| jobs.removed.contains(id)));
        let is_possible = match refusal.code {
            Code::NoSpace | Code::Internal => seen.disk.was_broken,
            Code::Draining => open.refuses || pauses.stopping || pauses.has_drained,
            Code::ChunkExpected => true,
            Code::KeyConflict => {
                matches!(open.asked, Asked::Conflict(_))
                    || is_free
                    || open.crossed
                    || jobs.taken_over.contains(&submit.key)
            }
            Code::BadJob if refusal.field.as_deref() == Some("after") => !submit.after.is_empty(),
            Code::BadJob => submit.tags().iter().any(needs_others),
            _ => false,
        };
        if is_possible { Ok(()) } else { Err(format!("{} is refused: {refusal:?}", submit.key)) }
    }
}

/// Nothing is kept of a submit whose client was silent.
fn check_forgotten(number: usize, reply: &Reply) -> Result<(), String> {
    match reply {
        Reply::Refused(refusal) if refusal.code == Code::ChunkExpected && refusal.expect == Some(0) => Ok(()),
        Reply::Refused(refusal) if refusal.code == Code::Draining => Ok(()),
        other => Err(format!("submit {number} was left a minute ago, and its next chunk gets {other:?}")),
    }
}
