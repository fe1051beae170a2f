//! The two sockets of the worker.

use crate::wire::pipeline::{Report, encode_report};

/// No job is larger; a frame that is ends the connection.
const FRAME_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// How long the last reports may take to leave when the worker leaves.
const LINGER_MS: i32 = 2000;

/// The connection to the daemon. Dropping it delivers the last reports first.
pub struct Link {
    // The sockets stand before their context: it can end only after them.
    jobs: zmq::Socket,
    results: zmq::Socket,
    frame: Vec<u8>,
    _context: zmq::Context,
}

impl Link {
    /// Connects to both endpoints.
    pub fn connect(jobs_endpoint: &str, results_endpoint: &str) -> zmq::Result<Link> {
        let context = zmq::Context::new();
        let jobs = context.socket(zmq::PULL)?;
        jobs.set_linger(0)?;
        jobs.set_maxmsgsize(FRAME_BYTES_MAX)?;
        jobs.connect(jobs_endpoint)?;
        let results = context.socket(zmq::PUSH)?;
        results.set_linger(LINGER_MS)?;
        // No limit but the daemon's credit: there are never more reports than jobs that it sent.
        results.set_sndhwm(0)?;
        results.connect(results_endpoint)?;
        Ok(Link { jobs, results, frame: Vec::new(), _context: context })
    }

    /// The next message, if one is here.
    pub fn receive(&self) -> zmq::Result<Option<zmq::Message>> {
        let mut message = zmq::Message::new();
        match self.jobs.recv(&mut message, zmq::DONTWAIT) {
            Ok(()) => Ok(Some(message)),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a report on its way.
    pub fn send(&mut self, report: &Report) -> zmq::Result<()> {
        encode_report(report, &mut self.frame);
        // A signal, such as that of the command's end, may come first: then nothing was sent.
        loop {
            match self.results.send(&self.frame[..], zmq::DONTWAIT) {
                Err(zmq::Error::EINTR) => {}
                sent => return sent,
            }
        }
    }

    /// Nobody is left to receive the last reports.
    pub fn give_up(&self) -> zmq::Result<()> {
        self.results.set_linger(0)
    }

    /// What to poll for messages.
    pub fn poll_item(&self) -> zmq::PollItem<'_> {
        self.jobs.as_poll_item(zmq::POLLIN)
    }
}
