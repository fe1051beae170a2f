//! One epoll descriptor for everything that is no ZeroMQ socket.

use crate::model::Generation;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Descriptors looked at in one turn of the loop.
const READY_PER_TURN: usize = 256;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Signals,
    /// The storekeeper has done something.
    Store,
    /// The scribe has an answer.
    Logs,
    /// Something has been removed from the runtime directory.
    Runtime,
    /// A worker's pidfd.
    Process(Generation),
    Stdout(Generation),
    Stderr(Generation),
}

/// Tells which descriptors are readable.
pub struct Watch(Epoll);

impl Watch {
    /// # Errors
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Watch> {
        Ok(Watch(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches a descriptor until it is closed or removed.
    ///
    /// # Errors
    /// When the kernel's limit for watched descriptors is reached.
    pub fn add(&self, descriptor: &impl AsFd, source: Source) -> io::Result<()> {
        self.0.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, encode(source)))?;
        Ok(())
    }

    /// Stops watching. One that is not watched is no error.
    pub fn remove(&self, descriptor: &impl AsFd) {
        let _ = self.0.delete(descriptor);
    }

    /// What is readable now. Never waits.
    pub fn ready(&self) -> Vec<Source> {
        let mut events = [EpollEvent::empty(); READY_PER_TURN];
        let count = self.0.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        events[..count].iter().map(|event| decode(event.data())).collect()
    }

    /// For a poll: readable when something watched is.
    pub fn raw(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Generations begin at 1, so the numbers below 4 are free.
fn encode(source: Source) -> u64 {
    match source {
        Source::Signals => 0,
        Source::Store => 1,
        Source::Logs => 2,
        Source::Runtime => 3,
        Source::Process(worker) => worker.0 << 2,
        Source::Stdout(worker) => worker.0 << 2 | 1,
        Source::Stderr(worker) => worker.0 << 2 | 2,
    }
}

fn decode(data: u64) -> Source {
    let worker = Generation(data >> 2);
    match (data, data & 3) {
        (0, _) => Source::Signals,
        (1, _) => Source::Store,
        (2, _) => Source::Logs,
        (3, _) => Source::Runtime,
        (_, 0) => Source::Process(worker),
        (_, 1) => Source::Stdout(worker),
        (_, _) => Source::Stderr(worker),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_their_encoding() {
        let worker = Generation(17);
        for source in [
            Source::Signals,
            Source::Store,
            Source::Logs,
            Source::Runtime,
            Source::Process(worker),
            Source::Stdout(worker),
            Source::Stderr(worker),
        ] {
            assert_eq!(decode(encode(source)), source);
        }
    }
}
