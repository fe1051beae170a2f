//! The daemon's own signals, as a descriptor to poll.
//!
//! The handler writes one byte to a socket, nothing else. Whoever polls reads the socket empty first and then asks
//! which signals there were, so none is lost; the same one twice between two looks is one.

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// What the daemon can be told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// TERM.
    Terminate,
    /// INT.
    Interrupt,
    /// HUP.
    Hangup,
    /// CHLD: some child has ended.
    Child,
}

impl Signal {
    const ALL: [Signal; 4] = [Signal::Terminate, Signal::Interrupt, Signal::Hangup, Signal::Child];

    fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::Hangup => libc::SIGHUP,
            Signal::Child => libc::SIGCHLD,
        }
    }
}

/// Readable when a signal has come.
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Takes over the signals, also those that whoever started the daemon had blocked or ignored. To be called
    /// on the main thread, before others begin.
    pub fn new() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        let numbers = Signal::ALL.map(Signal::number);
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, numbers)?;
        let mut set = SigSet::empty();
        for number in numbers {
            set.add(nix::sys::signal::Signal::try_from(number)?);
        }
        pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None)?;
        Ok(Signals { delivery })
    }

    /// The signals that came since the last call, each once. Never blocks.
    pub fn pending(&mut self) -> Vec<Signal> {
        let numbers: Vec<i32> = self.delivery.pending().collect();
        Signal::ALL.into_iter().filter(|signal| numbers.contains(&signal.number())).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}
