//! One request, one reply.
//!
//! A REQ socket whose reply was lost is stuck for ever, so every request has a socket of its own. And ZeroMQ hides
//! that nobody listens, so the Unix socket is tried first: a daemon that is not there is known at once.

use crate::wire::control::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks whether the daemon is still there.
const LOOK: Duration = Duration::from_millis(200);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no daemon answers at {}", .0.display())]
    Unreachable(PathBuf),
    /// Somebody listens and has said nothing for so long.
    #[error("the daemon at {} has been silent for {} s", .0.display(), .1.as_secs())]
    Silent(PathBuf, Duration),
    /// The answer was no.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The answer was no reply of this protocol.
    #[error("the daemon's answer cannot be read: {0}")]
    Garbled(String),
}

/// The way to one daemon.
pub struct Link {
    context: zmq::Context,
    path: PathBuf,
}

#[derive(Deserialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl Link {
    /// The way to the daemon whose control socket is the file `path`.
    #[must_use]
    pub fn new(path: &Path) -> Link {
        Link { context: zmq::Context::new(), path: path.to_owned() }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody listens.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        UnixStream::connect(&self.path).is_ok()
    }

    /// Sends a request and waits up to `patience` for its reply, a JSON object with `ok`.
    ///
    /// # Errors
    /// When there is none, or it is a refusal.
    pub fn ask(&self, request: &[u8], patience: Duration) -> Result<String, AskError> {
        if !self.is_reachable() {
            return Err(AskError::Unreachable(self.path.clone()));
        }
        let frame = self
            .exchange(request, patience)
            .map_err(|error| AskError::Garbled(error.to_string()))?
            .ok_or_else(|| {
            if self.is_reachable() {
                AskError::Silent(self.path.clone(), patience)
            } else {
                AskError::Unreachable(self.path.clone())
            }
        })?;
        let text = String::from_utf8(frame).map_err(|error| AskError::Garbled(error.to_string()))?;
        let answer: Answer =
            serde_json::from_str(&text).map_err(|error| AskError::Garbled(error.to_string()))?;
        if answer.ok {
            return Ok(text);
        }
        let error = answer.error.map_or("{}", RawValue::get);
        let refusal = serde_json::from_str(error).map_err(|error| AskError::Garbled(error.to_string()))?;
        Err(AskError::Refused(Box::new(refusal)))
    }

    fn exchange(&self, request: &[u8], patience: Duration) -> zmq::Result<Option<Vec<u8>>> {
        let socket = self.context.socket(zmq::REQ)?;
        socket.set_linger(0)?;
        socket.connect(&format!("ipc://{}", self.path.display()))?;
        while let Err(error) = socket.send(request, 0) {
            if error != zmq::Error::EINTR {
                return Err(error);
            }
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(LOOK).as_nanos().div_ceil(1_000_000);
            match socket.poll(zmq::POLLIN, i64::try_from(slice).unwrap_or(i64::MAX)) {
                // A daemon that has left will not answer, and ZeroMQ would wait for another one to come.
                Ok(0) if left.is_zero() || !self.is_reachable() => return Ok(None),
                // Whoever catches signals looks at them between two requests.
                Ok(0) | Err(zmq::Error::EINTR) => {}
                Ok(_) => match socket.recv_bytes(zmq::DONTWAIT) {
                    Ok(frame) => return Ok(Some(frame)),
                    Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }
}
