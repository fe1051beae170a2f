//! The built-in worker: `pushpulld` executed again, to run the commands of jobs.
//!
//! It speaks the protocol of every worker and is started like every worker. One thread, one command at a time.
//!
//! | module | |
//! |---|---|
//! | `service` | the loop: orders, commands, reports |
//! | `link`, `wake` | the sockets, the signals |
//! | `surroundings`, `command` | where a command runs, how it is started |
//! | `running`, `stream`, `sweep` | a command from its start to its end, its streams, what it left behind |
//! | `capture`, `outcome` | what is kept of its output, what is reported |
//! | `process` | the kernel's calls |

mod capture;
mod command;
mod link;
mod outcome;
mod process;
mod running;
mod service;
mod stream;
mod surroundings;
mod sweep;
mod wake;

use std::fmt::Display;
use std::process::ExitCode;

/// The argument by which `pushpulld` knows that it is to be a worker.
pub const ARGUMENT: &str = "worker";

/// Works as a worker until told to leave; the endpoints are in the environment.
///
/// The process must have no other threads and no children.
#[must_use]
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the worker stops: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    // Executed through /proc/self/exe, it would be called `exe` in lists of processes.
    let _ = nix::sys::prctl::set_name(c"pushpull-worker");
    process::reset_signals().map_err(failed("reset signals"))?;
    let wake = wake::Wake::listen().map_err(failed("listen to signals"))?;
    process::become_subreaper().map_err(failed("adopt orphans"))?;
    let link = link::Link::connect(&endpoint("PUSHPULL_JOBS")?, &endpoint("PUSHPULL_RESULTS")?)
        .map_err(failed("connect to the daemon"))?;
    process::keep_descriptors_from_commands().map_err(failed("mark descriptors"))?;
    service::Service::new(link, wake).serve().map_err(failed("talk to the daemon"))
}

fn endpoint(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}; workers are started by pushpulld"))
}

fn failed<E: Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("cannot {what}: {error}")
}
#[cfg(test)]
mod tests;
