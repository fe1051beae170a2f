//! The invented disk: a real store whose commits take their time, fail, or are cut short by a crash.

use pushpull::engine::{Event, Ticket};
use pushpull::model::Job;
use pushpull::model::{Applied, Fetch, Query, Record, Recovered, StoreError};
use pushpull::store::{MemoryStore, Store};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the storekeeper is asked to do.
#[derive(Clone, Debug)]
pub enum Order {
    Write(Ticket, Arc<Record>),
    Fetch(Fetch),
    Rewind(Vec<Arc<Job>>),
    Query(Ticket, Query),
}

/// A storekeeper without a thread.
pub struct Disk {
    store: MemoryStore,
    orders: VecDeque<Order>,
    /// The group at work: what it will have done when its time has come.
    working: Option<Vec<Order>>,
    /// Writes fail while this is set.
    pub broken: bool,
    /// They have failed at some time.
    pub was_broken: bool,
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            store: MemoryStore::new(),
            orders: VecDeque::new(),
            working: None,
            broken: false,
            was_broken: false,
        }
    }

    pub fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// Takes everything that waits as the next group. False when there is nothing or a group is at work.
    pub fn begin(&mut self) -> bool {
        if self.working.is_some() || self.orders.is_empty() {
            return false;
        }
        self.working = Some(self.orders.drain(..).collect());
        true
    }

    /// The group at work is done: what is to be told, in order.
    pub fn finish(&mut self) -> Vec<Event> {
        let group = self.working.take().expect("a group is at work");
        let (mut events, mut others, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        for order in group {
            match order {
                Order::Write(ticket, record) => writes.push((ticket, record)),
                Order::Fetch(_) | Order::Rewind(_) | Order::Query(..) => others.push(order),
            }
        }
        for (ticket, record) in writes {
            // One by one: their results need not be shared out, and the engine cannot tell.
            let result = self.apply(record);
            events.push(Event::Written { ticket, result });
        }
        for order in others {
            match order {
                Order::Fetch(fetch) => {
                    let result = self.store.fetch(&fetch);
                    events.push(Event::Fetched { pool: fetch.pool, result });
                }
                Order::Rewind(jobs) => self.store.rewind(&jobs),
                Order::Query(ticket, query) => {
                    events.push(Event::Answered { ticket, result: self.store.query(&query) });
                }
                Order::Write(..) => unreachable!("writes were taken out"),
            }
        }
        events
    }

    fn apply(&mut self, record: Arc<Record>) -> Result<Applied, StoreError> {
        if self.broken { Err(StoreError::NoSpace) } else { self.store.apply(&[record]) }
    }

    /// The daemon dies. What was handed over and not committed is lost, all of it or all behind some point.
    pub fn crash(&mut self, committed: usize) {
        let group = self.working.take().unwrap_or_default();
        let mut written = 0;
        for order in group {
            match order {
                Order::Write(_, record) if written < committed => {
                    written += 1;
                    let _ = self.apply(record);
                }
                Order::Write(..) => break,
                Order::Fetch(_) | Order::Rewind(_) | Order::Query(..) => {}
            }
        }
        self.orders.clear();
    }

    pub fn recover(&mut self) -> Recovered {
        self.store.recover().expect("a store in memory can always be read")
    }

    /// Asks what is durable, past all queues.
    pub fn look(&mut self, query: &Query) -> pushpull::model::Answer {
        self.store.query(query).expect("a store in memory can always be read")
    }
}
