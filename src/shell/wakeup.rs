//! A descriptor by which another thread wakes the loop.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Readable from [`Wakeup::raise`] until [`Wakeup::clear`].
pub struct Wakeup(EventFd);

impl Wakeup {
    /// # Errors
    /// When there is no descriptor left.
    pub fn new() -> io::Result<Wakeup> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Wakeup(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Makes it readable. Can fail only when it is so already, and more than once.
    pub fn raise(&self) {
        let _ = self.0.write(1);
    }

    /// Takes back what was raised. Fails only when nothing was.
    pub fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
