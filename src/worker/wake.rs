//! Signals as something to poll.
//!
//! A signal sets a flag or nothing and writes a byte, so that whoever polls wakes up and looks. The handlers are
//! gone once a command is executed, and no signal is blocked, so commands inherit neither.

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals that the worker listens to.
pub struct Wake {
    reader: UnixStream,
    leave: Arc<AtomicBool>,
}

impl Wake {
    /// Begins to listen.
    pub fn listen() -> io::Result<Wake> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let leave = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            // The flag first: whoever is woken must find it set.
            signal_hook::flag::register(signal, Arc::clone(&leave))?;
            signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGCHLD, writer)?;
        Ok(Wake { reader, leave })
    }

    /// What is readable after a signal.
    pub fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Whether the worker was told to leave since the last time that this was asked.
    pub fn leave_asked(&self) -> bool {
        let mut bytes = [0; 64];
        while matches!((&self.reader).read(&mut bytes), Ok(64)) {}
        self.leave.swap(false, Ordering::SeqCst)
    }
}
