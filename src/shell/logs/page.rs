//! One page of the logs: the lines of several series in the order of their times, from where a reader stands.
//!
//! A page is bounded in lines, in bytes and in what may be read for it: who looks for one worker's lines in a
//! series full of others' gets empty pages that lead on, and holds nobody up.

use super::cursor::{Cursor, Place};
use super::{FOLDER, OWN_FILE, Voice, series};
use crate::config::PAGE_ROWS_MAX;
use crate::model::{PoolName, Wall};
use crate::wire::logs::{Line, WorkerWord};
use crate::wire::timestamp;
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the lines in one page.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes read for one page; each series may have one chunk whatever the others took.
const READ_BYTES_MAX: usize = 4 << 20;
/// Bytes of one read. Our own lines are shorter; a foreign one that is not is cut here.
const CHUNK_BYTES: usize = 64 << 10;
/// As long as every time is, `2026-01-31T09:30:00.123Z`.
const TIME_BYTES: usize = 24;

/// Some lines, and where it goes on.
#[derive(Debug)]
pub struct Page {
    /// JSON objects.
    pub pieces: Vec<String>,
    pub next: Cursor,
    /// What the cursor pointed at is no longer there.
    pub gap: bool,
    /// There is nothing more for now.
    pub done: bool,
}

/// Reads on from `from`.
///
/// # Errors
/// When a series is there and cannot be read.
pub fn read(home: &Path, worker: Option<&WorkerWord>, from: &Cursor) -> io::Result<Page> {
    let voices = match worker {
        Some(word) => BTreeSet::from([Voice::Pool(word.pool.clone())]),
        None => all_voices(home)?,
    };
    let mut budget = READ_BYTES_MAX;
    let mut tapes = Vec::new();
    let mut gap = false;
    for voice in voices {
        let place = from.places.get(&voice).copied();
        let (tape, is_cut) = Tape::open(home, voice, place)?;
        gap |= is_cut;
        tapes.push(tape);
    }
    let (mut pieces, mut bytes, mut done) = (Vec::new(), 0, false);
    while pieces.len() < PAGE_ROWS_MAX && bytes < PAGE_BYTES_MAX {
        let mut all_know = true;
        for tape in &mut tapes {
            all_know &= tape.find_head(worker, &mut budget)?;
        }
        if !all_know {
            break;
        }
        let with_line = tapes.iter_mut().filter(|tape| tape.head.is_some());
        let Some(tape) = with_line.min_by(|one, other| one.at.cmp(&other.at)) else {
            done = true;
            break;
        };
        let piece = tape.take_head();
        bytes += piece.len();
        pieces.push(piece);
    }
    let found = from.found || !pieces.is_empty();
    let places = tapes.into_iter().map(|tape| (tape.voice, tape.place)).collect();
    Ok(Page { pieces, next: Cursor { places, found }, gap, done })
}

/// The daemon's series and those of all pools that have one, also of pools that are no longer configured.
fn all_voices(home: &Path) -> io::Result<BTreeSet<Voice>> {
    let mut voices = BTreeSet::from([Voice::Daemon]);
    let entries = match fs::read_dir(home.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(voices),
        entries => entries?,
    };
    for entry in entries {
        let file = entry?.file_name();
        let name = file.to_str().and_then(|file| file.split_once(".log")).map(|(name, _)| name);
        voices.extend(name.and_then(PoolName::new).map(Voice::Pool));
    }
    Ok(voices)
}

/// Where a voice's series is: its folder and its file's name.
pub fn location(home: &Path, voice: &Voice) -> (PathBuf, String) {
    match voice {
        Voice::Daemon => (home.to_owned(), OWN_FILE.to_owned()),
        Voice::Pool(pool) => (home.join(FOLDER), format!("{pool}.log")),
    }
}

/// One series being read.
struct Tape {
    voice: Voice,
    /// The one that is read, then those behind it. Never empty.
    volumes: VecDeque<(u64, PathBuf)>,
    file: Option<File>,
    /// The first byte that has been neither given out nor passed over.
    place: Place,
    /// What has been read from there on.
    buffer: Vec<u8>,
    /// How much of it is behind `place`.
    used: usize,
    /// The next wanted line's length in the buffer, and that with its end.
    head: Option<(usize, usize)>,
    /// The time of the head, or of the line before one that has none.
    at: String,
    has_read: bool,
}

impl Tape {
    /// Goes to a place. True if that is no longer there, so that it begins behind it.
    fn open(home: &Path, voice: Voice, place: Option<Place>) -> io::Result<(Tape, bool)> {
        let (folder, name) = location(home, &voice);
        let mut volumes: VecDeque<(u64, PathBuf)> = match series::volumes(&folder, &name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                VecDeque::from([(1, folder.join(&name))])
            }
            volumes => volumes?.into(),
        };
        let mut gap = false;
        let mut start = Place { volume: volumes[0].0, offset: 0 };
        if let Some(place) = place {
            let is_ahead = volumes.iter().all(|(volume, _)| *volume < place.volume);
            while !is_ahead && volumes[0].0 < place.volume {
                volumes.pop_front();
            }
            let length = volumes[0].1.metadata().map_or(0, |found| found.len());
            gap = volumes[0].0 != place.volume || length < place.offset;
            start = if gap { Place { volume: volumes[0].0, offset: 0 } } else { place };
        }
        let mut tape = Tape {
            voice,
            volumes,
            file: None,
            place: start,
            buffer: Vec::new(),
            used: 0,
            head: None,
            at: String::new(),
            has_read: false,
        };
        tape.open_file()?;
        tape.leave_broken_line()?;
        Ok((tape, gap))
    }

    /// Opens the first volume; the newest may not be there yet.
    fn open_file(&mut self) -> io::Result<()> {
        let path = &self.volumes[0].1;
        // What somebody has put in its place is no log of ours.
        let is_other = path.symlink_metadata().is_ok_and(|found| !found.is_file());
        self.file = match File::open(path) {
            Ok(_) if is_other => None,
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if self.at.is_empty() {
            let changed = self.file.as_ref().and_then(|file| file.metadata().ok()?.modified().ok());
            let since =
                changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
            self.at = timestamp::render(Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
        }
        Ok(())
    }

    /// A place inside a line, as only an invented cursor has it, is moved to the next.
    fn leave_broken_line(&mut self) -> io::Result<()> {
        let (Some(file), true) = (&self.file, self.place.offset > 0) else {
            return Ok(());
        };
        let mut before = [0];
        if file.read_at(&mut before, self.place.offset - 1)? == 1 && before != *b"\n" {
            self.fill()?;
            let end = self.line_end().map_or(self.buffer.len(), |(_, whole)| whole);
            self.pass_over(end);
        }
        Ok(())
    }

    /// Looks for the next wanted line. False if it is not known whether there is one, for want of budget.
    fn find_head(&mut self, worker: Option<&WorkerWord>, budget: &mut usize) -> io::Result<bool> {
        while self.head.is_none() {
            let Some((length, whole)) = self.line_end() else {
                if self.has_read && *budget < CHUNK_BYTES {
                    return Ok(false);
                }
                let count = self.fill()?;
                *budget = budget.saturating_sub(count);
                if count == 0 && !self.end_volume()? {
                    return Ok(true);
                }
                continue;
            };
            let line = &self.buffer[self.used..self.used + length];
            if length == 0 || worker.is_some_and(|word| !word.means(worker_of(line))) {
                self.pass_over(whole);
                continue;
            }
            if let Some(at) = time_of(line) {
                self.at = at.to_owned();
            }
            self.head = Some((length, whole));
        }
        Ok(true)
    }

    /// The head as a piece; the tape goes on behind it.
    fn take_head(&mut self) -> String {
        let (length, whole) = self.head.take().unwrap_or_default();
        let line = &self.buffer[self.used..self.used + length];
        let piece = parse(&self.voice, &self.at, line).render();
        self.pass_over(whole);
        piece
    }

    fn pass_over(&mut self, bytes: usize) {
        self.used += bytes;
        self.place.offset += bytes as u64;
    }

    /// The length of the line at the start of what is unread, and that with its end.
    fn line_end(&self) -> Option<(usize, usize)> {
        let unread = &self.buffer[self.used..];
        match unread.iter().position(|byte| *byte == b'\n') {
            Some(end) => Some((end, end + 1)),
            None if unread.len() >= CHUNK_BYTES => Some((unread.len(), unread.len())),
            None => None,
        }
    }

    /// Reads some more of this volume; how many bytes.
    fn fill(&mut self) -> io::Result<usize> {
        self.has_read = true;
        let Some(file) = &self.file else {
            return Ok(0);
        };
        self.buffer.drain(..self.used);
        self.used = 0;
        let unread = self.buffer.len();
        self.buffer.resize(unread + CHUNK_BYTES, 0);
        let read = file.read_at(&mut self.buffer[unread..], self.place.offset + unread as u64);
        self.buffer.truncate(unread + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Goes on with the next volume. False if this is the newest; then a line that has no end yet may get one.
    fn end_volume(&mut self) -> io::Result<bool> {
        if self.volumes.len() == 1 {
            return Ok(false);
        }
        self.volumes.pop_front();
        self.place = Place { volume: self.volumes[0].0, offset: 0 };
        self.buffer.clear();
        self.used = 0;
        self.open_file()?;
        Ok(true)
    }
}

/// A line taken apart: `TIME TEXT` of the daemon, `TIME WORKER STREAM TEXT` of a pool. What is not of this form, as
/// the last words of a daemon that crashed, is text as a whole.
fn parse<'a>(voice: &Voice, at: &'a str, line: &'a [u8]) -> Line<'a> {
    let whole = Line { at, worker: None, stream: "log", text: line };
    let Some(rest) = time_of(line).map(|_| &line[TIME_BYTES + 1..]) else {
        return whole;
    };
    match voice {
        Voice::Daemon => Line { text: rest, ..whole },
        Voice::Pool(_) => {
            let mut words = rest.splitn(3, |byte| *byte == b' ');
            let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
            match (word(), word(), words.next()) {
                (Some(worker), Some(stream), Some(text)) => Line { at, worker: Some(worker), stream, text },
                _ => whole,
            }
        }
    }
}

/// The time that a line begins with.
fn time_of(line: &[u8]) -> Option<&str> {
    let is_time = line.len() > TIME_BYTES
        && line[TIME_BYTES] == b' '
        && (line[4], line[10], line[TIME_BYTES - 1]) == (b'-', b'T', b'Z');
    if is_time { std::str::from_utf8(&line[..TIME_BYTES]).ok() } else { None }
}

/// The worker that a line of a pool names.
fn worker_of(line: &[u8]) -> &str {
    let rest = line.get(TIME_BYTES + 1..).unwrap_or_default();
    let word = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(word).unwrap_or_default()
}

#[cfg(test)]
mod tests;
