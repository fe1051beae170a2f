//! The real daemon with real sockets, real processes and real kills.
//!
//! Nothing here sleeps or tries again: a test waits for a reply, for a line in a FIFO or for the end of a process,
//! and fails when it does not come within [`process::PATIENCE`]. Every daemon has directories of its own, and all
//! that a test has started ends with it, also when it fails.

mod commands;
mod crashes;
mod fifo;
mod foreign;
mod harness;
mod load;
mod process;
mod protocol;
mod refusing;
mod restarts;
mod site;
mod starting;
mod stopping;
mod worker;
