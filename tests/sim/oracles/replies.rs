//! What replies say: nothing that is not durable, and what the store says.

use super::Seen;
use super::crew::Crew;
use super::desk::{Act, Asked, Open};
use super::jobs::Jobs;
use pushpull::model::{Answer, Counts, JobId, PoolName, Query, Select, State, Word};
use pushpull::wire::control::{Code, CountsJson, StatusReply};
use pushpull::wire::request::Verb;
use serde_json::Value;

/// A record that a client gets: if it says that the job has finished, that is durable.
pub fn check_told(record: &str, jobs: &Jobs) -> Result<(JobId, String, u64), String> {
    let record: Value = serde_json::from_str(record).map_err(|error| format!("{record}: {error}"))?;
    let id = JobId(record["id"].as_u64().ok_or_else(|| format!("a record without an id: {record}"))?);
    let state = record["state"].as_str().unwrap_or_default().to_owned();
    let finished = State::from_word(&state).filter(|state| state.is_finished());
    if finished.is_some_and(|state| !jobs.outcomes.contains(&(id, state))) {
        return Err(format!("job {id} is told to have {state}, which is not durable"));
    }
    Ok((id, state, record["attempts"].as_u64().unwrap_or_default()))
}

/// Whether this may be refused like this.
pub fn check_refusal(asked: &Asked, code: Code, seen: &Seen) -> Result<(), String> {
    let is_possible = match code {
        Code::NoSpace | Code::Internal => seen.disk.was_broken,
        Code::NotFound => matches!(asked, Asked::Act(_) | Asked::Wait(_) | Asked::Show | Asked::Browse),
        _ => false,
    };
    if is_possible { Ok(()) } else { Err(format!("{asked:?} is refused: {code:?}")) }
}

/// What was asked for is durable.
pub fn check_act(act: &Act, crossed: bool, jobs: &Jobs, seen: &mut Seen) -> Result<(), String> {
    for (id, state, round) in &act.meant {
        // A job that is not finished changes its state before the act comes to it.
        let is_vague = !state.is_finished() && !act.select.states.is_empty();
        if is_vague || !(act.select.states.is_empty() || act.select.states.contains(state)) {
            continue;
        }
        let now = seen.disk.row(*id).map(|row| (row.state, row.standing.round));
        let is_done = match (act.verb, now) {
            (Verb::Cancel, Some((now, later))) => now.is_finished() || later > *round,
            (Verb::Retry, Some((_, later))) if matches!(state, State::Failed | State::Cancelled) => {
                // One that waits for others may be cancelled for them and opened again with them.
                let waits = jobs.before.get(id).is_some_and(|before| !before.is_empty());
                later == round + 1 || ((crossed || waits) && later > *round)
            }
            (Verb::Remove, Some((_, later))) if state.is_finished() => later > *round,
            (_, None) | (Verb::Retry | Verb::Remove, Some(_)) => true,
        };
        if !is_done {
            let verb = act.verb;
            return Err(format!("{verb:?} of job {id} ({state:?}, round {round}) is acknowledged: {now:?}"));
        }
    }
    Ok(())
}

/// A wait ends when all that it means has finished.
pub fn check_wait(select: &Select, open: &Open, jobs: &Jobs, seen: &mut Seen) -> Result<(), String> {
    let query = Query::Ids { select: select.clone(), after: JobId(0), limit: 1_000 };
    let Answer::Ids { stubs, .. } = seen.disk.look(&query) else {
        return Ok(());
    };
    // A job that came later was not waited for; one that was retried has finished once.
    let is_open = |id: JobId| id <= open.newest && !jobs.has_finished(id);
    match stubs.iter().find(|stub| is_open(stub.id)) {
        Some(stub) => Err(format!("a wait for job {} is over, and it has not finished", stub.id)),
        None => Ok(()),
    }
}

/// The counters say what the store says, running jobs told apart.
pub fn check_status(status: &StatusReply, crew: &Crew, seen: &mut Seen) -> Result<(), String> {
    if !seen.disk.is_told() {
        return Ok(());
    }
    let everything = Select { words: vec![Word::All], ..Select::default() };
    let mut running = 0;
    for pool in &status.pools {
        let name = PoolName::new(&pool.name).ok_or("a pool without a name")?;
        let select = Select { pools: vec![name.clone()], ..everything.clone() };
        let counts = seen.disk.counts(&select);
        running += compare(&pool.name, counts, crew.running(Some(&name)), pool.jobs)?;
    }
    compare("status", seen.disk.counts(&everything), running, status.jobs)?;
    Ok(())
}

fn compare(what: &str, mut stored: Counts, running: u64, said: CountsJson) -> Result<u64, String> {
    let running = running.min(stored[State::Queued]);
    stored[State::Queued] -= running;
    stored[State::Running] = running;
    let stored = CountsJson::from(stored);
    if stored == said { Ok(running) } else { Err(format!("{what} counts {said:?}, stored are {stored:?}")) }
}
