//! What `--once` shows: outcomes on standard output, progress on standard error.
//!
//! A program that reads standard output gets one JSON record per line. A person at a terminal gets a line per job
//! and the ending. A closed standard output ends the talk, not the run.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pushpull::client::{Tally, columns, job_line};
use pushpull::wire::record::{Record, one_line};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Duration;

/// The two streams.
pub struct Screen {
    out: Option<BufWriter<io::Stdout>>,
    is_terminal: bool,
    quiet: bool,
    bar: ProgressBar,
}

impl Screen {
    pub fn new(quiet: bool) -> Screen {
        let is_terminal = io::stdout().is_terminal();
        Screen { out: Some(BufWriter::new(io::stdout())), is_terminal, quiet, bar: ProgressBar::hidden() }
    }

    /// There are so many jobs, of which so many had ended before.
    pub fn begin(&mut self, jobs: u64, done: u64) {
        if self.quiet || !io::stderr().is_terminal() {
            return;
        }
        let template = "{wide_bar} {human_pos}/{human_len} done{msg}, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::with_draw_target(Some(jobs), ProgressDrawTarget::stderr()).with_style(style);
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// A job has ended. Programs get all records of a run; a person has seen those that are not new.
    pub fn show(&mut self, json: &str, record: &Record, is_new: bool) {
        let line = if self.is_terminal { job_line(record) } else { one_line(json).into_owned() };
        if !self.is_terminal || (is_new && !self.quiet) {
            self.print(&line);
        }
    }

    pub fn progress(&mut self, tally: &Tally) {
        if let Some(out) = &mut self.out {
            if out.flush().is_err() {
                self.out = None;
            }
        }
        self.bar.set_position(tally.total());
        let failed = if tally.failed > 0 { format!(", {} failed", tally.failed) } else { String::new() };
        self.bar.set_message(format!("{failed}, {:.0} per second", self.bar.per_sec()));
    }

    /// All jobs have ended, or no more will.
    pub fn end(&mut self, tally: &Tally, took: Duration) {
        self.bar.finish_and_clear();
        if self.quiet {
            self.progress(tally);
            return;
        }
        let summary = tally.summary(took);
        if self.is_terminal {
            self.print(&summary);
        } else {
            let _ = writeln!(io::stderr(), "{summary}");
        }
        self.progress(tally);
    }

    fn print(&mut self, line: &str) {
        let Some(out) = &mut self.out else {
            return;
        };
        let width = columns().filter(|_| self.is_terminal).map_or(usize::MAX, usize::from);
        let printed = self.bar.suspend(|| {
            for line in line.lines() {
                writeln!(out, "{}", line.chars().take(width).collect::<String>())?;
            }
            // A bar is redrawn where the line ends, so the line must be there.
            if self.is_terminal { out.flush() } else { Ok(()) }
        });
        if printed.is_err() {
            self.out = None;
        }
    }
}
