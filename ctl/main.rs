//! pushpullctl: submits jobs, shows what becomes of them, and tells the daemon what to do.
//!
//! ```text
//! args (what is wanted) -> verbs/* (one file each) -> client (one request, one reply) -> reply
//!                                                  -> screen, table (people) or JSON (programs)
//! ```
//!
//! Data goes to stdout, talk to stderr, and only `main` exits.

mod args;
mod client;
mod failure;
mod find;
mod interrupt;
mod pages;
mod policy;
mod reply;
mod screen;
mod selecting;
mod submission;
mod table;
mod trouble;
mod verbs;
mod waiting;
mod words;

use args::Cli;
use clap::Parser;
use client::{Client, Patience};
use failure::{Ending, Failure};
use interrupt::Interrupts;
use pushpull::shell::place::Surroundings;
use screen::{Screen, say};
use std::process::ExitCode;
use verbs::Session;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => ExitCode::from(run(cli)),
        Err(error) => ExitCode::from(args::explain(&error)),
    }
}

/// Does what is asked; the exit status.
fn run(cli: Cli) -> u8 {
    let json = cli.json;
    match act(cli) {
        Ok(ending) => ending.exit_status(),
        Err(failure) => {
            if failure.is_silent() {
            } else if json {
                say(&failure.json());
            } else {
                say(&format!("pushpullctl: {}", failure.text()));
            }
            failure.exit_status()
        }
    }
}

fn act(cli: Cli) -> Result<Ending, Failure> {
    let interrupts = Interrupts::listen()
        .map_err(|error| Failure::System(format!("signals cannot be taken over: {error}")))?;
    let surroundings = Surroundings::of_this_process();
    let candidates = find::candidates(cli.runtime_dir.as_deref(), &surroundings);
    let is_named = cli.runtime_dir.is_some() || surroundings.own_runtime.is_some();
    let mut session = Session {
        client: Client::new(candidates, is_named, Patience::default(), interrupts),
        screen: Screen::of_this_process(cli.json),
    };
    let ended = cli.verb.run(&mut session);
    // What was printed before a failure belongs in front of its message; a second failure would hide the first.
    let flushed = session.screen.flush();
    let ending = ended?;
    flushed?;
    Ok(ending)
}
