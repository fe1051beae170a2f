//! Tells what became of the jobs, each once and in the order of finishing, and remembers how far it has come.

use super::screen::Screen;
use pushpull::client::Tally;
use pushpull::wire::record::Record;
use std::time::Instant;

/// How much has been told.
pub struct Teller {
    screen: Screen,
    began: Instant,
    tally: Tally,
    has_begun: bool,
    /// So many jobs had ended before this process began.
    done_before: u64,
    failed_since: u64,
    /// Where the next look for outcomes begins, JSON as in the request `results`.
    pub after: String,
}

impl Teller {
    pub fn new(quiet: bool) -> Teller {
        Teller {
            screen: Screen::new(quiet),
            began: Instant::now(),
            tally: Tally::default(),
            has_begun: false,
            done_before: 0,
            failed_since: 0,
            after: "null".to_owned(),
        }
    }

    /// There are so many jobs, of which so many had ended before.
    pub fn begin(&mut self, jobs: u64, done: u64) {
        self.has_begun = true;
        self.done_before = done;
        self.screen.begin(jobs, done);
    }

    /// A job has ended.
    ///
    /// # Errors
    /// When `json` is no record.
    pub fn tell(&mut self, json: &str) -> Result<(), serde_json::Error> {
        let record: Record = serde_json::from_str(json)?;
        let is_new = self.tally.total() >= self.done_before;
        self.tally.add(&record);
        self.failed_since += u64::from(is_new && record.state == "failed");
        self.screen.show(json, &record, is_new);
        Ok(())
    }

    /// What was told is to be seen.
    pub fn show_progress(&mut self) {
        self.screen.progress(&self.tally);
    }

    /// Nothing more will be told.
    pub fn end(&mut self) {
        if self.has_begun {
            self.screen.end(&self.tally, self.began.elapsed());
        }
    }

    /// Whether the jobs were accepted.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Jobs told of, those of before too.
    pub fn told(&self) -> u64 {
        self.tally.total()
    }

    /// Jobs that failed since this process began.
    pub fn failed_since(&self) -> u64 {
        self.failed_since
    }

    /// Whether every job that was told of has succeeded.
    pub fn all_succeeded(&self) -> bool {
        self.tally.failed + self.tally.cancelled == 0
    }
}
