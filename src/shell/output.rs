//! What a worker prints, line by line.
//!
//! A worker must never wait because nobody reads, and must never fill the daemon's memory or log. So its pipe is
//! always read, a bounded amount per turn; a line has a limit; and when a stream prints more than its allowance,
//! the rest is counted and dropped, but for the last lines, which are kept as evidence of how it ended.

use crate::model::Mono;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Bytes read in one turn of the loop.
pub const TURN_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a line; what is longer is cut and says so.
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Lines, and their bytes, kept as evidence.
pub const TAIL_LINES_MAX: usize = 50;
pub const TAIL_BYTES_MAX: usize = 8 * 1024;

/// Lines and bytes of one stream that are passed on in [`ALLOWANCE_PERIOD`].
pub const ALLOWANCE_LINES: u64 = 10_000;
pub const ALLOWANCE_BYTES: u64 = 4 * 1024 * 1024;
pub const ALLOWANCE_PERIOD: Duration = Duration::from_secs(1);

/// How a turn of reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// The pipe is empty for now.
    Empty,
    /// The turn was used up; there may be more.
    More,
    /// Nobody has the other end any more.
    Closed,
}

/// One stream of one worker.
#[derive(Debug)]
pub struct Output {
    pipe: File,
    /// The line that has begun, at most [`LINE_BYTES_MAX`] of it.
    line: Vec<u8>,
    /// Bytes of it that were cut.
    cut: u64,
    tail: VecDeque<String>,
    tail_bytes: usize,
    allowance: Allowance,
}

/// What may still be passed on in this period.
#[derive(Debug, Default)]
struct Allowance {
    began: Mono,
    lines: u64,
    bytes: u64,
    /// Lines dropped since the last that was passed on.
    unreported: u64,
    /// All lines dropped.
    dropped: u64,
}

impl Output {
    /// A new pipe: the daemon's end, and the one for the worker.
    pub fn new() -> io::Result<(Output, OwnedFd)> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        // Only this end: the worker's must block, programs do not expect anything else.
        let flags = OFlag::from_bits_retain(fcntl(&reader, FcntlArg::F_GETFL)?);
        fcntl(&reader, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let output = Output {
            pipe: File::from(reader),
            line: Vec::new(),
            cut: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            allowance: Allowance::default(),
        };
        Ok((output, writer))
    }

    /// Reads at most [`TURN_BYTES_MAX`] and gives whole lines to `sink`, without their ends. Never blocks. After
    /// `Closed` or an error the stream is over.
    pub fn read_some(&mut self, now: Mono, sink: &mut dyn FnMut(&[u8])) -> io::Result<ReadState> {
        let mut chunk = [0; 16 * 1024];
        let mut left = TURN_BYTES_MAX;
        while left > 0 {
            let room = left.min(chunk.len());
            match self.pipe.read(&mut chunk[..room]) {
                Ok(0) => return Ok(ReadState::Closed),
                Ok(count) => {
                    left -= count;
                    self.take(&chunk[..count], now, sink);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ReadState::Empty),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ReadState::More)
    }

    /// Passes on what is left when the worker has gone: a last line without an end, and how much was dropped.
    pub fn finish(&mut self, now: Mono, sink: &mut dyn FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end_line(now, sink);
        }
        self.allowance.report_dropped(sink);
    }

    /// When to call [`Output::say_dropped`], if lines were dropped and nobody was told.
    pub fn dropped_due(&self) -> Option<Mono> {
        (self.allowance.unreported > 0).then(|| self.allowance.began + ALLOWANCE_PERIOD)
    }

    /// Says how much was dropped of a stream that has fallen silent since.
    pub fn say_dropped(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.allowance.report_dropped(sink);
    }

    /// The last lines, oldest first, also those that were dropped from the log.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// Lines that were dropped because there were too many.
    pub fn dropped(&self) -> u64 {
        self.allowance.dropped
    }

    fn take(&mut self, mut bytes: &[u8], now: Mono, sink: &mut dyn FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend_line(&bytes[..end]);
            self.end_line(now, sink);
            bytes = &bytes[end + 1..];
        }
        self.extend_line(bytes);
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(LINE_BYTES_MAX - self.line.len());
        self.line.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }

    fn end_line(&mut self, now: Mono, sink: &mut dyn FnMut(&[u8])) {
        if self.cut > 0 {
            self.cut_at_a_character();
            let remark = format!(" [{} bytes cut]", self.cut);
            self.line.extend_from_slice(remark.as_bytes());
        }
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if self.allowance.permits(line.len() as u64, now, sink) {
            sink(line);
        }
        let text = String::from_utf8_lossy(line).into_owned();
        self.line.clear();
        self.cut = 0;
        self.keep(text);
    }

    /// Text stays text when it is cut inside a character.
    fn cut_at_a_character(&mut self) {
        if let Err(error) = std::str::from_utf8(&self.line) {
            if error.error_len().is_none() {
                self.cut += (self.line.len() - error.valid_up_to()) as u64;
                self.line.truncate(error.valid_up_to());
            }
        }
    }

    fn keep(&mut self, text: String) {
        self.tail_bytes += text.len();
        self.tail.push_back(text);
        // The very last line stays, though it be longer than all that is allowed.
        while self.tail.len() > TAIL_LINES_MAX || (self.tail_bytes > TAIL_BYTES_MAX && self.tail.len() > 1) {
            let oldest = self.tail.pop_front();
            self.tail_bytes -= oldest.map_or(0, |line| line.len());
        }
    }
}

/// Readable when there is something to read, or nobody to write.
impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Allowance {
    fn permits(&mut self, bytes: u64, now: Mono, sink: &mut dyn FnMut(&[u8])) -> bool {
        if now.since(self.began) >= ALLOWANCE_PERIOD {
            self.began = now;
            (self.lines, self.bytes) = (0, 0);
        }
        if self.lines >= ALLOWANCE_LINES || self.bytes >= ALLOWANCE_BYTES {
            self.unreported += 1;
            self.dropped += 1;
            return false;
        }
        self.report_dropped(sink);
        self.lines += 1;
        self.bytes += bytes;
        true
    }

    fn report_dropped(&mut self, sink: &mut dyn FnMut(&[u8])) {
        if self.unreported > 0 {
            sink(format!("[{} lines dropped: too many at once]", self.unreported).as_bytes());
            self.unreported = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::io::Write;

    /// Writes `text` to a pipe, reads it to its end, and returns the lines and the stream.
    fn read_all(text: &[u8]) -> (Vec<String>, Output) {
        let (mut output, writer) = Output::new().expect("a pipe");
        let text = text.to_vec();
        let feeder = std::thread::spawn(move || File::from(writer).write_all(&text));
        let mut lines = Vec::new();
        let mut sink = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        while output.read_some(Mono(0), &mut sink).expect("the pipe is ours") != ReadState::Closed {
            let mut entry = [nix::poll::PollFd::new(output.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut entry, nix::poll::PollTimeout::NONE).expect("no signals here");
        }
        output.finish(Mono(0), &mut sink);
        feeder.join().expect("no panic").expect("the pipe takes everything");
        (lines, output)
    }

    #[test]
    fn lines_come_whole_and_without_their_ends() {
        let (lines, output) = read_all(b"one\r\n\ntwo \xff\nlast");
        assert_eq!(lines, ["one", "", "two \u{fffd}", "last"]);
        assert_eq!(output.tail().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_line_in_pieces_is_one_line() {
        let (mut output, writer) = Output::new().expect("a pipe");
        let mut writer = File::from(writer);
        let mut lines = Vec::new();
        for (piece, state) in [("ab", 0), ("c\nd", 1), ("\n", 2)] {
            writer.write_all(piece.as_bytes()).expect("room in the pipe");
            let read =
                output.read_some(Mono(0), &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
            assert_eq!(read.expect("the pipe is ours"), ReadState::Empty);
            assert_eq!(lines.len(), state);
        }
        assert_eq!(lines, ["abc", "d"]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_how_much() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 1000];
        text.extend_from_slice(b"\nnext\n");
        let (lines, _) = read_all(&text);
        assert_eq!(lines, [format!("{} [1000 bytes cut]", "x".repeat(LINE_BYTES_MAX)), "next".to_owned()]);
    }

    #[test]
    fn a_line_of_text_is_cut_between_characters() {
        let mut text = format!("x{}", "ü".repeat(LINE_BYTES_MAX)).into_bytes();
        text.push(b'\n');
        let (mut output, writer) = Output::new().expect("a pipe");
        File::from(writer).write_all(&text).expect("room in the pipe");
        let mut lines = Vec::new();
        output.read_some(Mono(0), &mut |line| lines.push(line.to_vec())).expect("the pipe is ours");
        let line = String::from_utf8(lines.remove(0)).expect("it was text");
        assert!(line.ends_with("ü [8194 bytes cut]"), "{}", &line[line.len() - 40..]);
    }

    #[test]
    fn a_turn_is_bounded() {
        let (mut output, writer) = Output::new().expect("a pipe");
        let flood =
            std::thread::spawn(move || File::from(writer).write_all(&vec![b'\n'; 4 * TURN_BYTES_MAX]));
        let mut lines = 0;
        loop {
            let before = lines;
            let state = output.read_some(Mono(0), &mut |_| lines += 1).expect("the pipe is ours");
            assert!(lines - before <= TURN_BYTES_MAX);
            if state == ReadState::Closed {
                break;
            }
            let mut entry = [nix::poll::PollFd::new(output.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut entry, nix::poll::PollTimeout::NONE).expect("no signals here");
        }
        flood.join().expect("no panic").expect("the writer never fails");
        assert_eq!(lines as u64, ALLOWANCE_LINES);
        assert_eq!(output.dropped(), 4 * TURN_BYTES_MAX as u64 - ALLOWANCE_LINES);
    }

    #[test]
    fn a_flood_is_counted_and_its_last_lines_are_kept() {
        let mut text = String::new();
        for number in 0..ALLOWANCE_LINES + 500 {
            writeln!(text, "{number}").expect("a string takes everything");
        }
        let (lines, output) = read_all(text.as_bytes());
        assert_eq!(lines.len() as u64, ALLOWANCE_LINES + 1);
        assert_eq!(lines.last().expect("there are many"), "[500 lines dropped: too many at once]");
        assert_eq!(output.dropped(), 500);
        let tail: Vec<&str> = output.tail().collect();
        assert_eq!(tail.len(), TAIL_LINES_MAX);
        assert_eq!(tail.last(), Some(&"10499"));
    }

    #[test]
    fn after_a_flood_the_next_period_passes_lines_again() {
        let (mut output, writer) = Output::new().expect("a pipe");
        output.allowance.lines = ALLOWANCE_LINES;
        let mut writer = File::from(writer);
        let mut lines = Vec::new();
        for (text, now) in [("lost\n", 0), ("kept\n", 1_000_000_000)] {
            writer.write_all(text.as_bytes()).expect("room in the pipe");
            output
                .read_some(Mono(now), &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()))
                .expect("the pipe is ours");
        }
        assert_eq!(lines, ["[1 lines dropped: too many at once]", "kept"]);
    }

    #[test]
    fn the_tail_is_bounded_in_bytes_but_keeps_the_last_line() {
        let long = "y".repeat(LINE_BYTES_MAX - 10);
        let (_, output) = read_all(format!("first\n{long}\nshort\n{long}{long}").as_bytes());
        let tail: Vec<usize> = output.tail().map(str::len).collect();
        assert_eq!(tail, [LINE_BYTES_MAX + " [8172 bytes cut]".len()]);
    }
}
