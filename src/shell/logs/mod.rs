//! What workers and the daemon have written, kept in files that rotate, and read again for people.
//!
//! ```text
//! crew (a worker's lines)  --> Pen --\
//!                                     >--> scribe (a thread) --> series (files) --> page --> reply
//! own (the daemon's lines) --> Pen --/
//! ```
//!
//! One thread does all that touches these files, so a slow or full disk holds up neither the loop nor a worker. It
//! writes in the order in which it was told, and reads its own writing: who asks for what comes next has it from
//! the thread that knows when something comes. Between it and the loop lies a bounded amount of text; what goes
//! beyond it is dropped and counted. Nothing here is synced: these are words about work, not the work.
//!
//! The daemon's own lines are the series `pushpulld.log` in its home (the state directory; with `--memory` the
//! runtime directory), those of a pool's workers `logs/POOL.log` below it.

mod cursor;
mod own;
mod page;
mod pen;
mod scribe;
mod series;

pub use own::install;
pub use pen::Pen;
pub use scribe::Scribe;
pub use series::Limits;

/// The folder of the pools' series in the daemon's home.
pub const FOLDER: &str = "logs";

/// The daemon's own series in its home.
pub const OWN_FILE: &str = "pushpulld.log";

/// Whose lines a series holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Voice {
    Daemon,
    Pool(crate::model::PoolName),
}
