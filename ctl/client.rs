//! Asks the daemon: one request, one reply, and a clear word when there is none.
//!
//! Each attempt has a fresh socket: a REQ whose reply was lost is stuck for ever. `ZeroMQ` reconnects by itself and
//! says nothing, so whether anybody listens is seen from a plain connection before an attempt, and again now and
//! then while a reply is awaited. A daemon that is gone, or another than the one that was asked, will not answer.

use crate::failure::Failure;
use crate::find::{self, Identity};
use crate::interrupt::Interrupts;
use crate::reply::Reply;
use crate::trouble::Trouble;
use pushpull::wire::control::{Ask, VERSION};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The pause before another attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a last word may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a reply, beyond the time that the request itself allows the daemon.
    pub silence: Duration,
    /// For a lost daemon to come back, if the request may be repeated.
    pub absence: Duration,
    /// Between two looks whether the daemon is still there.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            silence: Duration::from_secs(10),
            absence: Duration::from_secs(10),
            look: Duration::from_millis(500),
        }
    }
}

/// Where to look for a daemon, and the one that was found.
pub struct Client {
    context: zmq::Context,
    candidates: Vec<PathBuf>,
    /// Whether the user named the place, and so answers for it.
    is_named: bool,
    found: Option<PathBuf>,
    patience: Patience,
    interrupts: Interrupts,
}

/// A request that was sent and not yet answered.
pub struct Exchange {
    socket: zmq::Socket,
    path: PathBuf,
    identity: Identity,
}

impl Client {
    /// A client that tries these control sockets in order and stays with the first that works.
    pub fn new(
        candidates: Vec<PathBuf>,
        is_named: bool,
        patience: Patience,
        interrupts: Interrupts,
    ) -> Client {
        Client { context: zmq::Context::new(), candidates, is_named, found: None, patience, interrupts }
    }

    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// The control socket that was found, after a first reply.
    pub fn found(&self) -> Option<&Path> {
        self.found.as_deref()
    }

    /// Asks once. For requests whose repetition could do something twice, and for those whose asker stands by.
    pub fn ask(&mut self, ask: &Ask) -> Result<Reply, Failure> {
        let exchange = self.begin(&frame(ask))?;
        Reply::read(&self.finish(&exchange, self.patience.silence + allowance(ask))?)
    }

    /// Asks, and again while the daemon is away. For requests that can be repeated without harm.
    pub fn ask_again(&mut self, ask: &Ask) -> Result<Reply, Failure> {
        let frame = frame(ask);
        let begun = self.begin(&frame);
        Reply::read(&self.settle(&frame, begun, allowance(ask))?)
    }

    /// Sends a request without waiting for its reply.
    pub fn begin(&mut self, frame: &[u8]) -> Result<Exchange, Trouble> {
        if let Some(interrupt) = self.interrupts.pending() {
            return Err(Trouble::Interrupted(interrupt));
        }
        let (path, identity) = self.find()?;
        let exchange = self.send(&path, identity, frame);
        exchange.map_err(|error| Trouble::Socket(error.to_string()))
    }

    /// The reply to a request that was begun, repeated as often as it takes: a first failure to reach anybody is
    /// final, after that an absence is put up with for a while.
    pub fn settle(
        &mut self,
        frame: &[u8],
        begun: Result<Exchange, Trouble>,
        allowance: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        let limit = self.patience.silence + allowance;
        let mut outcome = begun.and_then(|exchange| self.finish(&exchange, limit));
        let mut deadline = None;
        loop {
            let trouble = match outcome {
                Ok(reply) => return Ok(reply),
                Err(trouble) => trouble,
            };
            if self.found.is_none() || !trouble.may_pass() {
                return Err(trouble);
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.patience.absence);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(trouble);
            }
            self.interrupts.pause(PAUSE.min(left)).map_err(Trouble::Interrupted)?;
            outcome = self.begin(frame).and_then(|exchange| {
                let left = deadline.saturating_duration_since(Instant::now());
                self.finish(&exchange, left.min(self.patience.silence) + allowance)
            });
        }
    }

    /// Says something on the way out, interrupted or not; whether it was heard is of no further interest.
    pub fn last_word(&mut self, frame: &[u8]) {
        let Ok((path, identity)) = self.find() else { return };
        let Ok(exchange) = self.send(&path, identity, frame) else { return };
        let deadline = Instant::now() + LAST_WORD;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ms = i64::try_from(left.as_millis()).unwrap_or(0);
            // The reply shows that it was sent: a socket that is closed before drops it.
            match exchange.socket.poll(zmq::POLLIN, ms) {
                Err(zmq::Error::EINTR) if !left.is_zero() => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Waits for the reply, for as long as `limit` and as the daemon is there.
    pub fn finish(&self, exchange: &Exchange, limit: Duration) -> Result<Vec<u8>, Trouble> {
        let deadline = Instant::now() + limit;
        let mut look_at = Instant::now() + self.patience.look;
        loop {
            let next = look_at.min(deadline).saturating_duration_since(Instant::now());
            if let Some(reply) = self.receive(exchange, next)? {
                return Ok(reply);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(Trouble::Silent(exchange.path.clone(), limit));
            }
            if now >= look_at {
                look_at = now + self.patience.look;
                if find::probe(&exchange.path) != Ok(exchange.identity) {
                    // It may have answered and left: the answer counts.
                    let last = self.receive(exchange, Duration::ZERO)?;
                    return last.ok_or_else(|| Trouble::Gone(exchange.path.clone()));
                }
            }
        }
    }

    /// The control socket to use now.
    fn find(&mut self) -> Result<(PathBuf, Identity), Trouble> {
        let mut tried = Vec::new();
        let candidates = self.found.as_ref().map_or(self.candidates.as_slice(), std::slice::from_ref);
        let uid = nix::unistd::geteuid().as_raw();
        for socket in candidates {
            let trusted = if self.is_named { Ok(()) } else { find::check_owner(socket, uid) };
            match trusted.and_then(|()| find::probe(socket)) {
                Ok(identity) => {
                    let socket = socket.clone();
                    self.found = Some(socket.clone());
                    return Ok((socket, identity));
                }
                Err(why) => tried.push(why),
            }
        }
        Err(Trouble::Unreachable(tried))
    }

    fn send(&self, path: &Path, identity: Identity, frame: &[u8]) -> Result<Exchange, zmq::Error> {
        let Some(text) = path.to_str() else {
            return Err(zmq::Error::EINVAL);
        };
        let socket = self.context.socket(zmq::REQ)?;
        // Whatever is not sent when we leave is not worth waiting for.
        socket.set_linger(0)?;
        socket.connect(&format!("ipc://{text}"))?;
        // A signal may come first: then nothing was sent.
        while let Err(error) = socket.send(frame, zmq::DONTWAIT) {
            if error != zmq::Error::EINTR {
                return Err(error);
            }
        }
        Ok(Exchange { socket, path: path.to_owned(), identity })
    }

    /// The reply if it comes within `span`.
    fn receive(&self, exchange: &Exchange, span: Duration) -> Result<Option<Vec<u8>>, Trouble> {
        let broken = |error: zmq::Error| Trouble::Socket(error.to_string());
        let ms = i64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        let mut items = [
            exchange.socket.as_poll_item(zmq::POLLIN),
            zmq::PollItem::from_fd(self.interrupts.descriptor(), zmq::POLLIN),
        ];
        match zmq::poll(&mut items, ms) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => return Err(broken(error)),
        }
        match exchange.socket.recv_multipart(zmq::DONTWAIT) {
            Ok(mut frames) => return Ok(frames.drain(..).next()),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
            Err(error) => return Err(broken(error)),
        }
        self.interrupts.pending().map_or(Ok(None), |interrupt| Err(Trouble::Interrupted(interrupt)))
    }
}

/// A request of this operation that says nothing more.
pub fn request(op: &str) -> Ask {
    Ask { v: VERSION, op: op.to_owned(), ..Ask::default() }
}

fn frame(ask: &Ask) -> Vec<u8> {
    serde_json::to_vec(ask).expect("requests have text keys and no values that JSON lacks")
}

/// How long the daemon may take because we said so.
fn allowance(ask: &Ask) -> Duration {
    Duration::from_millis(ask.timeout_ms.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{self, JoinHandle};

    /// A daemon that lets some requests pass without a word and answers the next; it returns all it has heard.
    fn daemon(socket: &Path, ignored: usize) -> JoinHandle<Vec<Vec<u8>>> {
        let context = zmq::Context::new();
        let router = context.socket(zmq::ROUTER).expect("a socket");
        router.bind(&format!("ipc://{}", socket.display())).expect("a free path");
        thread::spawn(move || {
            let mut heard = Vec::new();
            while heard.len() <= ignored {
                let frames = router.recv_multipart(0).expect("a request");
                heard.push(frames[2].clone());
                if heard.len() > ignored {
                    router
                        .send_multipart([&frames[0], &b""[..], br#"{"ok":true,"pid":7}"#], 0)
                        .expect("a reply");
                }
            }
            heard
        })
    }

    fn client(socket: &Path, patience: Patience) -> Client {
        let interrupts = Interrupts::deaf().expect("a pair");
        Client::new(vec![socket.to_owned()], true, patience, interrupts)
    }

    const SHORT: Patience = Patience {
        silence: Duration::from_millis(50),
        absence: Duration::from_secs(30),
        look: Duration::from_millis(20),
    };

    #[test]
    fn a_lost_reply_is_asked_for_again_with_the_same_request() {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join(find::CONTROL_SOCKET);
        let daemon = daemon(&socket, 2);
        let mut client = client(&socket, SHORT);
        let reply = client.ask_again(&request("ping")).expect("the third is answered");
        assert_eq!(reply.document(), r#"{"pid":7}"#);
        drop(client);
        let heard = daemon.join().expect("no panic");
        assert!(heard.iter().all(|frame| *frame == heard[0]), "{heard:?}");
    }

    #[test]
    fn what_may_not_be_repeated_is_asked_once_and_then_the_daemon_is_silent() {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join(find::CONTROL_SOCKET);
        let daemon = daemon(&socket, 1);
        let mut client = client(&socket, SHORT);
        let failure = client.ask(&request("cancel")).expect_err("no answer");
        assert!(matches!(failure, Failure::Trouble(Trouble::Silent(..))), "{failure:?}");
        assert_eq!(failure.exit_status(), 3);
        client.ask(&request("ping")).expect("the second is answered");
        let heard = daemon.join().expect("no panic");
        assert_eq!(heard.len(), 2);
    }

    #[test]
    fn a_daemon_that_never_was_there_is_not_waited_for() {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join(find::CONTROL_SOCKET);
        // With this patience a single pause would outlast the test.
        let patience = Patience { absence: Duration::from_secs(1_000_000), ..SHORT };
        let failure = client(&socket, patience).ask_again(&request("wait")).expect_err("nobody");
        assert_eq!(failure.exit_status(), 3);
        let text = failure.text();
        assert!(text.contains(socket.to_str().expect("UTF-8")), "{text}");
        assert!(text.contains("pushpulld --daemonize"), "{text}");
    }

    #[test]
    fn a_lost_daemon_is_given_up_when_the_time_is_up() {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join(find::CONTROL_SOCKET);
        let daemon = daemon(&socket, 0);
        let patience = Patience { absence: Duration::from_millis(100), ..SHORT };
        let mut client = client(&socket, patience);
        client.ask_again(&request("ping")).expect("an answer");
        daemon.join().expect("no panic");
        let failure = client.ask_again(&request("ping")).expect_err("it is gone");
        assert_eq!(failure.exit_status(), 3);
    }
}
