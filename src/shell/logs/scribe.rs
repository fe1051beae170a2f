//! The scribe: the thread that writes the logs and reads them for people.
//!
//! It takes lines and questions in the order in which they come, so a question sees all that was written before it.
//! One that finds nothing may wait for a line: it is looked at again when something was written, and answered when
//! it finds something or its time is over.

use super::cursor::Cursor;
use super::page::{self, Page};
use super::pen::{self, Pen};
use super::series::{Limits, Series, count_lines};
use super::{FOLDER, Voice, own};
use crate::config::{LOOK_AGAIN, WAITERS_MAX};
use crate::engine::Client;
use crate::shell::wakeup::Wakeup;
use crate::wire::control::{Code, Refusal};
use crate::wire::logs::LogsAsk;
use crate::wire::reply::Reply;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the scribe is asked to do.
pub enum Order {
    /// Write these whole lines.
    Append {
        voice: Voice,
        text: Vec<u8>,
    },
    Ask(Question),
    /// From now on files are this large and this many.
    Limit(Limits),
    /// Answer everybody and leave.
    Finish,
}

/// Who wants to read what.
pub struct Question {
    client: Client,
    ask: LogsAsk,
    /// The worker is there, whatever it has written.
    is_known: bool,
}

/// The loop's side.
pub struct Scribe {
    orders: Sender<Order>,
    pen: Pen,
    answers: Receiver<(Client, Reply)>,
    wakeup: Arc<Wakeup>,
    thread: Option<JoinHandle<()>>,
}

impl Scribe {
    /// Opens the logs below `home` and takes over what the daemon itself says.
    ///
    /// # Errors
    /// When the folder of the logs cannot be made, or the thread cannot be started.
    pub fn start(home: &Path, limits: Limits) -> io::Result<Scribe> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(home.join(FOLDER));
        made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
        let wakeup = Arc::new(Wakeup::new()?);
        let unwritten = Arc::new(AtomicUsize::new(0));
        let (orders, order_receiver) = channel();
        let (answer_sender, answers) = channel();
        let pen = Pen::new(orders.clone(), unwritten.clone());
        let is_stderr = own::keep(home, &pen);
        let desk = Desk {
            home: home.to_owned(),
            limits,
            is_stderr,
            books: BTreeMap::new(),
            unwritten,
            waiters: Vec::new(),
            looked: None,
            look_at: None,
            answers: answer_sender,
            wakeup: wakeup.clone(),
        };
        let thread = std::thread::Builder::new().name("scribe".to_owned());
        let thread = thread.spawn(move || desk.work(&order_receiver)).inspect_err(|_| own::leave())?;
        Ok(Scribe { orders, pen, answers, wakeup, thread: Some(thread) })
    }

    /// For whoever has lines to write.
    pub fn pen(&self) -> Pen {
        self.pen.clone()
    }

    /// Asks for lines; the answer comes later. `is_known` says that the worker is there, whatever it has written.
    ///
    /// # Errors
    /// The answer itself, if there will be no other.
    pub fn ask(&self, client: Client, ask: LogsAsk, is_known: bool) -> Result<(), Reply> {
        let sent = self.orders.send(Order::Ask(Question { client, ask, is_known }));
        sent.map_err(|_| refusal(Code::Internal, "the logs cannot be read: their thread has ended"))
    }

    /// Changes how large files are, and how many. One that has ended has said so.
    pub fn limit(&self, limits: Limits) {
        let _ = self.orders.send(Order::Limit(limits));
    }

    /// Readable when there is an answer.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    pub fn next_answer(&self) -> Option<(Client, Reply)> {
        self.answers.try_recv().ok()
    }

    /// Writes what there is, has everybody who waits answered, and ends. What the daemon says from now on goes to
    /// standard error alone.
    pub fn finish(&mut self) {
        own::leave();
        let _ = self.orders.send(Order::Finish);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; the daemon leaves anyway.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Desk {
    home: PathBuf,
    limits: Limits,
    /// The daemon's own series is its standard error.
    is_stderr: bool,
    books: BTreeMap<Voice, Book>,
    unwritten: Arc<AtomicUsize>,
    waiters: Vec<Waiter>,
    /// When the waiters were last looked at, and when they are to be again.
    looked: Option<Instant>,
    look_at: Option<Instant>,
    answers: Sender<(Client, Reply)>,
    wakeup: Arc<Wakeup>,
}

/// A series with what could not be written to it.
struct Book {
    series: Series,
    lost: u64,
}

/// A question that waits for a line.
struct Waiter {
    question: Question,
    from: Cursor,
    deadline: Instant,
}

impl Desk {
    fn work(mut self, orders: &Receiver<Order>) {
        loop {
            let order = match self.next_deadline() {
                None => orders.recv().ok(),
                Some(deadline) => {
                    match orders.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                        Ok(order) => Some(order),
                        Err(RecvTimeoutError::Timeout) => {
                            self.look();
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => None,
                    }
                }
            };
            match order {
                Some(Order::Append { voice, text }) => self.append(&voice, &text),
                Some(Order::Ask(question)) => self.take(question),
                Some(Order::Limit(limits)) => {
                    self.limits = limits;
                    self.books.values_mut().for_each(|book| book.series.set_limits(limits));
                }
                Some(Order::Finish) | None => break,
            }
            if self.look_at.is_some_and(|at| at <= Instant::now()) {
                self.look();
            }
        }
        let now = Instant::now();
        self.waiters.iter_mut().for_each(|waiter| waiter.deadline = now);
        self.look();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.waiters.iter().map(|waiter| waiter.deadline);
        deadlines.chain(self.look_at).min()
    }

    fn append(&mut self, voice: &Voice, text: &[u8]) {
        let (home, limits, is_stderr) = (&self.home, self.limits, self.is_stderr);
        let book = self.books.entry(voice.clone()).or_insert_with(|| {
            let (folder, name) = page::location(home, voice);
            let mut series = Series::new(&folder, name, limits);
            if *voice == Voice::Daemon && is_stderr {
                series.carry_stderr();
            }
            Book { series, lost: 0 }
        });
        book.append(voice, text);
        self.unwritten.fetch_sub(text.len(), Ordering::Relaxed);
        if !self.waiters.is_empty() && self.look_at.is_none() {
            // A flood of lines is not looked through once per line.
            let soonest = self.looked.map_or_else(Instant::now, |looked| looked + LOOK_AGAIN);
            self.look_at = Some(soonest);
        }
    }

    /// Answers a question, or lets it wait.
    fn take(&mut self, question: Question) {
        let from = match &question.ask.after {
            None => Some(Cursor::default()),
            Some(text) => Cursor::parse(text),
        };
        let Some(from) = from else {
            let reply = refusal(Code::BadRequest, "after is the next of an earlier reply");
            self.answer(question.client, reply);
            return;
        };
        let now = Instant::now();
        let has_room = self.waiters.len() < WAITERS_MAX;
        let patience = if has_room { question.ask.timeout } else { Duration::ZERO };
        let mut waiter = Waiter { question, from, deadline: now + patience };
        match waiter.try_answer(&self.home, now) {
            Some(reply) => self.answer(waiter.question.client, reply),
            None => self.waiters.push(waiter),
        }
    }

    /// Looks whether there is something for those who wait.
    fn look(&mut self) {
        let now = Instant::now();
        (self.looked, self.look_at) = (Some(now), None);
        for mut waiter in std::mem::take(&mut self.waiters) {
            match waiter.try_answer(&self.home, now) {
                Some(reply) => self.answer(waiter.question.client, reply),
                None => self.waiters.push(waiter),
            }
        }
    }

    /// The loop may have left already; then nobody wants to know.
    fn answer(&self, client: Client, reply: Reply) {
        let _ = self.answers.send((client, reply));
        self.wakeup.raise();
    }
}

impl Book {
    /// Writes lines. What cannot be written is counted, and said in the series when it can be written to again.
    fn append(&mut self, voice: &Voice, text: &[u8]) {
        let own_text = text;
        let mut noted;
        let mut text = text;
        if self.lost > 0 {
            noted = pen::note(voice, &format!("{} lines lost: they could not be written", self.lost));
            noted.extend_from_slice(text);
            text = &noted;
        }
        match self.series.append(text) {
            Ok(()) => self.lost = 0,
            Err(lost) => {
                let lines = count_lines(own_text);
                if self.lost == 0 {
                    let whose = match voice {
                        Voice::Daemon => "the daemon's own lines".to_owned(),
                        Voice::Pool(pool) => format!("the lines of pool {pool}'s workers"),
                    };
                    let error = &lost.error;
                    log::warn!("{whose} cannot be written and are lost until that is better: {error}");
                }
                // The note that is lost as well is no line of anybody's.
                self.lost = if lost.lines > lines { self.lost + lines } else { lost.lines };
            }
        }
    }
}

impl Waiter {
    /// `None`: nothing yet, and there is time.
    fn try_answer(&mut self, home: &Path, now: Instant) -> Option<Reply> {
        let ask = &self.question.ask;
        let page = match page::read(home, ask.worker.as_ref(), &self.from) {
            Ok(page) => page,
            Err(error) => return Some(refusal(Code::Internal, format!("the logs cannot be read: {error}"))),
        };
        let Page { pieces, next, gap, done } = page;
        if let Some(word) = ask.worker.as_ref().filter(|_| done && !next.found && !self.question.is_known) {
            let what = if word.generation.is_some() { "worker" } else { "slot" };
            let message = format!("there is no {what} {word}, and nothing of it in the logs");
            return Some(refusal(Code::NotFound, message));
        }
        if pieces.is_empty() && done && !gap && now < self.deadline {
            self.from = next;
            return None;
        }
        Some(Reply::Logs { pieces, next: next.to_string(), gap, done })
    }
}

fn refusal(code: Code, message: impl Into<String>) -> Reply {
    let refusal = Refusal::new(code, message);
    let refusal = if code == Code::NotFound { refusal.hint("pushpullctl workers") } else { refusal };
    Reply::Refused(Box::new(refusal))
}

#[cfg(test)]
mod tests;
