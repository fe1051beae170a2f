//! What acts: the world outside as the engine sees it. Nothing here decides what ought to happen.

pub mod account;
mod aside;
pub mod child;
pub mod clients;
pub mod context;
pub mod crew;
pub mod daemon;
pub mod dirs;
pub mod endpoints;
pub mod exec;
pub mod kernel;
pub mod limits;
pub mod lock;
pub mod logs;
pub mod network;
pub mod notify;
pub mod output;
pub mod place;
pub mod program;
pub mod reaper;
pub mod signals;
pub mod spawn;
pub mod storekeeper;
pub mod sweep;
pub mod tree;
pub mod wakeup;
pub mod watch;
