//! The way from a line to the scribe, which never waits.

use super::Voice;
use super::scribe::Order;
use crate::model::{Wall, WorkerName};
use crate::wire::timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Text that may lie between the writers and the scribe, in bytes.
pub const UNWRITTEN_BYTES_MAX: usize = 8 << 20;

/// Hands lines to the scribe, or drops and counts them when it does not keep up.
#[derive(Clone, Debug)]
pub struct Pen(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    orders: Sender<Order>,
    /// Bytes that the scribe has not written yet.
    unwritten: Arc<AtomicUsize>,
    /// Lines dropped since the last that was taken.
    dropped: Mutex<BTreeMap<Voice, u64>>,
}

impl Pen {
    pub(super) fn new(orders: Sender<Order>, unwritten: Arc<AtomicUsize>) -> Pen {
        Pen(Some(Arc::new(Shared { orders, unwritten, dropped: Mutex::default() })))
    }

    /// A pen that leaves no trace.
    pub fn dry() -> Pen {
        Pen(None)
    }

    /// What a worker's stream has said in this turn; its lines go to standard error too if that is wanted, and to
    /// the scribe when the page is dropped.
    pub fn page<'a>(&'a self, worker: &'a WorkerName, stream: &'static str) -> Page<'a> {
        let prefix = format!("{} {worker} {stream} ", now());
        let echoes = log::log_enabled!(target: "worker", log::Level::Info);
        Page { pen: self, worker, stream, prefix, echoes, lines: 0, text: Vec::new() }
    }

    /// Writes whole lines. False if they are dropped.
    pub(super) fn write(&self, voice: Voice, mut text: Vec<u8>, lines: u64) -> bool {
        let Some(shared) = &self.0 else {
            return false;
        };
        let mut dropped = shared.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shared.unwritten.load(Ordering::Relaxed);
        if before + text.len() > UNWRITTEN_BYTES_MAX {
            *dropped.entry(voice).or_default() += lines;
            return false;
        }
        if let Some(lost) = dropped.remove(&voice) {
            let mut note = note(&voice, &format!("{lost} lines dropped: the log's disk is too slow"));
            note.append(&mut text);
            text = note;
        }
        shared.unwritten.fetch_add(text.len(), Ordering::Relaxed);
        shared.orders.send(Order::Append { voice, text }).is_ok()
    }
}

/// A remark of the log about itself, as a line of `voice`.
pub(super) fn note(voice: &Voice, remark: &str) -> Vec<u8> {
    let at = now();
    match voice {
        Voice::Daemon => format!("{at} warning: [{remark}]\n"),
        // No worker has said it: the slot is left out.
        Voice::Pool(pool) => format!("{at} {pool} log [{remark}]\n"),
    }
    .into_bytes()
}

/// This moment, as every line begins.
pub(super) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    timestamp::render(Wall(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)))
}

/// Some lines of one stream.
pub struct Page<'a> {
    pen: &'a Pen,
    worker: &'a WorkerName,
    stream: &'static str,
    prefix: String,
    echoes: bool,
    lines: u64,
    text: Vec<u8>,
}

impl Page<'_> {
    pub fn line(&mut self, line: &[u8]) {
        if self.echoes {
            let (worker, stream) = (self.worker, self.stream);
            log::info!(target: "worker", "[{worker} {stream}] {}", String::from_utf8_lossy(line));
        }
        self.lines += 1;
        self.text.extend_from_slice(self.prefix.as_bytes());
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.pen.write(Voice::Pool(self.worker.pool.clone()), text, self.lines);
        }
    }
}
