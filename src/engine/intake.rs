//! What a submit must be like to be taken: its jobs are checked, counted, numbered and given to a pool that can run
//! them.

use super::Engine;
use super::ask::store_refusal;
use super::mutant::Mutant;
use super::submit::Open;
use crate::config::CHUNK_JOBS_MAX;
use crate::model::{Job, PoolName, StoreError, Work};
use crate::wire::control::{Code, Refusal};
use crate::wire::job::{self, Draft, JobError};
use crate::wire::nearest;
use crate::wire::reply::Reply;
use crate::wire::request::Submission;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

impl Engine {
    pub(super) fn check_may_submit(&self) -> Result<(), Box<Refusal>> {
        if (self.is_stopping() || self.is_draining()) && !Mutant::SubmitDraining.is_on() {
            let refusal = Refusal::new(Code::Draining, "the daemon is draining and takes no new jobs");
            return Err(Box::new(
                refusal.hint("pushpullctl resume ends the drain; or submit after the restart"),
            ));
        }
        if let Some(error) = &self.writes.trouble {
            return Err(store_refusal_of(error));
        }
        Ok(())
    }

    /// Checks and numbers a chunk's jobs.
    pub(super) fn take_jobs(
        &mut self,
        mut open: Open,
        said: &Submission,
    ) -> Result<(Open, Vec<Arc<Job>>), Box<Refusal>> {
        if open.repeats.is_some() {
            open.take_repeated(said);
            return Ok((open, Vec::new()));
        }
        if said.jobs.len() > CHUNK_JOBS_MAX {
            let refusal = limit("chunk_jobs_max", CHUNK_JOBS_MAX as u64, "a chunk holds too many jobs");
            return Err(Box::new(refusal.hint("send them in several chunks under one key")));
        }
        let count = said.jobs.len() as u64;
        if open.jobs + count > self.settings.batch_jobs_max {
            return Err(limit(
                "batch_jobs_max",
                self.settings.batch_jobs_max,
                "a submit holds too many jobs",
            ));
        }
        let pools = self.pools.iter().map(|pool| &pool.counts).chain(self.orphans.values());
        let kept: u64 = pools.map(crate::model::Counts::total).sum::<u64>() + self.submits.jobs_under_way();
        if kept + open.jobs + count > self.settings.jobs_max {
            let refusal = limit("jobs_max", self.settings.jobs_max, "so many jobs are kept already");
            return Err(Box::new(refusal.hint("wait for jobs to finish, or remove finished ones")));
        }
        let mut jobs = Vec::with_capacity(said.jobs.len());
        for raw in &said.jobs {
            let index = open.jobs + jobs.len() as u64;
            if raw.len() > self.settings.job_bytes_max {
                let mut refusal = *limit(
                    "job_bytes_max",
                    self.settings.job_bytes_max as u64,
                    &format!("job {index} has {} bytes", raw.len()),
                );
                refusal.index = Some(index);
                return Err(Box::new(refusal));
            }
            let draft = job::parse(raw, &open.defaults).map_err(|error| bad_job(error, Some(index)))?;
            jobs.push(Arc::new(self.number(&mut open, draft, index)?));
        }
        digest_jobs(&mut open.digest, said);
        open.chunk_first = open.jobs;
        open.jobs += count;
        Ok((open, jobs))
    }

    /// Makes a job of a draft: with an id, for a pool that can run it.
    fn number(&mut self, open: &mut Open, draft: Draft, index: u64) -> Result<Job, Box<Refusal>> {
        let pool = self.pool_for(&draft, index)?;
        if let Some(delay) = draft.policy.delay.filter(|delay| !delay.is_zero()) {
            let soonest = open.delays.entry(pool.clone()).or_insert(delay);
            *soonest = (*soonest).min(delay);
        }
        let id = self.submits.next_job;
        self.submits.next_job.0 += 1;
        let policy = (!draft.policy.is_default()).then(|| Box::new(draft.policy));
        let runs = matches!(draft.work, Work::Run(_));
        Ok(Job {
            id,
            batch: open.batch,
            index: draft.index.unwrap_or(index),
            pool,
            priority: draft.priority.unwrap_or(0),
            name: draft.name,
            key: draft.key,
            work: draft.work,
            policy,
            context: open.context.clone().filter(|_| runs),
            after: draft.after,
            submitted: open.submitted,
        })
    }

    fn pool_for(&self, draft: &Draft, index: u64) -> Result<PoolName, Box<Refusal>> {
        let name = draft.pool.clone().unwrap_or_default();
        let Some(place) = self.live_pool(&name) else {
            let known: Vec<&str> = self.live_pools().map(|pool| pool.settings.name.as_str()).collect();
            let nearest = nearest::did_you_mean(name.as_str(), known.iter().copied());
            let error = JobError {
                field: Some("pool".to_owned()),
                message: format!("there is no pool {name:?}.{nearest}", name = name.as_str()),
                hint: Some(format!("this daemon has: {}", known.join(", "))),
                limit: None,
            };
            return Err(bad_job(error, Some(index)));
        };
        let builtin = self.pools[place].settings.is_builtin();
        let (field, message, hint) = match &draft.work {
            Work::Run(_) if !builtin => (
                "run",
                format!("pool {name} has a command of its own and takes data, not run"),
                "give the job data, or send it to a pool without a command",
            ),
            Work::Data(_) if builtin => (
                "data",
                format!("pool {name} runs commands and takes run, not data"),
                "give the job run, or send it to a pool with a command",
            ),
            Work::Run(_) | Work::Data(_) => return Ok(name),
        };
        let error =
            JobError { field: Some(field.to_owned()), message, hint: Some(hint.to_owned()), limit: None };
        Err(bad_job(error, Some(index)))
    }
}

pub(super) fn digest_jobs(digest: &mut Xxh3, said: &Submission) {
    for raw in &said.jobs {
        digest.update(raw.as_bytes());
        digest.update(b"\n");
    }
}

pub(super) fn limit(name: &str, value: u64, message: &str) -> Box<Refusal> {
    let mut refusal = Refusal::new(Code::Limit, format!("{message}: {name} is {value}"));
    refusal.limit = Some(name.to_owned());
    refusal.value = Some(value);
    Box::new(refusal)
}

pub(super) fn bad_job(error: JobError, index: Option<u64>) -> Box<Refusal> {
    let code = if error.limit.is_some() { Code::Limit } else { Code::BadJob };
    let mut refusal = Refusal::new(code, error.message);
    refusal.limit = error.limit.map(|(name, _)| name.to_owned());
    refusal.value = error.limit.map(|(_, value)| value);
    refusal.field = error.field;
    refusal.hint = error.hint;
    refusal.index = index;
    Box::new(refusal)
}

fn store_refusal_of(error: &StoreError) -> Box<Refusal> {
    match store_refusal(error) {
        Reply::Refused(refusal) => refusal,
        other => unreachable!("a store refusal is a refusal, not {other:?}"),
    }
}
