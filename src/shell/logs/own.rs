//! What the daemon itself says: to standard error, and to its own series when that is open.
//!
//! A daemon in the background has its series as standard error. Then each line goes there once, and workers' lines,
//! which people see on a terminal, go to their pools' series alone.

use super::pen::{self, Pen};
use super::{OWN_FILE, Voice};
use log::{Level, Log, Metadata, Record};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The target of lines that a worker has written.
const WORKER: &str = "worker";

/// Lines said before the series is open, which go there then.
const EARLY_LINES_MAX: usize = 1_000;

/// Bytes of a line; what is longer is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Where the daemon's own lines go besides standard error.
static OWN: Mutex<Own> = Mutex::new(Own::Early(Vec::new()));

enum Own {
    /// The series is not open yet.
    Early(Vec<String>),
    Kept {
        pen: Pen,
        /// Standard error is the series.
        is_stderr: bool,
    },
    /// Nowhere else.
    Over,
}

/// Makes this the log of the program; `filter` says which lines are wanted.
///
/// # Panics
/// When the program has a log already.
pub fn install(filter: env_logger::Logger) {
    let level = filter.filter();
    let speaker = Speaker { filter, is_journal: is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) };
    log::set_boxed_logger(Box::new(speaker)).expect("the log is set up once");
    log::set_max_level(level);
}

/// The series is open in `home`. True if it is our standard error.
pub(super) fn keep(home: &Path, pen: &Pen) -> bool {
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    let stderr = std::fs::metadata("/proc/self/fd/2").map(identity);
    let series = home.join(OWN_FILE).symlink_metadata().map(identity);
    let is_stderr = matches!((stderr, series), (Ok(stderr), Ok(series)) if stderr == series);
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = Own::Kept { pen: pen.clone(), is_stderr };
    if let Own::Early(lines) = std::mem::replace(&mut *own, kept) {
        if !is_stderr && !lines.is_empty() {
            let count = lines.len() as u64;
            pen.write(Voice::Daemon, lines.concat().into_bytes(), count);
        }
    }
    is_stderr
}

/// From now on there is standard error alone.
pub(super) fn leave() {
    *OWN.lock().unwrap_or_else(PoisonError::into_inner) = Own::Over;
}

struct Speaker {
    filter: env_logger::Logger,
    /// Standard error is read by journald, which has its own times and takes priorities.
    is_journal: bool,
}

impl Log for Speaker {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_heard = metadata.target() != WORKER || !matches!(*own, Own::Kept { is_stderr: true, .. });
        is_heard && self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.filter.matches(record) {
            return;
        }
        let text = on_one_line(&record.args().to_string());
        let word = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        let line = format!("{} {word}{text}\n", pen::now());
        if record.target() == WORKER || !keep_line(&line) {
            if self.is_journal {
                say(&format!("<{}>{text}\n", priority(record.level())));
            } else {
                say(&line);
            }
        }
    }

    fn flush(&self) {}
}

/// Passes a line on to the series. True if that is all that is to be done with it.
fn keep_line(line: &str) -> bool {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *own {
        Own::Early(lines) => {
            if lines.len() < EARLY_LINES_MAX {
                lines.push(line.to_owned());
            }
            false
        }
        Own::Kept { pen, is_stderr } => pen.write(Voice::Daemon, line.as_bytes().to_vec(), 1) && *is_stderr,
        Own::Over => false,
    }
}

/// One write, so that lines of several threads do not mix. If nobody can hear it, nothing is lost.
fn say(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// As syslog numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether `stream`, a device and an inode, names our standard error.
fn is_journal(stream: Option<&str>) -> bool {
    let numbers = stream.and_then(|stream| {
        let (device, inode) = stream.split_once(':')?;
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let stderr = std::fs::metadata("/proc/self/fd/2").map(|found| (found.dev(), found.ino()));
    matches!((numbers, stderr), (Some(numbers), Ok(stderr)) if numbers == stderr)
}

/// `text` without what ends a line or steers a terminal, and not too long.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push_str(" [cut]");
            break;
        }
        if letter.is_control() && letter != '\t' {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_steers_no_terminal() {
        assert_eq!(on_one_line("a\tb\nc\u{1b}[31m"), "a\tb\\nc\\u{1b}[31m");
        assert_eq!(
            on_one_line(&"x".repeat(LINE_BYTES_MAX * 2)),
            format!("{} [cut]", "x".repeat(LINE_BYTES_MAX))
        );
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let found = std::fs::metadata("/proc/self/fd/2").expect("standard error is open");
        assert!(is_journal(Some(&format!("{}:{}", found.dev(), found.ino()))));
        assert!(!is_journal(Some(&format!("{}:{}", found.dev(), found.ino() + 1))));
        for other in [None, Some(""), Some("8"), Some("8:x")] {
            assert!(!is_journal(other), "{other:?}");
        }
    }

    #[test]
    fn priorities_are_those_of_syslog() {
        assert_eq!([Level::Error, Level::Warn, Level::Info, Level::Debug].map(priority), [3, 4, 6, 7]);
    }
}
