//! What travels: the only place that knows JSON.
//!
//! | module | between |
//! |---|---|
//! | [`pipeline`] | daemon and workers |
//! | [`control`], [`request`], [`reply`] | daemon and pushpullctl |
//! | [`job`] | one job of a submit, as it stands in a file and on the control socket |
//! | [`jobfile`] | a job file and whoever submits it |
//! | [`logs`] | lines that workers and the daemon have written |
//! | [`record`] | a kept job, as every reply and `--once` print it |
//! | [`select`], [`duration`], [`timestamp`] | people and both programs |
//!
//! [`object`] writes JSON without touching payloads, [`nearest`] finds what a mistyped word was meant to be.

pub mod base64;
pub mod control;
pub mod duration;
pub mod evidence;
#[cfg(test)]
mod hostile;
pub mod job;
pub mod jobfile;
pub mod logs;
pub mod nearest;
pub mod object;
pub mod pipeline;
pub mod record;
pub mod reply;
pub mod request;
#[cfg(test)]
mod seeded;
pub mod select;
pub mod timestamp;
