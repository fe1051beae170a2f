//! `show`: everything about one job or one batch.

use super::list::command;
use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::screen::Screen;
use crate::words::{ago, between, counts, plain, span};
use pushpull::model::Word;
use pushpull::wire::control::{Ask, BatchJson};
use pushpull::wire::record::{HistoryEntry, Record};
use pushpull::wire::{duration, select};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io;
use std::time::SystemTime;

/// Shows all about a job or a batch.
#[derive(clap::Args)]
pub struct Show {
    /// Means this job (17) or batch (@3, @NAME, @last).
    #[arg(value_name = "ID|@BATCH")]
    what: String,
}

impl Run for Show {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let ask = self.ask()?;
        let is_batch = ask.batch.is_some();
        let reply = session.client.ask(&ask)?;
        let screen = &mut session.screen;
        if screen.json {
            screen.line(&reply.document())?;
        } else if is_batch {
            print_batch(screen, &reply.as_type()?)?;
        } else {
            print_job(screen, &reply.as_type()?)?;
        }
        Ok(Ending::Done)
    }
}

impl Show {
    fn ask(&self) -> Result<Ask, Failure> {
        let wrong =
            |message: String| Failure::usage(message, "Write 17 for a job; @3, @NAME or @last for a batch");
        let words = select::parse(std::slice::from_ref(&self.what)).map_err(wrong)?;
        let ask = request("show");
        match &words[..] {
            [Word::Batch(batch)] => Ok(Ask { batch: Some(Value::from(batch.0)), ..ask }),
            [Word::Named(name)] => Ok(Ask { batch: Some(Value::from(&**name)), ..ask }),
            [Word::Last] => Ok(Ask { batch: Some(Value::from("last")), ..ask }),
            _ => match self.what.parse() {
                Ok(id) => Ok(Ask { id: Some(id), ..ask }),
                Err(_) => Err(wrong(format!("{:?} is more than one job", plain(&self.what)))),
            },
        }
    }
}

fn print_batch(screen: &mut Screen, batch: &BatchJson) -> io::Result<()> {
    field(screen, "batch", &format!("@{}", batch.batch))?;
    field_if(screen, "name", batch.name.as_deref())?;
    field_if(screen, "key", batch.key.as_deref())?;
    field(screen, "submitted", &time(&batch.submitted))?;
    field(screen, "jobs", &format!("{}: {}", batch.counts.total(), counts(&batch.counts)))
}

fn print_job(screen: &mut Screen, job: &Record) -> io::Result<()> {
    field(screen, "job", &format!("{}, number {} of batch @{}", job.id, job.index, job.batch))?;
    field_if(screen, "name", job.name.as_deref())?;
    field_if(screen, "key", job.key.as_deref())?;
    field(screen, "pool", &job.pool)?;
    field_if(screen, "command", job.run.as_deref().map(command).as_deref())?;
    field_if(screen, "data", job.data.as_deref().map(serde_json::value::RawValue::get))?;
    let cause = job.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    field(screen, "state", &format!("{}{cause}", job.state))?;
    field_if(screen, "error", job.error.as_deref())?;
    let crashes = if job.crashes > 0 { format!(", of these {} crashes", job.crashes) } else { String::new() };
    field(screen, "attempts", &format!("{}{crashes}", job.attempts))?;
    field_if(screen, "worker", job.worker.as_deref())?;
    field(screen, "submitted", &time(&job.submitted))?;
    field_if(screen, "due", job.due.as_deref().map(time).as_deref())?;
    field_if(screen, "started", job.started.as_deref().map(time).as_deref())?;
    field_if(screen, "finished", job.finished.as_deref().map(time).as_deref())?;
    print_policy(screen, job)?;
    print_history(screen, &job.history)?;
    print_result(screen, job)
}

fn print_policy(screen: &mut Screen, job: &Record) -> io::Result<()> {
    if job.priority != 0 {
        field(screen, "priority", &job.priority.to_string())?;
    }
    field_if(screen, "retries", job.retries.map(|retries| retries.to_string()).as_deref())?;
    for (name, seconds) in [("timeout", job.timeout_s), ("backoff", job.backoff_s), ("delay", job.delay_s)] {
        field_if(screen, name, seconds.map(|seconds| duration::render(span(seconds))).as_deref())?;
    }
    if !job.after.is_empty() {
        let after: Vec<String> = job.after.iter().map(ToString::to_string).collect();
        field(screen, "after", &after.join(", "))?;
    }
    field_if(screen, "output_dir", job.output_dir.as_deref())?;
    field_if(screen, "cwd", job.cwd.as_deref())?;
    for (name, value) in job.env.iter().flatten() {
        field(screen, "env", &format!("{name}={value}"))?;
    }
    field_if(screen, "stdin", job.stdin.as_deref())
}

fn print_history(screen: &mut Screen, history: &[HistoryEntry]) -> io::Result<()> {
    for entry in history {
        let took =
            entry.started.as_ref().zip(entry.finished.as_ref()).and_then(|(from, to)| between(from, to));
        let took = took.map(|took| format!(", {}", duration::render(took))).unwrap_or_default();
        let worker = entry.worker.as_deref().unwrap_or("no worker");
        let end = match (&entry.cause, &entry.error) {
            (None, _) => "succeeded".to_owned(),
            (Some(cause), None) => cause.clone(),
            (Some(cause), Some(error)) => format!("{cause}: {error}"),
        };
        let round = if entry.round > 0 { format!(" of round {}", entry.round) } else { String::new() };
        field(screen, "attempt", &format!("{}{round} on {worker}{took}: {end}", entry.attempt))?;
        if let Some(evidence) = &entry.evidence {
            print_evidence(screen, evidence)?;
        }
    }
    Ok(())
}

/// What was seen of a worker's death, or what a worker said beyond its one line; other evidence as it is.
fn print_evidence(screen: &mut Screen, raw: &RawValue) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Evidence {
        #[serde(default)]
        max_rss_kib: Option<u64>,
        #[serde(default)]
        last_output: Vec<String>,
        #[serde(default)]
        detail: Option<String>,
    }
    let Ok(evidence) = serde_json::from_str::<Evidence>(raw.get()) else {
        return field(screen, "evidence", raw.get());
    };
    if let Some(rss) = evidence.max_rss_kib {
        field(screen, "peak memory", &format!("{rss} KiB"))?;
    }
    let detail = evidence.detail.iter().flat_map(|detail| detail.lines());
    for line in evidence.last_output.iter().map(String::as_str).chain(detail) {
        screen.line(&format!("  | {}", plain(line)))?;
    }
    Ok(())
}

/// What a command wrote, line by line; other results as they are.
fn print_result(screen: &mut Screen, job: &Record) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Streams {
        #[serde(default)]
        stdout: Option<String>,
        #[serde(default)]
        stderr: Option<String>,
        #[serde(default)]
        truncated: bool,
    }
    let Some(raw) = &job.result else { return Ok(()) };
    let streams = job.run.as_ref().and_then(|_| serde_json::from_str::<Streams>(raw.get()).ok());
    let Some(streams) = streams else { return field(screen, "result", raw.get()) };
    for (name, text) in [("stdout", streams.stdout), ("stderr", streams.stderr)] {
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        let cut = if streams.truncated { " (perhaps cut)" } else { "" };
        screen.line(&format!("\n{name}{cut}:"))?;
        for line in text.lines() {
            // Tabs are harmless and keep columns in place.
            let shown: Vec<String> = line.split('\t').map(plain).collect();
            screen.line(&format!("  {}", shown.join("\t")))?;
        }
    }
    Ok(())
}

fn field(screen: &mut Screen, name: &str, value: &str) -> io::Result<()> {
    screen.line(&format!("{name:<11} {}", plain(value)))
}

fn field_if(screen: &mut Screen, name: &str, value: Option<&str>) -> io::Result<()> {
    value.map_or(Ok(()), |value| field(screen, name, value))
}

/// Relative for people, exact for whoever compares.
fn time(at: &str) -> String {
    format!("{} ({at})", ago(at, SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(what: &str) -> Result<Value, u8> {
        let ask = Show { what: what.to_owned() }.ask().map_err(|failure| failure.exit_status())?;
        Ok(serde_json::to_value(ask).expect("JSON"))
    }

    #[test]
    fn a_number_is_a_job_and_an_at_a_batch() {
        let request = |field: &str, value: Value| serde_json::json!({"v": 1, "op": "show", field: value});
        assert_eq!(ask("17"), Ok(request("id", 17.into())));
        assert_eq!(ask("@3"), Ok(request("batch", 3.into())));
        assert_eq!(ask("@night,ly"), Ok(request("batch", "night,ly".into())));
        assert_eq!(ask("@last"), Ok(request("batch", "last".into())));
        for wrong in ["all", "1-3", "1,2", "x", ""] {
            assert_eq!(ask(wrong), Err(2), "{wrong}");
        }
    }
}
