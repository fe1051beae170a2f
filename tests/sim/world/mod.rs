//! The world: time, processes, messages, the disk and clients, around the real engine.
//!
//! Everything that will happen lies in one queue by its time. The world takes the next thing, lets the engine step,
//! and turns the engine's effects into more things to happen.
//!
//! | module | |
//! |---|---|
//! | `fate` | what the seed decides before anything happens |
//! | `happening` | what can happen |
//! | `effects` | what the engine wants done |
//! | `crew` | processes: jobs, answers, deaths |
//! | `asking`, `hearing` | clients |
//! | `lives` | crashes, stops, starts, changes of the configuration |
//! | `peace` | the end: without faults everything finishes |

mod asking;
mod crew;
mod effects;
pub mod fate;
mod happening;
mod hearing;
mod lives;
mod peace;

use crate::clients::Submit;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::oracles::{Oracles, Seen};
use crate::plan::Plans;
use crate::workers::Process;
pub use crew::last_words;
use happening::Happening;
use pushpull::config::Config;
use pushpull::engine::{Effects, Engine, Event};
use pushpull::model::{FinishCursor, Generation, Mono, Now, Wall, Word};
use std::collections::BTreeMap;

pub const US: u64 = 1_000;
pub const MS: u64 = 1_000 * US;
pub const SECOND: u64 = 1_000 * MS;

/// Nothing that ends says more than this.
const TRACE_LINES_MAX: usize = 100_000;

pub struct World {
    dice: Dice,
    /// What the administrator wants in the end.
    whole: Config,
    /// What the daemon that runs was started with.
    config: Config,
    now: u64,
    /// The wall clock's milliseconds are this far ahead of the other clock's; it is set now and then.
    wall_offset: i64,
    engine: Engine,
    effects: Effects,
    disk: Disk,
    /// People's questions are answered by a thread of their own, past the queue of commits.
    has_reader: bool,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    processes: BTreeMap<Generation, Process>,
    plans: Plans,
    submits: Vec<Submit>,
    next_client: u64,
    faults: bool,
    /// The daemon has left with this status.
    left: Option<u8>,
    /// The last stop: nobody starts the daemon again.
    ending: bool,
    /// What was cancelled last.
    last_cancel: Vec<Word>,
    follower: FinishCursor,
    /// The follower has been told everything.
    followed: bool,
    /// Clients submit nothing any more.
    quiet: bool,
    oracles: Oracles,
    pub trace: Vec<String>,
}

impl World {
    /// Runs until everything has finished, or an oracle speaks.
    pub fn run(&mut self) -> Result<(), String> {
        self.engine.start(self.clock(), &mut self.effects);
        self.perform()?;
        self.run_until(self.now + 3 * SECOND)?;
        self.make_peace()
    }

    fn run_until(&mut self, end: u64) -> Result<(), String> {
        while let Some((&(at, sequence), _)) = self.queue.first_key_value() {
            if at > end {
                break;
            }
            let happening = self.queue.remove(&(at, sequence)).expect("it was just seen");
            if self.trace.len() > TRACE_LINES_MAX {
                return Err(format!("so much happens that it never ends, last {happening:?}"));
            }
            self.now = self.now.max(at);
            self.trace.push(format!("{} {happening:?}", self.now));
            self.happen(happening)?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn clock(&self) -> Now {
        clock(self.now, self.wall_offset)
    }

    fn later(&mut self, delay: u64, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn at(&mut self, when: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), happening);
    }

    /// Lets the engine take one event, unless the daemon is gone.
    fn step(&mut self, event: Event) -> Result<(), String> {
        if self.left.is_some() {
            return Ok(());
        }
        self.engine.step(self.clock(), event, &mut self.effects);
        self.perform()
    }

    /// The oracles, and what they may look at.
    fn watch(&mut self) -> (&mut Oracles, Seen<'_>) {
        let seen = Seen {
            now: clock(self.now, self.wall_offset),
            config: &self.config,
            plans: &self.plans,
            submits: &self.submits,
            disk: &mut self.disk,
        };
        (&mut self.oracles, seen)
    }
}

fn clock(now: u64, wall_offset: i64) -> Now {
    let ms = now / MS;
    Now { mono: Mono(now), wall: Wall(ms.saturating_add_signed(wall_offset)) }
}
