//! What became of many jobs, in a few lines for people.

use crate::wire::duration;
use crate::wire::record::Record;
use std::collections::BTreeMap;
use std::time::Duration;

/// Failures that are told one by one.
const FAILURES_SHOWN: usize = 20;
/// Characters of a command or a message that are shown.
const TEXT_SHOWN: usize = 60;

/// Finished jobs, counted, and the first failures.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    causes: BTreeMap<String, u64>,
    failures: Vec<String>,
}

impl Tally {
    /// Counts a finished job.
    pub fn add(&mut self, record: &Record) {
        match record.state.as_str() {
            "succeeded" => self.succeeded += 1,
            "cancelled" => self.cancelled += 1,
            _ => {
                self.failed += 1;
                let cause = record.cause.clone().unwrap_or_default();
                *self.causes.entry(cause).or_default() += 1;
                if self.failures.len() < FAILURES_SHOWN {
                    self.failures.push(job_line(record));
                }
            }
        }
    }

    /// Jobs counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    /// As in `5,000 jobs: 4,983 succeeded, 17 failed (14 exit, 3 timeout) in 1h12m`, and a line for each of the
    /// first failures.
    #[must_use]
    pub fn summary(&self, took: Duration) -> String {
        let jobs = if self.total() == 1 { "job" } else { "jobs" };
        let mut text = format!("{} {jobs}: {} succeeded", thousands(self.total()), thousands(self.succeeded));
        if self.failed > 0 {
            let causes: Vec<String> =
                self.causes.iter().map(|(cause, jobs)| format!("{} {cause}", thousands(*jobs))).collect();
            text += &format!(", {} failed ({})", thousands(self.failed), causes.join(", "));
        }
        if self.cancelled > 0 {
            text += &format!(", {} cancelled", thousands(self.cancelled));
        }
        text += &format!(" in {}", duration::render(rounded(took)));
        for failure in &self.failures {
            text += &format!("\n  {failure}");
        }
        let hidden = self.failed.saturating_sub(self.failures.len() as u64);
        if hidden > 0 {
            text += &format!("\n  and {} more failures", thousands(hidden));
        }
        text
    }
}

/// One finished job in one line: its number, how it ended, what it was, and the last thing it said.
#[must_use]
pub fn job_line(record: &Record) -> String {
    let end = match (&record.error, record.cause.as_deref()) {
        (Some(error), Some("exit")) => error.replace("exit status", "exit"),
        (Some(error), Some(_)) => error.clone(),
        (None, Some(cause)) => cause.to_owned(),
        (_, None) => record.state.clone(),
    };
    let what = record.name.clone().unwrap_or_else(|| command(record));
    let mut line = format!("#{} {}  {}", record.id, shorten(&end), shorten(&what));
    if let Some(said) = last_words(record) {
        line += &format!("   {}", shorten(&said));
    }
    line
}

fn command(record: &Record) -> String {
    let Some(run) = &record.run else {
        return String::new();
    };
    match serde_json::from_str::<serde_json::Value>(run.get()) {
        Ok(serde_json::Value::String(line)) => line,
        Ok(serde_json::Value::Array(words)) => {
            let words: Vec<&str> = words.iter().filter_map(serde_json::Value::as_str).collect();
            words.join(" ")
        }
        Ok(_) | Err(_) => String::new(),
    }
}

/// The last line of a command's standard error, else of its standard output.
fn last_words(record: &Record) -> Option<String> {
    let result: serde_json::Value = serde_json::from_str(record.result.as_ref()?.get()).ok()?;
    let last = |stream: &str| {
        let text = result.get(stream)?.as_str()?;
        text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
    };
    last("stderr").or_else(|| last("stdout"))
}

/// One line of at most so many characters, without anything that a terminal would act on.
fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.trim();
    if line.chars().count() <= TEXT_SHOWN {
        return line.to_owned();
    }
    let head: String = line.chars().take(TEXT_SHOWN - 1).collect();
    format!("{head}…")
}

/// Short times to the hundredth of a second, longer ones to the second.
fn rounded(took: Duration) -> Duration {
    let step = if took < Duration::from_secs(10) { 10 } else { 1_000 };
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / step * step)
}

/// A number with a comma every three digits.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, state: &str, cause: Option<&str>, error: Option<&str>, result: &str) -> Record {
        let cause = serde_json::to_string(&cause).unwrap();
        let error = serde_json::to_string(&error).unwrap();
        let text = format!(
            r#"{{"id":{id},"batch":1,"index":0,"name":null,"key":null,"pool":"default","run":"fit --seed {id}","state":"{state}","attempts":1,"crashes":0,"cause":{cause},"error":{error},"result":{result},"worker":null,"submitted":"2026-01-31T09:30:00.123Z","started":null,"finished":null,"priority":0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_summary_counts_and_names_the_failures() {
        let mut tally = Tally::default();
        for id in 0..4_983 {
            tally.add(&record(id, "succeeded", None, None, "null"));
        }
        let said = r#"{"exit":1,"stderr":"Traceback\nValueError: singular matrix\n","stdout":"ok\n"}"#;
        tally.add(&record(117, "failed", Some("exit"), Some("exit status 1"), said));
        let summary = tally.summary(Duration::from_secs(4_320));
        assert_eq!(
            summary,
            "4,984 jobs: 4,983 succeeded, 1 failed (1 exit) in 1h12m\n  #117 exit 1  fit --seed 117   ValueError: singular matrix"
        );
    }

    #[test]
    fn long_lists_and_long_lines_are_cut() {
        let mut tally = Tally::default();
        for id in 0..30 {
            tally.add(&record(id, "failed", Some("error"), Some(&"x\u{1b}[31m".repeat(50)), "null"));
        }
        let summary = tally.summary(Duration::from_millis(1_234));
        assert!(summary.ends_with("and 10 more failures"));
        assert!(summary.lines().all(|line| line.chars().count() < 160 && !line.contains('\u{1b}')));
    }

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
