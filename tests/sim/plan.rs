//! What a seed has in store for each job.

use crate::dice::Dice;
use pushpull::config::PoolSettings;
use pushpull::model::{Job, PoolName};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a job does to whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Succeed,
    /// The worker answers with an error each time.
    Fail,
    /// An error that says that a retry makes no sense.
    GiveUp,
    /// An error at the first attempts, then a success.
    Flaky(u32),
    /// The worker dies on it.
    Poison,
    /// The worker leaves with exit status 0 instead of answering, the first so many times.
    Leave(u32),
    /// Never answered; it has a time limit.
    Hang,
    /// Its result is larger than the daemon takes.
    Big,
}

/// One job of the world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub fate: Fate,
    pub took_us: u64,
    pub pool: PoolName,
    /// A command for the built-in worker, not data.
    pub runs: bool,
    pub priority: i16,
    pub retries: Option<u32>,
    pub backoff_ms: Option<u64>,
    pub delay_ms: u64,
    pub timeout_ms: Option<u64>,
    pub key: Option<String>,
    /// The jobs that must succeed first, by their numbers.
    pub after: Vec<u64>,
    /// Times that a worker has begun it.
    pub begun: u32,
}

impl Plan {
    /// How many further attempts it gets.
    pub fn retries(&self, pool: &PoolSettings) -> u32 {
        self.retries.unwrap_or(pool.retries)
    }

    /// Its first pause before a retry.
    pub fn backoff(&self, pool: &PoolSettings) -> Duration {
        self.backoff_ms.map_or(pool.backoff, Duration::from_millis)
    }

    /// Its limit for one attempt.
    pub fn limit(&self, pool: &PoolSettings) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis).or(pool.timeout)
    }

    /// As its file says it, with `after` spelled out.
    pub fn json(&self, tag: u64, after: &[String]) -> String {
        let work = if self.runs { format!(r#""run":"{tag}""#) } else { format!(r#""data":{tag}"#) };
        let mut json =
            format!(r#"{{{work},"name":"n{tag}","pool":"{}","priority":{}"#, self.pool, self.priority);
        let numbers =
            [("backoff", self.backoff_ms), ("timeout", self.timeout_ms), ("delay", Some(self.delay_ms))];
        for (field, ms) in numbers {
            if let Some(ms) = ms.filter(|ms| *ms > 0) {
                json += &format!(r#","{field}":"{ms}ms""#);
            }
        }
        if let Some(retries) = self.retries {
            json += &format!(r#","retries":{retries}"#);
        }
        if let Some(key) = &self.key {
            json += &format!(r#","key":"{key}""#);
        }
        if !after.is_empty() {
            json += &format!(r#","after":[{}]"#, after.join(","));
        }
        json + "}"
    }
}

/// All jobs of the world, by the number in their data.
#[derive(Clone, Debug, Default)]
pub struct Plans(pub BTreeMap<u64, Plan>);

impl Plans {
    /// Draws a job for one of these pools and returns its number.
    pub fn draw(&mut self, dice: &mut Dice, pools: &[PoolSettings]) -> u64 {
        let tag = self.0.len() as u64;
        let pool = if dice.hits(50) { pools[0].clone() } else { dice.pick(pools) };
        let fate = match dice.between(1, 200) {
            1..=150 => Fate::Succeed,
            151..=158 => Fate::Fail,
            159..=162 => Fate::GiveUp,
            163..=176 => Fate::Flaky(1 + (tag % 2) as u32),
            177..=186 => Fate::Poison,
            187..=191 => Fate::Leave(dice.between(1, 3) as u32),
            192 => Fate::Leave(99),
            193..=198 => Fate::Hang,
            _ => Fate::Big,
        };
        let took_us = if dice.hits(80) { dice.between(1, 500) } else { dice.between(1_000, 80_000) };
        let earlier = |dice: &mut Dice| dice.between(tag.saturating_sub(30), tag - 1);
        let after = if tag > 0 && dice.hits(8) {
            (0..dice.between(1, 2)).map(|_| earlier(dice)).collect()
        } else {
            Vec::new()
        };
        let has_limit = fate == Fate::Hang || dice.hits(10);
        let plan = Plan {
            fate,
            took_us,
            runs: pool.is_builtin(),
            pool: pool.name,
            priority: if dice.hits(15) { dice.between(0, 6) as i16 - 3 } else { 0 },
            retries: dice.hits(70).then(|| dice.between(0, 3) as u32),
            backoff_ms: dice.hits(70).then(|| dice.between(2, 60)),
            delay_ms: if dice.hits(8) { dice.between(1, 600) } else { 0 },
            timeout_ms: has_limit.then(|| dice.between(20, 200)),
            key: dice.hits(4).then(|| format!("k{}", dice.between(0, 3))),
            after,
            begun: 0,
        };
        self.0.insert(tag, plan);
        tag
    }

    /// The plan of a job.
    pub fn of(&self, job: &Job) -> &Plan {
        &self.0[&tag_of(job)]
    }
}

/// The number in a job's data.
pub fn tag_of(job: &Job) -> u64 {
    job.work.json().trim_matches('"').parse().expect("the data of every job is a number")
}
