//! The storekeeper: the thread that owns the store.
//!
//! It takes everything that has arrived while its last commit ran and writes it as one transaction (group commit):
//! under load a commit serves thousands of records, and an idle daemon's next record waits for nobody. What was
//! done is told in the order in which it was done; the engine relies on that.
//!
//! People's questions that need no order are answered by a second thread with a handle of its own, so that nobody's
//! list holds up a commit. Audits look at every job: a third thread makes one at a time, for all who have asked
//! before it began, so that no audit holds up a list. The log of the store grows while an audit lasts, by what is
//! written meanwhile, and is written back when it ends.

use super::wakeup::Wakeup;
use crate::engine::{Event, Ticket};
use crate::model::{Job, PoolName};
use crate::store::{Applied, Fetch, Query, Reader, Record, Store, StoreError};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

/// Jobs and outcomes in one commit: larger commits gain little and hold everyone up.
const COMMIT_JOBS_MAX: usize = 2_000;

/// What the storekeeper is asked to do.
enum Order {
    Write { ticket: Ticket, record: Arc<Record> },
    Fetch(Fetch),
    Rewind(Vec<Arc<Job>>),
    BeginAnew(PoolName),
    Query { ticket: Ticket, query: Query },
}

/// The loop's side of the storekeeper.
pub struct Storekeeper {
    orders: Option<Sender<Vec<Order>>>,
    /// Orders of this turn, which go out together.
    batch: Vec<Order>,
    questions: Option<Sender<(Ticket, Query)>>,
    audits: Option<Sender<Ticket>>,
    /// An audit that is under way is not waited for at the end.
    stop_audit: Arc<AtomicBool>,
    events: Receiver<Vec<Event>>,
    wakeup: Arc<Wakeup>,
    reader: Option<JoinHandle<()>>,
    auditor: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Storekeeper {
    /// Starts the threads. `store` has recovered already.
    ///
    /// # Errors
    /// When a thread cannot be started, or the store cannot be opened a second time.
    pub fn start(store: Box<dyn Store>) -> io::Result<Storekeeper> {
        let reader = store.reader().map_err(io::Error::other)?;
        let stop_audit = Arc::new(AtomicBool::new(false));
        let auditor = store.auditor(Arc::clone(&stop_audit)).map_err(io::Error::other)?;
        let wakeup = Arc::new(Wakeup::new()?);
        let (order_sender, orders) = channel();
        let (event_sender, events) = channel();
        let (questions, reader) = match reader {
            None => (None, None),
            Some(reader) => {
                let (question_sender, questions) = channel();
                let told = Told::new(event_sender.clone(), wakeup.clone());
                let thread = spawn("reader", move || answer(reader, &questions, told))?;
                (Some(question_sender), Some(thread))
            }
        };
        let (audits, auditor) = match auditor {
            None => (None, None),
            Some(auditor) => {
                let (audit_sender, audits) = channel();
                let told = Told::new(event_sender.clone(), wakeup.clone());
                let thread = spawn("auditor", move || audit(auditor, &audits, told))?;
                (Some(audit_sender), Some(thread))
            }
        };
        let told = Told::new(event_sender, wakeup.clone());
        let keeper = Some(spawn("storekeeper", move || keep(store, &orders, told))?);
        let orders = Some(order_sender);
        Ok(Storekeeper {
            orders,
            batch: Vec::new(),
            questions,
            audits,
            stop_audit,
            events,
            wakeup,
            reader,
            auditor,
            keeper,
        })
    }

    pub fn write(&mut self, ticket: Ticket, record: Arc<Record>) {
        self.order(Order::Write { ticket, record });
    }

    pub fn fetch(&mut self, fetch: Fetch) {
        self.order(Order::Fetch(fetch));
    }

    pub fn rewind(&mut self, jobs: Vec<Arc<Job>>) {
        self.order(Order::Rewind(jobs));
    }

    pub fn begin_anew(&mut self, pool: PoolName) {
        self.order(Order::BeginAnew(pool));
    }

    /// Asks the store: in order with writes, or whoever is free.
    pub fn query(&mut self, ticket: Ticket, query: Query, ordered: bool) {
        if let (Some(audits), Query::Audit, false) = (&self.audits, &query, ordered) {
            // It fails if the auditor has died, which `has_died` tells.
            let _ = audits.send(ticket);
            return;
        }
        match &self.questions {
            Some(questions) if !ordered => {
                // It fails if the reader has died, which `has_died` tells.
                let _ = questions.send((ticket, query));
            }
            Some(_) | None => self.order(Order::Query { ticket, query }),
        }
    }

    fn order(&mut self, order: Order) {
        self.batch.push(order);
    }

    /// Hands over what was ordered since the last time.
    ///
    /// # Panics
    /// After [`Storekeeper::stop`].
    pub fn flush(&mut self) {
        if !self.batch.is_empty() {
            let orders = self.orders.as_ref().expect("nothing is ordered after the end");
            // It fails if the storekeeper has died, which `has_died` tells.
            let _ = orders.send(std::mem::take(&mut self.batch));
        }
    }

    /// Readable when something was done.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Takes what was done.
    pub fn take_events(&self, events: &mut Vec<Event>) {
        for told in self.events.try_iter() {
            events.extend(told);
        }
    }

    /// Ends the threads when they have done all that was ordered, and closes the store.
    ///
    /// # Panics
    /// When one of them panicked: the daemon cannot go on without its store.
    pub fn stop(&mut self) {
        // The readers first: whoever closes the file last tidies it up, and a reader may not write.
        self.questions = None;
        self.audits = None;
        self.stop_audit.store(true, Ordering::Relaxed);
        if let Some(auditor) = self.auditor.take() {
            auditor.join().expect("the auditor panicked");
        }
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader panicked");
        }
        self.orders = None;
        if let Some(keeper) = self.keeper.take() {
            keeper.join().expect("the storekeeper panicked");
        }
    }

    /// Whether a thread has ended although it should not have: it panicked.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.reader.iter().chain(&self.auditor).chain(&self.keeper).any(JoinHandle::is_finished)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Where events go, those of one piece of work together.
struct Told {
    gathered: Vec<Event>,
    events: Sender<Vec<Event>>,
    wakeup: Arc<Wakeup>,
}

impl Told {
    fn new(events: Sender<Vec<Event>>, wakeup: Arc<Wakeup>) -> Told {
        Told { gathered: Vec::new(), events, wakeup }
    }

    fn tell(&mut self, event: Event) {
        self.gathered.push(event);
    }

    /// The loop may have left already; then nobody wants to know.
    fn wake(&mut self) {
        let _ = self.events.send(std::mem::take(&mut self.gathered));
        self.wakeup.raise();
    }
}

fn answer(mut reader: Box<dyn Reader>, questions: &Receiver<(Ticket, Query)>, mut told: Told) {
    while let Ok((ticket, query)) = questions.recv() {
        told.tell(Event::Answered { ticket, result: reader.query(&query) });
        told.wake();
    }
}

fn audit(mut auditor: Box<dyn Reader>, audits: &Receiver<Ticket>, mut told: Told) {
    while let Ok(first) = audits.recv() {
        let mut tickets = vec![first];
        tickets.extend(audits.try_iter());
        let result = auditor.query(&Query::Audit);
        for ticket in tickets {
            told.tell(Event::Answered { ticket, result: result.clone() });
        }
        told.wake();
    }
}

fn keep(mut store: Box<dyn Store>, orders: &Receiver<Vec<Order>>, mut told: Told) {
    let mut waiting: VecDeque<Order> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match orders.try_recv() {
                Ok(batch) => waiting.extend(batch),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    store.idle();
                    match orders.recv() {
                        Ok(batch) => waiting.extend(batch),
                        Err(_) => return,
                    }
                }
            }
        }
        let (writes, others) = next_group(&mut waiting, orders);
        // Whatever was asked between two writes may be answered after both: it is told after both as well.
        commit(store.as_mut(), writes, &mut told);
        for order in others {
            serve(store.as_mut(), order, &mut told);
        }
        told.wake();
    }
}

/// Takes what is committed together, and what is done after it.
fn next_group(
    waiting: &mut VecDeque<Order>,
    orders: &Receiver<Vec<Order>>,
) -> (Vec<(Ticket, Arc<Record>)>, Vec<Order>) {
    let mut writes = Vec::new();
    let mut others = Vec::new();
    let mut weight = 0;
    while weight < COMMIT_JOBS_MAX {
        if waiting.is_empty() {
            waiting.extend(orders.try_iter().flatten());
        }
        match waiting.pop_front() {
            Some(Order::Write { ticket, record }) => {
                weight += jobs_in(&record);
                writes.push((ticket, record));
            }
            Some(
                other @ (Order::Fetch(_) | Order::Rewind(_) | Order::BeginAnew(_) | Order::Query { .. }),
            ) => others.push(other),
            None => break,
        }
    }
    (writes, others)
}

/// Jobs that a record writes, roughly what it costs.
fn jobs_in(record: &Record) -> usize {
    match record {
        Record::Chunk(chunk) => chunk.jobs.len().max(1),
        Record::Promote { limit, .. } | Record::Release { limit, .. } | Record::Expire { limit, .. } => {
            *limit
        }
        Record::Retry { ids } | Record::Remove { ids } => ids.len(),
        Record::Finish(_)
        | Record::Charge(_)
        | Record::Discard(_)
        | Record::Pause { .. }
        | Record::Generations(_) => 1,
    }
}

fn commit(store: &mut dyn Store, writes: Vec<(Ticket, Arc<Record>)>, told: &mut Told) {
    if writes.is_empty() {
        return;
    }
    let (tickets, records): (Vec<Ticket>, Vec<Arc<Record>>) = writes.into_iter().unzip();
    match store.apply(&records) {
        Ok(applied) => {
            for (ticket, applied) in tickets.into_iter().zip(share_out(&records, applied)) {
                told.tell(Event::Written { ticket, result: Ok(applied) });
            }
        }
        // One record may be what the store chokes on: the others are not to suffer for it.
        Err(StoreError::Io(_)) if records.len() > 1 => {
            for (ticket, record) in tickets.into_iter().zip(records) {
                let result = store.apply(&[record]);
                told.tell(Event::Written { ticket, result });
            }
        }
        Err(error) => {
            for ticket in tickets {
                told.tell(Event::Written { ticket, result: Err(error.clone()) });
            }
        }
    }
}

/// Gives each record of a group its own results. What belongs to the group as a whole goes with the first.
fn share_out(records: &[Arc<Record>], applied: Applied) -> Vec<Applied> {
    let Applied { chunks, finishes, moves, next_due, changed, cancelled, visible, releases } = applied;
    let (mut chunks, mut finishes) = (chunks.into_iter(), finishes.into_iter());
    let (mut next_due, mut changed) = (next_due.into_iter(), changed.into_iter());
    let mut shares: Vec<Applied> = records
        .iter()
        .map(|record| {
            let mut share = Applied::default();
            match &**record {
                Record::Chunk(_) => share.chunks.extend(chunks.next()),
                Record::Finish(_) => share.finishes.extend(finishes.next()),
                Record::Promote { .. } => share.next_due.extend(next_due.next()),
                Record::Retry { .. } | Record::Remove { .. } | Record::Expire { .. } => {
                    share.changed.extend(changed.next());
                }
                Record::Charge(_)
                | Record::Discard(_)
                | Record::Release { .. }
                | Record::Pause { .. }
                | Record::Generations(_) => {}
            }
            share
        })
        .collect();
    if let Some(first) = shares.first_mut() {
        first.moves = moves;
        first.cancelled = cancelled;
        first.visible = visible;
    }
    // Each release wants to know whether another one is needed.
    for share in &mut shares {
        share.releases = releases;
    }
    shares
}

fn serve(store: &mut dyn Store, order: Order, told: &mut Told) {
    match order {
        Order::Fetch(fetch) => {
            let pool: PoolName = fetch.pool.clone();
            told.tell(Event::Fetched { pool, result: store.fetch(&fetch) });
        }
        Order::Rewind(jobs) => store.rewind(&jobs),
        Order::BeginAnew(pool) => store.begin_anew(&pool),
        Order::Query { ticket, query } => {
            told.tell(Event::Answered { ticket, result: store.query(&query) });
        }
        Order::Write { .. } => unreachable!("writes are committed together"),
    }
}
