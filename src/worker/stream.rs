//! One of the two streams that a command writes: read without ever waiting, kept in part, written out in whole.

use super::capture::Capture;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// How much is read for one stream in one turn.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// How much is read at the end, when nobody should write any more. No pipe holds more, unless root made it.
const REST_BYTES_MAX: usize = 1024 * 1024;

/// A command's standard output or error.
#[derive(Debug)]
pub struct Stream {
    /// `None` when nobody writes any more.
    pipe: Option<File>,
    capture: Capture,
    file: Option<File>,
    /// Why the stream is not whole in its file.
    file_error: Option<io::Error>,
}

/// What is known when a stream has ended.
#[derive(Debug)]
pub struct Ended {
    pub capture: Capture,
    pub file_error: Option<io::Error>,
}

impl Stream {
    /// A stream that is read from `pipe` and written to `file` as well, if there is one.
    pub fn new(pipe: OwnedFd, file: Option<File>) -> io::Result<Stream> {
        make_nonblocking(&pipe)?;
        Ok(Stream { pipe: Some(File::from(pipe)), capture: Capture::default(), file, file_error: None })
    }

    /// What to poll for reading.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Reads what is there, within bounds.
    pub fn turn(&mut self, buffer: &mut [u8]) {
        self.read_up_to(TURN_BYTES_MAX, buffer);
    }

    /// Reads what is left and closes the stream, whoever may still hold its other end.
    pub fn end(&mut self, buffer: &mut [u8]) -> Ended {
        self.read_up_to(REST_BYTES_MAX, buffer);
        self.pipe = None;
        Ended { capture: std::mem::take(&mut self.capture), file_error: self.file_error.take() }
    }

    fn read_up_to(&mut self, bytes_max: usize, buffer: &mut [u8]) {
        let mut left = bytes_max;
        while let Some(pipe) = &mut self.pipe {
            if left == 0 {
                return;
            }
            match pipe.read(buffer) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    left = left.saturating_sub(length);
                    self.take(&buffer[..length]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.capture.push(bytes);
        if let Some(file) = &mut self.file {
            if let Err(error) = file.write_all(bytes) {
                self.file = None;
                self.file_error = Some(error);
            }
        }
    }
}

/// What a command is given to read.
#[derive(Debug)]
pub struct Input {
    pipe: File,
    text: Vec<u8>,
    written: usize,
}

impl Input {
    pub fn new(pipe: OwnedFd, text: String) -> io::Result<Input> {
        make_nonblocking(&pipe)?;
        Ok(Input { pipe: File::from(pipe), text: text.into_bytes(), written: 0 })
    }

    /// What to poll for writing.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// Writes what fits; whether there is more to write to somebody who reads.
    pub fn turn(&mut self) -> bool {
        while self.written < self.text.len() {
            match self.pipe.write(&self.text[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        false
    }
}

fn make_nonblocking(pipe: &impl AsFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    // A pipe made for a command has no other flags to keep.
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
