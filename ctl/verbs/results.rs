//! `results`: what came out, in the order of finishing.

use super::list::title;
use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::pages;
use crate::selecting::SelectOptions;
use crate::table::{Cell, Column, Table};
use crate::words::between;
use pushpull::wire::control::Ask;
use pushpull::wire::duration;
use pushpull::wire::record::{Record, one_line};
use serde::Deserialize;

/// Prints results in the order in which the jobs finished.
///
/// Without SELECT these are the newest batch's.
#[derive(clap::Args)]
pub struct Results {
    #[command(flatten)]
    select: SelectOptions,
    /// Goes on until all of them are finished.
    #[arg(long, short)]
    follow: bool,
}

/// How long the daemon may hold a question for more.
const POLL_MS: u64 = 5_000;

impl Run for Results {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let timeout_ms = self.follow.then_some(POLL_MS);
        let ask = Ask { timeout_ms, ..self.select.fill(request("results"))? };
        let mut table = Table::new(&[
            Column::Number("ID"),
            Column::Text("STATE"),
            Column::Number("TIME"),
            Column::Long("JOB"),
            Column::Long("RESULT"),
        ]);
        pages::each(client, ask, |page| {
            if screen.json {
                page.records.iter().try_for_each(|raw| screen.line(&one_line(raw.get())))?;
            } else {
                let rows: Vec<Record> = pages::parse(&page.records)?;
                table.print(screen, rows.iter().map(row).collect())?;
            }
            // Whoever follows wants to see each result when it is there.
            screen.flush()?;
            Ok(!page.done && (self.follow || !page.records.is_empty()))
        })?;
        if table.is_empty() {
            screen.people("0 jobs")?;
        }
        Ok(Ending::Done)
    }
}

fn row(job: &Record) -> Vec<Cell> {
    let took = job.started.as_ref().zip(job.finished.as_ref()).and_then(|(start, end)| between(start, end));
    vec![
        Cell::new(job.id.to_string()),
        Cell::state(&job.state),
        Cell::new(took.map(duration::render).unwrap_or_default()),
        Cell::new(title(job)),
        Cell::new(result(job)),
    ]
}

/// In a line: the error, what a command wrote, or the data.
fn result(job: &Record) -> String {
    #[derive(Deserialize)]
    struct Streams {
        #[serde(default)]
        stdout: String,
        #[serde(default)]
        stderr: String,
    }
    let raw = job.result.as_ref().map(|raw| raw.get());
    if job.run.is_none() {
        return job.error.clone().or(raw.map(str::to_owned)).unwrap_or_default();
    }
    let streams: Option<Streams> = raw.and_then(|raw| serde_json::from_str(raw).ok());
    let said = streams.map(|Streams { stdout, stderr }| {
        let text = if job.error.is_some() && !stderr.trim().is_empty() { stderr } else { stdout };
        text.trim_end().to_owned()
    });
    match (&job.error, said.filter(|text| !text.is_empty())) {
        (Some(error), Some(said)) => format!("{error}: {said}"),
        (Some(error), None) => error.clone(),
        (None, said) => said.unwrap_or_default(),
    }
}
