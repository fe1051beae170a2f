//! The real daemon with real sockets, real processes and real kills.
//!
//! Nothing here sleeps or tries again: a test waits for a reply, for a line in a FIFO or for the end of a process,
//! and fails when it does not come within [`process::PATIENCE`]. Every daemon has directories of its own, and all
//! that a test has started ends with it, also when it fails.

mod aftercare;
mod chaos;
mod clients;
mod commands;
mod copies;
mod crashes;
mod dice;
mod disk;
mod fifo;
mod foreign;
mod harness;
mod hostile;
mod load;
mod logs;
mod misdeeds;
mod notify;
mod once;
mod once_run;
mod once_start;
mod poison;
mod process;
mod protocol;
mod recover;
mod refusing;
mod reloading;
mod replacing;
mod restarts;
mod sharing;
mod site;
mod starting;
mod stopping;
mod unkillable;
mod worker;
