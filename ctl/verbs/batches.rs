//! `batches`: submits, with how far each is.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::pages;
use crate::table::{Cell, Column, Table};
use crate::words::ago;
use pushpull::wire::control::BatchJson;
use pushpull::wire::record::one_line;
use std::time::SystemTime;

/// Lists the batches, the newest last.
#[derive(clap::Args)]
pub struct Batches {}

impl Run for Batches {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        let mut table = Table::new(&[
            Column::Text("BATCH"),
            Column::Long("NAME"),
            Column::Text("SUBMITTED"),
            Column::Number("JOBS"),
            Column::Number("WAITING"),
            Column::Number("RUNNING"),
            Column::Number("SUCCEEDED"),
            Column::Number("FAILED"),
            Column::Number("CANCELLED"),
        ]);
        pages::each(client, request("batches"), |page| {
            if screen.json {
                page.records.iter().try_for_each(|raw| screen.line(&one_line(raw.get())))?;
            } else {
                let rows: Vec<BatchJson> = pages::parse(&page.records)?;
                table.print(screen, rows.iter().map(row).collect())?;
            }
            Ok(!page.done)
        })?;
        if table.is_empty() {
            screen.people("0 batches")?;
        }
        Ok(Ending::Done)
    }
}

fn row(batch: &BatchJson) -> Vec<Cell> {
    let counts = &batch.counts;
    vec![
        Cell::new(format!("@{}", batch.batch)),
        Cell::new(batch.name.as_deref().unwrap_or("")),
        Cell::new(ago(&batch.submitted, SystemTime::now())),
        Cell::number(counts.total()),
        Cell::number(counts.queued + counts.delayed + counts.blocked),
        Cell::number(counts.running),
        Cell::number(counts.succeeded),
        Cell::bad(counts.failed),
        Cell::number(counts.cancelled),
    ]
}
