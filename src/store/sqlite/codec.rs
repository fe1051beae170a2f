//! How values lie in columns.
//!
//! Small sets are integers that the table `state` spells; words that people search for, such as causes, are
//! text. Policies and ranges are JSON, so that `SQLite`'s own functions can read them.

use crate::model::{
    After, Attempt, AttemptPlace, Cause, Generation, JobId, Policy, PoolName, Standing, State, Wall,
    WorkerName,
};
use rusqlite::Row;
use serde_json::{Map, Value};
use std::time::Duration;

/// The state of a side row whose submit is not complete.
pub(super) const STAGED: i64 = 7;

/// A number for a column. None of ours comes near the limit but those that people make up.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from a column.
pub(super) fn num(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn get_id(row: &Row<'_>, at: usize) -> rusqlite::Result<JobId> {
    Ok(JobId(num(row.get(at)?)))
}

pub(super) fn get_wall(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Wall>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(|millis| Wall(num(millis))))
}

/// A value that no version of this program writes.
pub(super) fn bad_column(at: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Null, what.to_owned().into())
}

pub(super) fn state_code(state: State) -> i64 {
    state as i64
}

pub(super) fn state_from(code: i64) -> Option<State> {
    State::ALL.get(usize::try_from(code).ok()?).copied()
}

pub(super) fn get_state(row: &Row<'_>, at: usize) -> rusqlite::Result<State> {
    state_from(row.get(at)?).ok_or_else(|| bad_column(at, "no state has this number"))
}

/// Four columns: round, attempts, crashes, alone.
pub(super) fn get_standing(row: &Row<'_>, at: usize) -> rusqlite::Result<Standing> {
    Ok(Standing {
        round: row.get(at)?,
        attempts: row.get(at + 1)?,
        crashes: row.get(at + 2)?,
        alone: row.get(at + 3)?,
    })
}

pub(super) fn get_cause(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Cause>> {
    let word = row.get_ref(at)?.as_str_or_null()?;
    word.map(|word| Cause::from_word(word).ok_or_else(|| bad_column(at, "no cause has this name")))
        .transpose()
}

/// Two columns: worker and start.
pub(super) fn get_place(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<AttemptPlace>> {
    let Some(worker) = row.get_ref(at)?.as_str_or_null()? else { return Ok(None) };
    let worker = worker_from(worker).ok_or_else(|| bad_column(at, "not a worker's name"))?;
    let started = get_wall(row, at + 1)?.unwrap_or_default();
    Ok(Some(AttemptPlace { worker, started }))
}

/// The columns of `attempt` from `round` on.
pub(super) fn get_attempt(row: &Row<'_>) -> rusqlite::Result<(Standing, Attempt)> {
    let attempt = Attempt {
        place: get_place(row, 4)?.ok_or_else(|| bad_column(4, "an attempt has a worker"))?,
        finished: get_wall(row, 6)?.unwrap_or_default(),
        cause: get_cause(row, 7)?.ok_or_else(|| bad_column(7, "an attempt has a cause"))?,
        error: row.get(8)?,
        result: row.get(9)?,
        evidence: row.get(10)?,
    };
    Ok((get_standing(row, 0)?, attempt))
}

fn worker_from(text: &str) -> Option<WorkerName> {
    let mut parts = text.rsplitn(3, '.');
    let generation = Generation(parts.next()?.parse().ok()?);
    let slot = parts.next()?.parse().ok()?;
    Some(WorkerName { pool: PoolName::new(parts.next()?)?, slot, generation })
}

/// A policy as a JSON object with the fields that are set.
pub(super) fn policy_text(policy: &Policy) -> String {
    let nanos = |span: Duration| Value::from(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    let text = |text: &Option<Box<str>>| text.as_deref().map(Value::from);
    let fields = [
        ("timeout_ns", policy.timeout.map(nanos)),
        ("retries", policy.retries.map(Value::from)),
        ("backoff_ns", policy.backoff.map(nanos)),
        ("delay_ns", policy.delay.map(nanos)),
        ("output_dir", text(&policy.output_dir)),
        ("env", policy.env.as_deref().map(Value::from)),
        ("cwd", text(&policy.cwd)),
        ("stdin", text(&policy.stdin)),
    ];
    let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let set: Map<String, Value> = set.collect();
    Value::Object(set).to_string()
}

pub(super) fn policy_from(text: &str) -> Option<Policy> {
    let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let span = |name: &str| fields.get(name).and_then(Value::as_u64).map(Duration::from_nanos);
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    Some(Policy {
        timeout: span("timeout_ns"),
        retries: fields.get("retries").and_then(Value::as_u64).and_then(|number| number.try_into().ok()),
        backoff: span("backoff_ns"),
        delay: span("delay_ns"),
        output_dir: text("output_dir").map(Into::into),
        env: text("env").map(Into::into),
        cwd: text("cwd").map(Into::into),
        stdin: text("stdin").map(Into::into),
    })
}

/// What a job waits for, as a JSON array of numbers and words; nothing if it waits for nothing.
pub(super) fn after_text(after: &[After]) -> Option<String> {
    let value = |after: &After| match after {
        After::Id(id) => Value::from(id.0),
        After::Label(label) => Value::from(&**label),
    };
    (!after.is_empty()).then(|| after.iter().map(value).collect::<Value>().to_string())
}

pub(super) fn after_from(text: &str) -> Option<Vec<After>> {
    let values: Vec<Value> = serde_json::from_str(text).ok()?;
    let after = |value: &Value| match value {
        Value::String(label) => Some(After::Label(label.as_str().into())),
        Value::Number(id) => Some(After::Id(JobId(id.as_u64()?))),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    values.iter().map(after).collect()
}

/// Ranges as a JSON array of pairs.
pub(super) fn ranges_text(ranges: &[(JobId, JobId)]) -> String {
    let pairs: Vec<(u64, u64)> = ranges.iter().map(|(first, last)| (first.0, last.0)).collect();
    serde_json::to_string(&pairs).expect("numbers can be written")
}

pub(super) fn ranges_from(text: &str) -> Option<Vec<(u64, u64)>> {
    serde_json::from_str(text).ok()
}

/// FNV-1a, to find a context by its content. Equal digests are compared in full.
pub(super) fn digest(texts: [Option<&str>; 2]) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        let marked = text.map_or(&[0xFF][..], str::as_bytes);
        for byte in marked.iter().chain(&[0xFE]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    i64::from_ne_bytes(hash.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_as_it_was_written() {
        let policy = Policy {
            timeout: Some(Duration::from_nanos(1_500_000_001)),
            retries: Some(3),
            backoff: Some(Duration::ZERO),
            delay: None,
            output_dir: Some("/tmp/ä".into()),
            env: Some(r#"{"A":"\"1\""}"#.into()),
            cwd: Some("".into()),
            stdin: Some("line\n\0".into()),
        };
        assert_eq!(policy_from(&policy_text(&policy)), Some(policy));
        assert_eq!(policy_from(&policy_text(&Policy::default())), Some(Policy::default()));
    }

    #[test]
    fn what_a_job_waits_for_comes_back_as_it_was_written() {
        let after = vec![After::Id(JobId(u64::MAX)), After::Label("17".into()), After::Label("a\"b".into())];
        assert_eq!(after_from(&after_text(&after).expect("not empty")), Some(after));
        assert_eq!(after_text(&[]), None);
    }

    #[test]
    fn contexts_that_differ_have_different_digests() {
        let digests = [
            digest([None, None]),
            digest([Some(""), None]),
            digest([None, Some("")]),
            digest([Some("a"), None]),
        ];
        for (at, one) in digests.iter().enumerate() {
            assert!(digests[..at].iter().all(|other| other != one));
        }
    }
}
