//! The invented disk: a real store whose commits take their time, fail, or are cut short by a crash.
//!
//! A commit becomes durable first and is told later; a crash may come in between. Where one commit ends and the
//! next begins is the world's choice.

use pushpull::engine::{Event, Ticket};
use pushpull::model::{
    Answer, Applied, Counts, Fetch, Job, JobId, PoolName, Query, Record, Recovered, Row, Select, StoreError,
    Wall,
};
use pushpull::store::{MemoryStore, Store};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the storekeeper is asked to do.
#[derive(Clone, Debug)]
pub enum Order {
    Write(Ticket, Arc<Record>),
    Fetch(Fetch),
    Rewind(Vec<Arc<Job>>),
    BeginAnew(PoolName),
    Query(Ticket, Query),
}

/// Orders that the storekeeper has taken up together.
#[derive(Default)]
struct Group {
    writes: Vec<(Ticket, Arc<Record>)>,
    others: Vec<Order>,
    /// What is to be told of the writes, once they are durable or have failed.
    told: Option<Vec<Event>>,
}

/// A record that has become durable, and what it changed.
pub type Durable = (Arc<Record>, Applied);

/// A storekeeper without a thread.
pub struct Disk {
    store: MemoryStore,
    orders: VecDeque<Order>,
    working: Option<Group>,
    /// Writes fail like this.
    pub broken: Option<StoreError>,
    /// Reads fail as well.
    pub unreadable: bool,
    /// Writes have failed at some time.
    pub was_broken: bool,
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            store: MemoryStore::new(),
            orders: VecDeque::new(),
            working: None,
            broken: None,
            unreadable: false,
            was_broken: false,
        }
    }

    pub fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// How many orders wait.
    pub fn waiting(&self) -> usize {
        self.orders.len()
    }

    /// Takes at most `limit` of what waits as the next group. False when there is nothing or a group is at work.
    pub fn begin(&mut self, limit: usize) -> bool {
        if self.working.is_some() || self.orders.is_empty() {
            return false;
        }
        let mut group = Group::default();
        for order in self.orders.drain(..limit.min(self.orders.len())) {
            match order {
                Order::Write(ticket, record) => group.writes.push((ticket, record)),
                Order::Fetch(_) | Order::Rewind(_) | Order::BeginAnew(_) | Order::Query(..) => {
                    group.others.push(order);
                }
            }
        }
        self.working = Some(group);
        true
    }

    /// The writes of the group at work become durable, or fail.
    pub fn sync(&mut self) -> Vec<Durable> {
        let mut durable = Vec::new();
        let Some(writes) = self.working.as_ref().filter(|group| group.told.is_none()) else {
            return durable;
        };
        let mut told = Vec::new();
        for (ticket, record) in writes.writes.clone() {
            // One by one: their results need not be shared out, and the engine cannot tell.
            let result = self.apply(&record);
            if let Ok(applied) = &result {
                durable.push((record, applied.clone()));
            }
            told.push(Event::Written { ticket, result });
        }
        self.working.as_mut().expect("it was just seen").told = Some(told);
        durable
    }

    /// The group at work is done: what is to be told, in order.
    pub fn finish(&mut self) -> Vec<Event> {
        self.sync();
        let group = self.working.take().expect("a group is at work");
        let mut events = group.told.expect("it is durable by now");
        for order in group.others {
            match order {
                Order::Fetch(fetch) => {
                    let result = self.readable().and_then(|()| self.store.fetch(&fetch));
                    events.push(Event::Fetched { pool: fetch.pool, result });
                }
                Order::Rewind(jobs) => self.store.rewind(&jobs),
                Order::BeginAnew(pool) => self.store.begin_anew(&pool),
                Order::Query(ticket, query) => {
                    events.push(Event::Answered { ticket, result: self.answer(&query) });
                }
                Order::Write(..) => unreachable!("writes were taken out"),
            }
        }
        events
    }

    /// Whether all that is durable has been told.
    pub fn is_told(&self) -> bool {
        self.working.as_ref().is_none_or(|group| group.told.is_none() || group.writes.is_empty())
    }

    fn apply(&mut self, record: &Arc<Record>) -> Result<Applied, StoreError> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.store.apply(std::slice::from_ref(record)),
        }
    }

    fn readable(&self) -> Result<(), StoreError> {
        match &self.broken {
            Some(error) if self.unreadable => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// Answers from what is durable, as the second thread does.
    pub fn answer(&mut self, query: &Query) -> Result<Answer, StoreError> {
        self.readable()?;
        self.store.query(query)
    }

    /// The daemon dies. What was handed over and not committed is lost, all of it or all behind some point.
    pub fn crash(&mut self, committed: usize) -> Vec<Durable> {
        let group = self.working.take().unwrap_or_default();
        let mut durable = Vec::new();
        if group.told.is_none() {
            for (_, record) in group.writes.into_iter().take(committed) {
                if let Ok(applied) = self.apply(&record) {
                    durable.push((record, applied));
                }
            }
        }
        self.orders.clear();
        durable
    }

    /// A daemon starts on what is left.
    pub fn recover(&mut self, now: Wall) -> Recovered {
        self.store.shorten_delays(now);
        self.store.recover().expect("a store in memory can always be read")
    }

    /// Asks what is durable, past all queues.
    pub fn look(&mut self, query: &Query) -> Answer {
        self.store.query(query).expect("a store in memory can always be read")
    }

    /// How many jobs stand where.
    pub fn counts(&mut self, select: &Select) -> Counts {
        match self.look(&Query::Counts(select.clone())) {
            Answer::Counts { counts, .. } => counts,
            _ => Counts::default(),
        }
    }

    /// One job as it is durable.
    pub fn row(&mut self, id: JobId) -> Option<Row> {
        match self.look(&Query::Job(id)) {
            Answer::Job { row, .. } => Some(*row),
            _ => None,
        }
    }
}
