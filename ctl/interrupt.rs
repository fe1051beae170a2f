//! Ctrl-C and TERM, as something that can be waited for.
//!
//! The first one is noticed at the next wait, so that a half-sent submit can be taken back and a word said about
//! the jobs that go on. A second one ends the program at once, whatever it is doing.

use nix::poll::{PollFd, PollFlags, PollTimeout};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Which signal came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Interrupted,
    Terminated,
}

impl Interrupt {
    /// As a shell reports a program that the signal ended.
    pub fn exit_status(self) -> u8 {
        match self {
            Interrupt::Interrupted => 130,
            Interrupt::Terminated => 143,
        }
    }
}

/// Remembers the first signal and wakes whoever waits.
pub struct Interrupts {
    signal: Arc<AtomicUsize>,
    wake: UnixStream,
    /// Kept open: a closed other end would wake for ever.
    waker: UnixStream,
}

impl Interrupts {
    /// Takes over INT and TERM.
    pub fn listen() -> io::Result<Interrupts> {
        let interrupts = Interrupts::deaf()?;
        for signal in [SIGINT, SIGTERM] {
            let again = Arc::new(AtomicBool::new(false));
            // In this order: at the first signal the flag is still false, at the second the default comes first.
            flag::register_conditional_default(signal, Arc::clone(&again))?;
            flag::register(signal, again)?;
            let number = usize::try_from(signal).expect("signal numbers are positive");
            flag::register_usize(signal, Arc::clone(&interrupts.signal), number)?;
            low_level::pipe::register(signal, interrupts.waker.try_clone()?)?;
        }
        Ok(interrupts)
    }

    /// Hears nothing.
    pub fn deaf() -> io::Result<Interrupts> {
        let (wake, waker) = UnixStream::pair()?;
        Ok(Interrupts { signal: Arc::new(AtomicUsize::new(0)), wake, waker })
    }

    /// What came, if something did.
    pub fn pending(&self) -> Option<Interrupt> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            terminated if terminated == SIGTERM as usize => Some(Interrupt::Terminated),
            _ => Some(Interrupt::Interrupted),
        }
    }

    /// Readable from the first signal on.
    pub fn descriptor(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    /// Lets time pass.
    pub fn pause(&self, span: Duration) -> Result<(), Interrupt> {
        let end = Instant::now() + span;
        loop {
            if let Some(interrupt) = self.pending() {
                return Err(interrupt);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            // A failing poll is an interrupted one: then the loop looks again.
            let _ = nix::poll::poll(&mut [self.poll_item()], timeout(left));
        }
    }

    /// A file whose reads end with an error when a signal comes: a plain read of a pipe would go on waiting.
    pub fn heed(&self, file: File) -> io::Result<Heeding> {
        Ok(Heeding { file, wake: self.wake.try_clone()? })
    }

    fn poll_item(&self) -> PollFd<'_> {
        PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)
    }
}

/// A file that is read until a signal comes.
pub struct Heeding {
    file: File,
    wake: UnixStream,
}

impl Read for Heeding {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let [file, wake] = readable(self.file.as_fd(), self.wake.as_fd())?;
            if wake {
                return Err(io::Error::other("interrupted by a signal"));
            }
            if file {
                return self.file.read(buffer);
            }
        }
    }
}

/// Waits until one of them can be read.
fn readable(file: BorrowedFd<'_>, wake: BorrowedFd<'_>) -> io::Result<[bool; 2]> {
    let mut items = [PollFd::new(file, PollFlags::POLLIN), PollFd::new(wake, PollFlags::POLLIN)];
    match nix::poll::poll(&mut items, PollTimeout::NONE) {
        Ok(_) => Ok(items.map(|item| item.any().unwrap_or(true))),
        Err(nix::Error::EINTR) => Ok([false, false]),
        Err(errno) => Err(errno.into()),
    }
}

/// In whole milliseconds, rounded up: rounded down, the last one would be spent spinning.
fn timeout(span: Duration) -> PollTimeout {
    let ms = i32::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Interrupt::Interrupted.exit_status(), 130);
        assert_eq!(Interrupt::Terminated.exit_status(), 143);
    }

    #[test]
    fn a_signal_ends_a_read_that_would_wait_for_ever() {
        let interrupts = Interrupts::deaf().expect("a pair");
        let (read, write) = UnixStream::pair().expect("a pair");
        let mut heeding = interrupts.heed(File::from(std::os::fd::OwnedFd::from(read))).expect("a clone");
        (&write).write_all(b"ab").expect("an open pair");
        let mut buffer = [0; 8];
        assert_eq!(heeding.read(&mut buffer).expect("two bytes"), 2);
        (&interrupts.waker).write_all(b"!").expect("an open pair");
        heeding.read(&mut buffer).expect_err("interrupted");
        drop(write);
    }
}
