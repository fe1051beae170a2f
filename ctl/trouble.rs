//! Why a request got no reply, and what can be done about it.

use crate::find::Tried;
use crate::interrupt::Interrupt;
use pushpull::wire::duration;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens anywhere.
    Unreachable(Vec<Tried>),
    /// The daemon that was asked is gone.
    Gone(PathBuf),
    /// It is there and does not answer.
    Silent(PathBuf, Duration),
    Interrupted(Interrupt),
    /// Our own socket does not work.
    Socket(String),
}

impl Trouble {
    pub fn exit_status(&self) -> u8 {
        match self {
            Trouble::Unreachable(_) | Trouble::Gone(_) | Trouble::Silent(..) => 3,
            Trouble::Interrupted(interrupt) => interrupt.exit_status(),
            Trouble::Socket(_) => 6,
        }
    }

    /// Its word in JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Trouble::Unreachable(_) | Trouble::Gone(_) => "unreachable",
            Trouble::Silent(..) => "silent",
            Trouble::Interrupted(_) => "interrupted",
            Trouble::Socket(_) => "internal",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Trouble::Unreachable(_) => {
                "Start one: pushpulld --daemonize. If it is elsewhere, say --runtime-dir DIR".to_owned()
            }
            Trouble::Gone(_) => "See its log, or start it again: pushpulld --daemonize".to_owned(),
            Trouble::Silent(..) => {
                "It may be stopped or stuck: see its log, or start it again: pushpulld --daemonize".to_owned()
            }
            Trouble::Interrupted(_) | Trouble::Socket(_) => String::new(),
        }
    }

    /// Whether another attempt could go better.
    pub fn may_pass(&self) -> bool {
        match self {
            Trouble::Unreachable(_) | Trouble::Gone(_) | Trouble::Silent(..) => true,
            Trouble::Interrupted(_) | Trouble::Socket(_) => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable(tried) => {
                f.write_str("no pushpulld can be reached. Tried:")?;
                tried
                    .iter()
                    .try_for_each(|Tried { socket, why }| write!(f, "\n  {}: {why}", socket.display()))
            }
            Trouble::Gone(socket) => {
                write!(f, "the pushpulld of {} ended without an answer", socket.display())
            }
            Trouble::Silent(socket, span) => {
                write!(f, "the pushpulld of {} is silent for {}", socket.display(), duration::render(*span))
            }
            Trouble::Interrupted(Interrupt::Interrupted) => f.write_str("interrupted"),
            Trouble::Interrupted(Interrupt::Terminated) => f.write_str("terminated"),
            Trouble::Socket(error) => write!(f, "the control socket cannot be used: {error}"),
        }
    }
}
