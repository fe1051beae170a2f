//! The simulation: the real engine in an invented world.
//!
//! One seed decides everything: how long each message, commit and job takes, which worker dies when, when the
//! daemon is killed, when the disk fails. First come faults; then they stop, and everything must finish. Oracles
//! (`oracles/`) watch every effect; each has a mutant, a one-line bug of the engine that must make it fail
//! (`cargo test --features mutants --test sim`).
//!
//! `PUSHPULL_SEEDS=FIRST..LAST` hunts through other seeds; with `PUSHPULL_TRACE` set a failing seed's trace is printed.

#![expect(clippy::cast_possible_truncation, reason = "draws are small")]

mod clients;
mod dice;
mod disk;
mod oracles;
mod plan;
mod scenarios;
mod workers;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// Seeds that every run goes through.
const SEEDS: Range<u64> = 0..500;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("PUSHPULL_SEEDS") else {
        return SEEDS;
    };
    let (first, last) = text.split_once("..").expect("PUSHPULL_SEEDS is FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

/// What goes wrong with this seed, and the trace up to there. A bug of ours that the engine notices counts as well.
fn play(seed: u64) -> Result<(), (String, Vec<String>)> {
    let mut world = World::new(seed);
    let played = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match played {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => format!("panic: {text}"),
            None => "panic".to_owned(),
        },
    };
    Err((failure, world.trace))
}

#[test]
fn every_promise_holds_for_every_seed() {
    let mut failures = Vec::new();
    for seed in seeds() {
        if let Err((failure, trace)) = play(seed) {
            if std::env::var_os("PUSHPULL_TRACE").is_some() {
                println!("{}", trace.join("\n"));
            }
            failures.push(format!("seed {seed}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let trace = |seed| {
            let mut world = World::new(seed);
            let _ = world.run();
            world.trace
        };
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

/// Seeds that a mutant has to get through unseen to count as a survivor; most are caught by one of the first.
#[cfg(feature = "mutants")]
const MUTANT_SEEDS: u64 = 3_000;

/// Each mutant must be caught by some seed, else its oracle proves nothing.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_caught() {
    use pushpull::engine::Mutant;
    let mut survivors = Vec::new();
    for mutant in Mutant::ALL {
        Mutant::switch(Some(mutant));
        let caught = (0..MUTANT_SEEDS).map(play).find_map(Result::err);
        Mutant::switch(None);
        match caught {
            Some((failure, _)) => println!("{mutant:?}: {failure}"),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
