//! The control socket: a ROUTER that speaks the REP envelope, so a reply can wait without holding up other clients.

use super::context::Context;
use super::endpoints;
use crate::engine::{Client, Event};
use crate::wire::control::{Code, Refusal};
use crate::wire::reply::Reply;
use crate::wire::request;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Requests taken in one turn of the loop.
const REQUESTS_PER_TURN: usize = 64;
/// The same in bytes; the last one may go beyond it.
const REQUEST_BYTES_PER_TURN: usize = 16 << 20;
/// Frames in front of a request: an address and, from a REQ with correlation, a number.
const ENVELOPE_FRAMES_MAX: usize = 8;

/// Everybody who waits for a reply.
pub struct Clients {
    socket: zmq::Socket,
    path: PathBuf,
    request_bytes_max: usize,
    /// How often the socket was bound.
    bound: u32,
    next: u64,
    /// Where each reply goes: all frames up to the empty one, sent back untouched.
    envelopes: BTreeMap<Client, Vec<Vec<u8>>>,
}

impl Clients {
    /// # Errors
    /// When the socket cannot be bound.
    pub fn bind(context: &Context, runtime: &Path, request_bytes_max: usize) -> zmq::Result<Clients> {
        let path = runtime.join(endpoints::CONTROL);
        let socket = endpoints::bind_control(context, &path, request_bytes_max)?;
        Ok(Clients { socket, path, request_bytes_max, bound: 0, next: 0, envelopes: BTreeMap::new() })
    }

    /// Binds once more, in place of the file that is or was there: for another limit, or because the file is gone.
    /// Those who are connected stay so.
    ///
    /// # Errors
    /// When that is not possible; then all is as it was.
    pub fn bind_again(&mut self, request_bytes_max: usize) -> std::io::Result<()> {
        self.bound += 1;
        // To unbind would delete the file later, from another thread, whichever file it is by then.
        let fresh = self.path.with_extension(format!("{}.ipc", self.bound));
        endpoints::bind_control_again(&self.socket, &fresh, request_bytes_max)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        std::fs::rename(&fresh, &self.path)?;
        self.request_bytes_max = request_bytes_max;
        Ok(())
    }

    /// Lets a group use the socket, or only ourselves.
    ///
    /// # Errors
    /// When we are neither root nor a member of the group.
    pub fn open_to(&self, group: Option<u32>) -> std::io::Result<()> {
        match group {
            Some(group) => endpoints::open_to_group(&self.path, group),
            None => std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn request_bytes_max(&self) -> usize {
        self.request_bytes_max
    }

    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// Takes what clients ask, a bounded number of requests. Those that are none are answered here. True when there
    /// may be more.
    pub fn take(&mut self, events: &mut Vec<Event>) -> bool {
        let mut bytes = 0;
        for _ in 0..REQUESTS_PER_TURN {
            let Some(frames) = receive(&self.socket) else {
                return false;
            };
            bytes += frames.iter().map(Vec::len).sum::<usize>();
            self.on_frames(frames, events);
            if bytes >= REQUEST_BYTES_PER_TURN {
                break;
            }
        }
        true
    }

    fn on_frames(&mut self, mut frames: Vec<Vec<u8>>, events: &mut Vec<Event>) {
        let delimiter = frames.iter().take(ENVELOPE_FRAMES_MAX).position(Vec::is_empty);
        let Some(delimiter) = delimiter.filter(|at| *at > 0) else {
            log::debug!("a client does not speak the REQ envelope: its message is dropped");
            return;
        };
        let body = frames.split_off(delimiter + 1);
        self.next += 1;
        let client = Client(self.next);
        self.envelopes.insert(client, frames);
        let request = match body.as_slice() {
            [frame] if frame.len() > self.request_bytes_max => Err(self.too_large(frame.len())),
            [frame] => request::parse(frame),
            _ => Err(Refusal::new(Code::BadRequest, "a request is one frame of JSON")),
        };
        match request {
            Ok(request) => events.push(Event::Request { client, request }),
            Err(refusal) => self.reply(client, &Reply::Refused(Box::new(refusal))),
        }
    }

    fn too_large(&self, bytes: usize) -> Refusal {
        let limit = self.request_bytes_max;
        let message = format!("the request has {bytes} bytes: request_bytes_max is {limit}");
        let mut refusal = Refusal::new(Code::Limit, message).hint("submit in chunks");
        refusal.limit = Some("request_bytes_max".to_owned());
        refusal.value = Some(limit as u64);
        refusal
    }

    /// Sends the one reply to a request. A client that has gone gets none.
    pub fn reply(&mut self, client: Client, reply: &Reply) {
        let Some(mut frames) = self.envelopes.remove(&client) else {
            debug_assert!(false, "a request got a second reply");
            return;
        };
        frames.push(reply.encode());
        if let Err(error) = send(&self.socket, &frames) {
            log::debug!("a client cannot be answered: {error}");
        }
    }
}

/// Takes one message, all its frames. A signal may interrupt between two of them, as that of a dead worker does; a
/// message that was given up then would leave its rest to be taken for another one.
fn receive(socket: &zmq::Socket) -> Option<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    loop {
        match socket.recv_bytes(zmq::DONTWAIT) {
            Ok(frame) => frames.push(frame),
            Err(zmq::Error::EINTR) => continue,
            Err(_) => return None,
        }
        if !socket.get_rcvmore().unwrap_or(false) {
            return Some(frames);
        }
    }
}

/// Sends one message, all its frames, whatever interrupts.
fn send(socket: &zmq::Socket, frames: &[Vec<u8>]) -> zmq::Result<()> {
    for (at, frame) in frames.iter().enumerate() {
        let more = if at + 1 < frames.len() { zmq::SNDMORE } else { 0 };
        loop {
            match socket.send(&frame[..], more | zmq::DONTWAIT) {
                Err(zmq::Error::EINTR) => {}
                sent => break sent?,
            }
        }
    }
    Ok(())
}

impl Drop for Clients {
    /// Closing leaves the file behind.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Signals that come at any moment, as SIGCHLD does.
    #[test]
    fn no_request_is_lost_to_a_signal() {
        let directory = tempfile::tempdir().unwrap();
        let context = Context::new();
        let mut clients = Clients::bind(&context, directory.path(), 1 << 20).unwrap();
        let asker = zmq::Context::new();
        let socket = asker.socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.connect(&endpoints::endpoint(&directory.path().join(endpoints::CONTROL))).unwrap();
        let seen = Arc::new(AtomicBool::new(false));
        let signal = signal_hook::flag::register(libc::SIGUSR2, seen.clone()).unwrap();
        // SAFETY: it names this thread, which outlives the one that signals it.
        let target = unsafe { libc::pthread_self() };
        let over = Arc::new(AtomicBool::new(false));
        let noise = std::thread::spawn({
            let over = over.clone();
            move || {
                while !over.load(Ordering::Relaxed) {
                    // SAFETY: as above.
                    unsafe { libc::pthread_kill(target, libc::SIGUSR2) };
                }
            }
        });
        let (mut taken, requests) = (0, 20_000);
        for _ in 0..requests {
            loop {
                let parts = [&b""[..], br#"{"v":1,"op":"ping"}"#];
                let sent = send(&socket, &parts.map(<[u8]>::to_vec));
                if sent.is_ok() {
                    break;
                }
            }
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while taken < requests && std::time::Instant::now() < deadline {
            let mut events = Vec::new();
            clients.take(&mut events);
            for event in events {
                assert!(matches!(event, Event::Request { .. }), "{event:?}");
                taken += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        noise.join().unwrap();
        signal_hook::low_level::unregister(signal);
        assert!(seen.load(Ordering::Relaxed));
        assert_eq!(taken, requests);
        drop(socket);
        drop(clients);
    }
}
