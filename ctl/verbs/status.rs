//! `status`: how things are, at a glance; what is wrong comes first.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::screen::Screen;
use crate::table::{Cell, Column, Table};
use crate::words::{counts, grouped, plain, span};
use pushpull::wire::control::{CountsJson, PoolStatus, StatusReply};
use pushpull::wire::duration;
use std::io;

/// Shows what the daemon does, and what is wrong with it first.
#[derive(clap::Args)]
pub struct Status {}

impl Run for Status {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&request("status"))?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            print(&mut session.screen, &reply.as_type()?)?;
        }
        Ok(Ending::Done)
    }
}

fn print(screen: &mut Screen, status: &StatusReply) -> io::Result<()> {
    for warning in &status.warnings {
        let mark = if screen.colour { "\u{1b}[1;33mwarning\u{1b}[0m" } else { "warning" };
        screen.line(&format!("{mark}: {}", plain(warning)))?;
    }
    let draining = if status.draining { ", draining" } else { "" };
    let uptime = duration::render(span(status.uptime_s));
    let (version, pid) = (plain(&status.version), status.pid);
    screen
        .line(&format!("pushpulld {version}, pid {pid}, up {uptime}{draining}: {}", counts(&status.jobs)))?;
    let void = status.void_reports;
    let void = [(void.late, "late"), (void.refused, "refused"), (void.malformed, "malformed")];
    let void: Vec<String> = void
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", grouped(number)))
        .collect();
    if !void.is_empty() {
        screen.line(&format!("messages of workers that changed nothing: {}", void.join(", ")))?;
    }
    // States that few jobs are ever in have a column only when they are needed.
    let rare: Vec<&Rare> =
        RARE.iter().filter(|(_, jobs)| status.pools.iter().any(|pool| jobs(&pool.jobs) > 0)).collect();
    let mut columns = vec![Column::Text("POOL"), Column::Text("WORKERS"), Column::Number("QUEUED")];
    columns.extend(rare.iter().map(|(name, _)| Column::Number(name)));
    columns.extend(["RUNNING", "SUCCEEDED", "FAILED", "RATE", "OLDEST"].map(Column::Number));
    let mut table = Table::new(&columns);
    if !status.pools.is_empty() {
        screen.line("")?;
    }
    table.print(screen, status.pools.iter().map(|pool| row(pool, &rare)).collect())
}

/// A column's name and its number.
type Rare = (&'static str, fn(&CountsJson) -> u64);

const RARE: [Rare; 3] = [
    ("DELAYED", |jobs| jobs.delayed),
    ("BLOCKED", |jobs| jobs.blocked),
    ("CANCELLED", |jobs| jobs.cancelled),
];

fn row(pool: &PoolStatus, rare: &[&Rare]) -> Vec<Cell> {
    let jobs = &pool.jobs;
    let paused = if pool.paused { " (paused)" } else { "" };
    let mut cells = vec![
        Cell::new(format!("{}{paused}", pool.name)),
        Cell::new(workers(pool)),
        Cell::number(jobs.queued),
    ];
    cells.extend(rare.iter().map(|(_, count)| Cell::number(count(jobs))));
    cells.extend([
        Cell::number(jobs.running),
        Cell::number(jobs.succeeded),
        Cell::bad(jobs.failed),
        Cell::new(format!("{:.1}/s", pool.per_second.finished)),
        Cell::new(pool.oldest_queued_s.map(|age| duration::render(span(age))).unwrap_or_default()),
    ]);
    cells
}

/// `2/2, 1 busy`: ready of wanted, and what else there is.
fn workers(pool: &PoolStatus) -> String {
    let workers = &pool.workers;
    let rest = [(workers.busy, "busy"), (workers.starting, "starting"), (workers.backoff, "backing off")];
    let rest = rest.into_iter().filter(|(number, _)| *number > 0);
    let mut words = vec![format!("{}/{}", workers.ready, workers.wanted)];
    words.extend(rest.map(|(number, word)| format!("{number} {word}")));
    words.join(", ")
}
