//! What a program needs to talk to a daemon: ask and be answered, submit a file, follow its outcomes.
//!
//! `pushpullctl` and `pushpulld --once` are made of this.

mod chunks;
mod link;
mod order;
mod pour;
mod tally;
mod terminal;

pub use chunks::{Chunks, Head, abort};
pub use link::{AskError, Link};
pub use pour::pour;
pub use tally::{Tally, job_line, thousands};
pub use terminal::columns;
