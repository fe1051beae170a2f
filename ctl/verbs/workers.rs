//! `workers`: who runs, holds what, and how its predecessor ended.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::pages;
use crate::table::{Cell, Column, Table};
use crate::words::{ago, span};
use pushpull::model::Exit;
use pushpull::wire::control::{LastExit, WorkerRow};
use pushpull::wire::duration;
use pushpull::wire::record::one_line;
use std::time::SystemTime;

/// Lists the workers.
#[derive(clap::Args)]
pub struct Workers {}

impl Run for Workers {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let mut table = Table::new(&[
            Column::Text("WORKER"),
            Column::Number("PID"),
            Column::Text("STATE"),
            Column::Number("HELD"),
            Column::Number("DONE"),
            Column::Number("RESTARTS"),
            Column::Number("AGE"),
            Column::Number("MEMORY"),
            Column::Long("LAST EXIT"),
        ]);
        pages::each(client, request("workers"), |page| {
            if screen.json {
                page.records.iter().try_for_each(|raw| screen.line(&one_line(raw.get())))?;
            } else {
                let rows: Vec<WorkerRow> = pages::parse(&page.records)?;
                table.print(screen, rows.iter().map(row).collect())?;
            }
            Ok(!page.done)
        })?;
        if table.is_empty() {
            screen.people("0 workers")?;
        }
        Ok(Ending::Done)
    }
}

fn row(worker: &WorkerRow) -> Vec<Cell> {
    vec![
        Cell::new(&worker.worker),
        Cell::new(worker.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        Cell::new(&worker.state),
        Cell::number(worker.held),
        Cell::number(worker.jobs_done),
        Cell::bad(worker.restarts),
        Cell::new(duration::render(span(worker.age_s))),
        Cell::new(worker.rss_kib.map(memory).unwrap_or_default()),
        Cell::new(worker.last_exit.as_ref().map(last_exit).unwrap_or_default()),
    ]
}

fn memory(kib: u64) -> String {
    if kib < 10 * 1024 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1024) }
}

fn last_exit(exit: &LastExit) -> String {
    let how = exit.signal.map(Exit::Signal).or(exit.exit.map(Exit::Status));
    let how = how.map_or("ended".to_owned(), |how| how.to_string());
    format!("{how}, {}", ago(&exit.at, SystemTime::now()))
}
