//! A series of files that one voice's lines go to: the newest is written, the oldest is deleted.
//!
//! ```text
//! default.log.6   default.log.7   default.log        rotation: default.log becomes default.log.8
//! (oldest)                        (volume 8)
//! ```
//!
//! Volumes are counted upwards and keep their number, so that a reader who comes back finds its place again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much a series keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Files besides the one that is written.
    pub backups: usize,
}

/// The writing end of a series.
#[derive(Debug)]
pub struct Series {
    directory: PathBuf,
    name: String,
    limits: Limits,
    /// Our own standard error goes to this series.
    is_stderr: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    volume: u64,
    bytes: u64,
    /// The last write broke off inside a line.
    is_torn: bool,
}

impl Series {
    /// A series that is opened when there is something to write.
    pub fn new(directory: &Path, name: String, limits: Limits) -> Series {
        Series { directory: directory.to_owned(), name, limits, is_stderr: false, open: None }
    }

    /// Holds from the next line on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// From now on our standard error is this series' newest file, whichever that is.
    pub fn carry_stderr(&mut self) {
        self.is_stderr = true;
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// How many lines are lost, and why. The next call tries afresh.
    pub fn append(&mut self, text: &[u8]) -> Result<(), Lost> {
        let mut rest = text;
        while !rest.is_empty() {
            match self.append_some(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    if let Some(open) = &mut self.open {
                        open.is_torn = true;
                    }
                    return Err(Lost { lines: count_lines(rest), error });
                }
            }
        }
        Ok(())
    }

    /// Writes as many whole lines as the newest file has room for; how many bytes that were.
    fn append_some(&mut self, text: &[u8]) -> io::Result<usize> {
        self.ensure_open()?;
        let Some(open) = &mut self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let room =
            usize::try_from(self.limits.file_bytes_max.saturating_sub(open.bytes)).unwrap_or(usize::MAX);
        let fits = whole_lines(text, room);
        if fits == 0 && open.bytes > 0 {
            self.rotate()?;
            return Ok(0);
        }
        // A single line longer than a file is allowed to be gets a file of its own.
        let count = if fits == 0 { first_line(text) } else { fits };
        if open.is_torn {
            open.file.write_all(b"\n")?;
            open.bytes += 1;
            open.is_torn = false;
        }
        open.file.write_all(&text[..count])?;
        open.bytes += count as u64;
        Ok(count)
    }

    /// Opens the newest file, and again if somebody has moved or deleted it.
    fn ensure_open(&mut self) -> io::Result<()> {
        let path = self.directory.join(&self.name);
        if let Some(open) = &self.open {
            let held = open.file.metadata()?;
            let is_still = path
                .symlink_metadata()
                .is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino()));
            if is_still {
                return Ok(());
            }
            self.open = None;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path)?;
        let bytes = file.metadata()?.len();
        let is_torn = bytes > 0 && {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            last != *b"\n"
        };
        if self.is_stderr {
            // SAFETY: both descriptors are open; nobody closes standard error in between.
            unsafe { libc::dup2(file.as_raw_fd(), libc::STDERR_FILENO) };
        }
        let volume = newest_volume(&self.directory, &self.name)?;
        self.open = Some(Open { file, volume, bytes, is_torn });
        Ok(())
    }

    /// Gives the newest file its number and deletes what is too much.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let path = self.directory.join(&self.name);
        fs::rename(&path, numbered(&self.directory, &self.name, open.volume))?;
        let mut old = old_volumes(&self.directory, &self.name)?;
        // With no backups at all the youngest stays until the next rotation: its number must not be given again.
        let keep = self.limits.backups.max(1);
        while old.len() > keep {
            fs::remove_file(numbered(&self.directory, &self.name, old.remove(0)))?;
        }
        if self.limits.backups == 0 {
            let youngest = numbered(&self.directory, &self.name, open.volume);
            OpenOptions::new().write(true).truncate(true).open(youngest)?;
        }
        Ok(())
    }
}

/// Lines that could not be written.
#[derive(Debug)]
pub struct Lost {
    pub lines: u64,
    pub error: io::Error,
}

/// The files of a series that are there, oldest first, with their numbers. The newest may not be there yet.
pub fn volumes(directory: &Path, name: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let old = old_volumes(directory, name)?;
    let newest = old.last().map_or(1, |last| last + 1);
    let mut volumes: Vec<(u64, PathBuf)> =
        old.into_iter().map(|volume| (volume, numbered(directory, name, volume))).collect();
    volumes.push((newest, directory.join(name)));
    Ok(volumes)
}

/// The number of the file that is written.
fn newest_volume(directory: &Path, name: &str) -> io::Result<u64> {
    Ok(old_volumes(directory, name)?.last().map_or(1, |last| last + 1))
}

/// The numbers of the files that are no longer written, in order.
fn old_volumes(directory: &Path, name: &str) -> io::Result<Vec<u64>> {
    let mut old = Vec::new();
    for entry in fs::read_dir(directory)? {
        let file = entry?.file_name();
        let number: Option<u64> =
            file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('.')?.parse().ok());
        old.extend(number.filter(|number| *number > 0 && *number < u64::MAX));
    }
    old.sort_unstable();
    Ok(old)
}

fn numbered(directory: &Path, name: &str, volume: u64) -> PathBuf {
    directory.join(format!("{name}.{volume}"))
}

/// Bytes of the whole lines at the start of `text` that `room` bytes hold.
fn whole_lines(text: &[u8], room: usize) -> usize {
    if text.len() <= room {
        return text.len();
    }
    text[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn first_line(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1)
}

#[expect(clippy::naive_bytecount, reason = "only what could not be written is counted")]
pub fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("it is there")
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("it is there");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().into_string().expect("plain")).collect();
        names.sort();
        names
    }

    #[test]
    fn files_rotate_at_their_size_and_the_oldest_go() {
        let place = tempfile::tempdir().expect("a directory");
        let limits = Limits { file_bytes_max: 8, backups: 2 };
        let mut series = Series::new(place.path(), "a.log".to_owned(), limits);
        series.append(b"one\ntwo\nthree\n4\n5\nsix\nseven\n").expect("the disk has room");
        assert_eq!(names(place.path()), ["a.log", "a.log.2", "a.log.3"]);
        assert_eq!(read(&place.path().join("a.log.2")), "three\n4\n");
        assert_eq!(read(&place.path().join("a.log.3")), "5\nsix\n");
        assert_eq!(read(&place.path().join("a.log")), "seven\n");
        let found: Vec<u64> =
            volumes(place.path(), "a.log").expect("readable").into_iter().map(|(volume, _)| volume).collect();
        assert_eq!(found, [2, 3, 4]);
    }

    #[test]
    fn numbers_go_on_after_a_restart_also_without_backups() {
        let place = tempfile::tempdir().expect("a directory");
        let limits = Limits { file_bytes_max: 4, backups: 0 };
        for (text, left) in [("one\ntwo\n", "a.log.1"), ("3\n4\n5\n", "a.log.3")] {
            let mut series = Series::new(place.path(), "a.log".to_owned(), limits);
            series.append(text.as_bytes()).expect("the disk has room");
            assert_eq!(names(place.path()).last().map(String::as_str), Some(left));
            assert_eq!(read(&place.path().join(left)), "", "nothing is kept of it");
        }
        assert_eq!(read(&place.path().join("a.log")), "5\n");
    }

    #[test]
    fn a_line_that_broke_off_is_ended_before_the_next() {
        let place = tempfile::tempdir().expect("a directory");
        fs::write(place.path().join("a.log"), "broken").expect("it is ours");
        let limits = Limits { file_bytes_max: 100, backups: 1 };
        let mut series = Series::new(place.path(), "a.log".to_owned(), limits);
        series.append(b"whole\n").expect("the disk has room");
        assert_eq!(read(&place.path().join("a.log")), "broken\nwhole\n");
    }

    #[test]
    fn a_file_that_somebody_took_away_is_made_again_and_a_place_that_is_gone_costs_lines_only() {
        let place = tempfile::tempdir().expect("a directory");
        let inner = place.path().join("logs");
        fs::create_dir(&inner).expect("it is ours");
        let limits = Limits { file_bytes_max: 100, backups: 1 };
        let mut series = Series::new(&inner, "a.log".to_owned(), limits);
        series.append(b"one\n").expect("the disk has room");
        fs::remove_file(inner.join("a.log")).expect("it is ours");
        series.append(b"two\n").expect("the disk has room");
        assert_eq!(read(&inner.join("a.log")), "two\n");
        fs::remove_dir_all(&inner).expect("it is ours");
        assert_eq!(series.append(b"three\nfour\n").expect_err("no directory").lines, 2);
        fs::create_dir(&inner).expect("it is ours");
        series.append(b"five\n").expect("the directory is back");
        assert_eq!(read(&inner.join("a.log")), "five\n");
    }
}
