//! One job of a submit: the same text in a job file and on the control socket.
//!
//! A job is an object with the fields below, or a string, which is short for `{"run": string}`. A field that is
//! null stands for one that is not there, but for `data`, where null is a value. What the job does not say comes
//! from the submit's [`Defaults`]; `env` alone is merged, variable by variable. What is meant for commands
//! (`env`, `cwd`, `stdin`, `output_dir`) is an error in a job with `data`, and is left out when it comes from the
//! defaults.
//!
//! Payloads, that is `run`, `data` and `env`, are checked and then kept as they stand, byte for byte.

mod fields;
#[cfg(test)]
mod tests;
mod values;

pub use values::DATA_DEPTH_MAX;
pub(super) use values::json_problem;

use super::duration;
use super::nearest::quote;
use super::object::{Object, string};
use super::select::NAME_BYTES_MAX;
use crate::model::{After, Json, Policy, PoolName, Work};
use fields::{Field, Fields, Owner};
use std::time::Duration;

/// The longest key of a job, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// The lowest and the highest priority.
pub const PRIORITY_MIN: i16 = -1000;
pub const PRIORITY_MAX: i16 = 1000;

/// The most further attempts after a failure.
pub const RETRIES_MAX: u32 = 1_000_000;

/// A job as somebody asks for it, before it has an id and a batch. What is `None` is left to the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub pool: Option<PoolName>,
    pub work: Work,
    pub name: Option<Box<str>>,
    pub key: Option<Box<str>>,
    pub priority: Option<i16>,
    pub policy: Policy,
    pub after: Vec<After>,
    /// Its place in its file, if the submitter knows better than the order of arrival.
    pub index: Option<u64>,
}

/// What the jobs of a submit have in common unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub pool: Option<PoolName>,
    pub name: Option<Box<str>>,
    pub priority: Option<i16>,
    pub policy: Policy,
    pub after: Option<Vec<After>>,
}

/// Why a text is not a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// The field that is wrong; the message names it too.
    pub field: Option<String>,
    pub message: String,
    /// What to do about it, a sentence of its own.
    pub hint: Option<String>,
    /// The limit that the job is above, and its value.
    pub limit: Option<(&'static str, u64)>,
}

/// What is wrong with a value; the text goes on where its name ends.
#[derive(Debug)]
struct Problem {
    text: String,
    limit: Option<(&'static str, u64)>,
}

impl From<String> for Problem {
    fn from(text: String) -> Problem {
        Problem { text, limit: None }
    }
}

impl JobError {
    /// An error of the job as a whole.
    #[must_use]
    pub fn new(message: impl Into<String>) -> JobError {
        JobError { field: None, message: message.into(), hint: None, limit: None }
    }

    /// An error of one field; `problem` goes on where its name ends.
    #[must_use]
    pub fn at(field: &str, problem: impl AsRef<str>) -> JobError {
        let message = format!("{} {}", quote(field), problem.as_ref());
        JobError { field: Some(field.to_owned()), message, hint: None, limit: None }
    }
}

/// Reads one job.
///
/// # Errors
/// What is wrong with it, with the field's name.
pub fn parse(element: &str, defaults: &Defaults) -> Result<Draft, JobError> {
    let element = trim(element);
    let mut draft = match element.as_bytes().first() {
        Some(b'"') => Draft {
            pool: None,
            work: Work::Run(values::command(element).map_err(|problem| JobError::at("run", problem))?),
            name: None,
            key: None,
            priority: None,
            policy: Policy::default(),
            after: defaults.after.clone().unwrap_or_default(),
            index: None,
        },
        Some(b'{') => parse_object(element, defaults)?,
        Some(_) | None => return Err(fields::not_a_job(element)),
    };
    draft.fill(defaults);
    Ok(draft)
}

/// Checks a whole environment: a JSON object of texts.
///
/// # Errors
/// Text for people: what is wrong with it.
pub fn check_environment(raw: &str) -> Result<(), String> {
    values::env(raw).map(|_| ())
}

impl Draft {
    /// The job as one JSON object, from which [`parse`] makes the same job.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = Object::with_capacity(self.work.json().len() + 32);
        match &self.work {
            Work::Run(command) => object.raw("run", command),
            Work::Data(data) => object.raw("data", data),
        }
        if let Some(key) = &self.key {
            object.text("key", key);
        }
        let after = (!self.after.is_empty()).then_some(&*self.after);
        write_policy(
            &mut object,
            self.pool.as_ref(),
            self.name.as_deref(),
            self.priority,
            &self.policy,
            after,
        );
        if let Some(index) = self.index {
            object.number("index", index);
        }
        object.finish()
    }

    /// Takes from the defaults what the job does not say, except for `after`, whose empty list is not no list.
    fn fill(&mut self, defaults: &Defaults) {
        let Draft { pool, work, name, key: _, priority, policy, after: _, index: _ } = self;
        fill(pool, defaults.pool.as_ref());
        fill(name, defaults.name.as_ref());
        fill(priority, defaults.priority.as_ref());
        fill_policy(policy, &defaults.policy);
        match work {
            Work::Run(_) => {}
            Work::Data(_) => {
                policy.output_dir = None;
                policy.env = None;
                policy.cwd = None;
                policy.stdin = None;
            }
        }
    }
}

impl Defaults {
    /// Reads the `defaults` of a file or a submit: an object with the fields of a job, except `run`, `data`, `key`
    /// and `index`.
    ///
    /// # Errors
    /// What is wrong with it, with the field's name.
    pub fn parse(text: &str) -> Result<Defaults, JobError> {
        let text = trim(text);
        if !text.starts_with('{') {
            return Err(JobError::at("defaults", format!("must be an object, not {}", values::kind(text))));
        }
        let fields = Fields::parse(text, Owner::Defaults)?;
        Ok(Defaults {
            pool: fields.read(Field::Pool, values::pool)?,
            name: fields.read(Field::Name, name)?,
            priority: fields.read(Field::Priority, priority)?,
            policy: policy(&fields)?,
            after: fields.read(Field::After, values::after)?,
        })
    }

    /// These defaults, and what they do not say from `weaker` ones, as a file's go before the command line's.
    #[must_use]
    pub fn over(mut self, weaker: &Defaults) -> Defaults {
        let Defaults { pool, name, priority, policy, after } = &mut self;
        fill(pool, weaker.pool.as_ref());
        fill(name, weaker.name.as_ref());
        fill(priority, weaker.priority.as_ref());
        fill_policy(policy, &weaker.policy);
        fill(after, weaker.after.as_ref());
        self
    }

    /// The defaults as one JSON object, from which [`Defaults::parse`] makes the same.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = Object::with_capacity(64);
        let Defaults { pool, name, priority, policy, after } = self;
        write_policy(&mut object, pool.as_ref(), name.as_deref(), *priority, policy, after.as_deref());
        object.finish()
    }
}

fn parse_object(element: &str, defaults: &Defaults) -> Result<Draft, JobError> {
    let fields = Fields::parse(element, Owner::Job)?;
    let work = match (fields.read(Field::Run, values::command)?, fields.read(Field::Data, values::data)?) {
        (Some(command), None) => Work::Run(command),
        (None, Some(data)) => {
            refuse_for_data(&fields)?;
            Work::Data(data)
        }
        (Some(_), Some(_)) => {
            return Err(JobError::at("data", "stands beside \"run\": a job has one of the two"));
        }
        (None, None) => {
            return Err(JobError {
                hint: Some("Commands are \"run\", data for a worker is \"data\"".to_owned()),
                ..JobError::at("run", "is missing, and so is \"data\": a job has one of the two")
            });
        }
    };
    let after = fields.read(Field::After, values::after)?.or_else(|| defaults.after.clone());
    Ok(Draft {
        pool: fields.read(Field::Pool, values::pool)?,
        work,
        name: fields.read(Field::Name, name)?,
        key: fields.read(Field::Key, key)?,
        priority: fields.read(Field::Priority, priority)?,
        policy: policy(&fields)?,
        after: after.unwrap_or_default(),
        index: fields.read(Field::Index, index)?,
    })
}

/// What only commands can use would be lost without a word in a job with `data`.
fn refuse_for_data(fields: &Fields<'_>) -> Result<(), JobError> {
    for field in [Field::OutputDir, Field::Env, Field::Cwd, Field::Stdin] {
        if fields.get(field).is_some() {
            return Err(JobError::at(
                field.as_str(),
                "is for jobs with \"run\": a worker gets \"data\" alone",
            ));
        }
    }
    Ok(())
}

fn policy(fields: &Fields<'_>) -> Result<Policy, JobError> {
    Ok(Policy {
        timeout: fields.read(Field::Timeout, timeout)?,
        retries: fields.read(Field::Retries, retries)?,
        backoff: fields.read(Field::Backoff, duration)?,
        delay: fields.read(Field::Delay, duration)?,
        output_dir: fields.read(Field::OutputDir, values::path)?,
        env: fields.read(Field::Env, values::env)?,
        cwd: fields.read(Field::Cwd, values::path)?,
        stdin: fields.read(Field::Stdin, |raw| values::text(raw).map(Into::into))?,
    })
}

fn name(raw: &str) -> Result<Box<str>, Problem> {
    values::bounded_text(raw, "name_bytes_max", NAME_BYTES_MAX)
}

fn key(raw: &str) -> Result<Box<str>, Problem> {
    let key = values::bounded_text(raw, "key_bytes_max", KEY_BYTES_MAX)?;
    if key.is_empty() { Err("must not be empty".to_owned().into()) } else { Ok(key) }
}

fn priority(raw: &str) -> Result<i16, String> {
    let range = i64::from(PRIORITY_MIN)..=i64::from(PRIORITY_MAX);
    values::whole(raw, range).map(|number| i16::try_from(number).expect("the range is within i16"))
}

fn retries(raw: &str) -> Result<u32, String> {
    values::whole(raw, 0..=i64::from(RETRIES_MAX))
        .map(|number| u32::try_from(number).expect("the range is within u32"))
}

fn index(raw: &str) -> Result<u64, String> {
    values::whole(raw, 0..=i64::MAX).map(i64::unsigned_abs)
}

fn duration(raw: &str) -> Result<Duration, String> {
    duration::from_json(raw).map_err(|problem| format!("is wrong: {problem}"))
}

fn timeout(raw: &str) -> Result<Duration, String> {
    let timeout = duration(raw)?;
    if timeout.is_zero() {
        return Err("must be more than 0: leave it out for the pool's limit".to_owned());
    }
    Ok(timeout)
}

fn fill<T: Clone>(own: &mut Option<T>, default: Option<&T>) {
    if own.is_none() {
        *own = default.cloned();
    }
}

fn fill_policy(own: &mut Policy, defaults: &Policy) {
    let Policy { timeout, retries, backoff, delay, output_dir, env, cwd, stdin } = own;
    fill(timeout, defaults.timeout.as_ref());
    fill(retries, defaults.retries.as_ref());
    fill(backoff, defaults.backoff.as_ref());
    fill(delay, defaults.delay.as_ref());
    fill(output_dir, defaults.output_dir.as_ref());
    fill(cwd, defaults.cwd.as_ref());
    fill(stdin, defaults.stdin.as_ref());
    *env = match (env.take(), &defaults.env) {
        (Some(mine), Some(theirs)) => Some(values::merge_env(&mine, theirs)),
        (mine, theirs) => mine.or_else(|| theirs.clone()),
    };
}

fn write_policy(
    object: &mut Object,
    pool: Option<&PoolName>,
    name: Option<&str>,
    priority: Option<i16>,
    policy: &Policy,
    after: Option<&[After]>,
) {
    let Policy { timeout, retries, backoff, delay, output_dir, env, cwd, stdin } = policy;
    if let Some(pool) = pool {
        object.text("pool", pool.as_str());
    }
    if let Some(name) = name {
        object.text("name", name);
    }
    if let Some(priority) = priority {
        object.number("priority", priority);
    }
    for (field, span) in [("delay", delay), ("timeout", timeout), ("backoff", backoff)] {
        if let Some(span) = span {
            object.raw(field, &duration::seconds_json(*span));
        }
    }
    if let Some(retries) = retries {
        object.number("retries", retries);
    }
    if let Some(after) = after {
        object.raw("after", &after_json(after));
    }
    for (field, text) in [("output_dir", output_dir), ("cwd", cwd), ("stdin", stdin)] {
        if let Some(text) = text {
            object.text(field, text);
        }
    }
    if let Some(env) = env {
        object.raw("env", env);
    }
}

/// What a job waits for, as a JSON array of numbers and strings.
#[must_use]
pub fn after_json(after: &[After]) -> Json {
    let each: Vec<String> = after
        .iter()
        .map(|after| match after {
            After::Id(id) => id.to_string(),
            After::Label(label) => string(label),
        })
        .collect();
    Json::from(format!("[{}]", each.join(",")))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}
