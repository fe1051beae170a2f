//! The backlog costs disk, not memory: how many jobs the engine has fetched and not sent.

use super::Seen;
use super::crew::Crew;
use super::jobs::Jobs;
use pushpull::engine::Event;
use pushpull::model::JobId;
use pushpull::model::PoolName;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Window {
    /// Fetched and never sent since, with what they weigh.
    fetched: BTreeMap<PoolName, BTreeMap<JobId, usize>>,
    /// What is wrong; told at the next opportunity.
    too_much: Option<String>,
}

impl Window {
    pub fn on_told(&mut self, event: &Event, jobs: &Jobs, crew: &Crew, seen: &mut Seen) {
        let Event::Fetched { pool, result: Ok(fetched) } = event else {
            return;
        };
        let window = self.fetched.entry(pool.clone()).or_default();
        for (job, _) in &fetched.jobs {
            // Those that go alone came from workers' windows: they are few, and may be in memory already.
            // What is being cancelled is not taken into memory.
            let is_known = jobs.is_ending(job.id) || jobs.alone.contains_key(&job.id) || crew.is_held(job.id);
            if seen.home(job).is_some() && !is_known {
                window.insert(job.id, job.weight());
            }
        }
        let daemon = &seen.config.daemon;
        // A better job is fetched even into a full window.
        let jobs_max = daemon.window_jobs_max + 1;
        let largest = window.values().max().copied().unwrap_or(0);
        let bytes_max = daemon.window_bytes_max + 2 * largest;
        let bytes: usize = window.values().sum();
        if window.len() > jobs_max || bytes > bytes_max {
            let (jobs, limit) = (window.len(), daemon.window_jobs_max);
            self.too_much =
                Some(format!("pool {pool} has fetched {jobs} jobs ({bytes} bytes), its window is {limit}"));
        }
    }

    pub fn on_gone(&mut self, id: JobId) {
        for window in self.fetched.values_mut() {
            window.remove(&id);
        }
    }

    pub fn check(&mut self) -> Result<(), String> {
        self.too_much.take().map_or(Ok(()), Err)
    }

    pub fn on_boot(&mut self) {
        self.fetched.clear();
    }
}
