//! The nouns that every layer shares: jobs, their states, what ends an attempt, and what is written down.
//!
//! Nothing here acts and nothing here knows JSON, a clock or a file. The engine decides with these types, the
//! store keeps them and `wire` spells them.

mod batch;
mod cause;
mod counts;
mod job;
mod outcome;
mod pool;
mod query;
mod record;
mod row;
mod select;
mod state;
mod time;
mod worker;

pub use batch::*;
pub use cause::*;
pub use counts::*;
pub use job::*;
pub use outcome::*;
pub use pool::*;
pub use query::*;
pub use record::*;
pub use row::*;
pub use select::*;
pub use state::*;
pub use time::*;
pub use worker::*;
