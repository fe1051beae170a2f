//! Where a worker's answers come in.

use crate::config::FRAME_BYTES_MAX;
use crate::engine::Event;
use crate::model::Generation;
use crate::wire::pipeline::{self, Style};
use std::path::PathBuf;

/// Bytes taken from one worker in one turn of the loop; the last answer may go beyond.
const ANSWER_BYTES_PER_TURN: usize = 16 << 20;

/// Where a worker's answers come in.
pub(super) struct Inbox {
    pub(super) results: zmq::Socket,
    pub(super) path: PathBuf,
    pub(super) style: Style,
}

impl Inbox {
    /// Takes up to `limit` messages, and says how many there were; `limit` as well when they are large and there may
    /// be more.
    pub(super) fn take(&self, worker: Generation, limit: usize, events: &mut Vec<Event>) -> usize {
        let mut message = zmq::Message::new();
        let mut bytes = 0;
        for taken in 0..limit {
            if bytes >= ANSWER_BYTES_PER_TURN {
                return limit;
            }
            match self.results.recv(&mut message, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EINTR) => continue,
                Err(_) => return taken,
            }
            bytes += message.len();
            if message.get_more() {
                self.skip_rest(&mut message);
                let what = "a message of several frames".to_owned();
                events.push(Event::Malformed { worker, what });
                continue;
            }
            if message.len() > FRAME_BYTES_MAX {
                events.push(Event::TooLarge { worker, bytes: message.len() });
                continue;
            }
            events.push(match pipeline::parse_report(&message, self.style) {
                Ok(report) => Event::Report { worker, report },
                Err(what) => Event::Malformed { worker, what },
            });
        }
        limit
    }

    fn skip_rest(&self, message: &mut zmq::Message) {
        while message.get_more() {
            match self.results.recv(message, zmq::DONTWAIT) {
                Ok(()) | Err(zmq::Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
