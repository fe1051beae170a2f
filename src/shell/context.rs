//! A ZeroMQ context that can hold the sockets of thousands of workers.
//!
//! The `zmq` crate offers no way to raise libzmq's limit of 1,023 sockets, so this one is made by hand.

use std::ffi::c_void;

/// Sockets of one context.
const SOCKETS_MAX: i32 = 65_535;

/// Makes sockets. All of them must be closed before it is dropped: dropping waits for that.
pub struct Context(*mut c_void);

// SAFETY: libzmq's contexts may be used from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// # Panics
    /// When libzmq cannot start, for want of memory or descriptors.
    #[must_use]
    pub fn new() -> Context {
        // SAFETY: both calls take what the first one returned; the option is known to every libzmq.
        let context = unsafe {
            let context = zmq_sys::zmq_ctx_new();
            assert!(!context.is_null(), "libzmq cannot start");
            let option = i32::try_from(zmq_sys::ZMQ_MAX_SOCKETS).unwrap_or_default();
            let set = zmq_sys::zmq_ctx_set(context, option, SOCKETS_MAX);
            debug_assert_eq!(set, 0, "libzmq takes this option before the first socket");
            context
        };
        Context(context)
    }

    /// # Errors
    /// When there are no descriptors left for another socket.
    pub fn socket(&self, kind: zmq::SocketType) -> zmq::Result<zmq::Socket> {
        // SAFETY: the context is alive, and a socket that it makes is owned by nobody else.
        unsafe {
            let socket = zmq_sys::zmq_socket(self.0, kind as i32);
            if socket.is_null() {
                return Err(zmq::Error::from_raw(zmq_sys::zmq_errno()));
            }
            Ok(zmq::Socket::from_raw(socket))
        }
    }
}

impl Default for Context {
    fn default() -> Context {
        Context::new()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nobody has the pointer but this value; a call that a signal interrupts is made again.
        unsafe { while zmq_sys::zmq_ctx_term(self.0) != 0 && zmq_sys::zmq_errno() == libc::EINTR {} }
    }
}
