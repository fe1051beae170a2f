//! Starting, ending and sweeping real processes.
//!
//! Each case is run in a process of its own, on its main thread: only there may workers be started, and a reaper
//! must not see the children of other tests. So this target has a harness of its own, which runs itself again for
//! every case and understands the arguments that matter of the usual one.

mod bench;
mod leftovers;
mod orphans;
mod refusing;
mod starting;

use pushpull::shell::sweep::sweep;
use std::io::{Read, Seek};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A test: what it says, what it needs beyond Rust, and how to find out.
type Case = (&'static str, Option<&'static str>, fn());

/// Names the case that this process is to run.
const CASE: &str = "PROCESS_TEST_CASE";

/// Names the part that this process is to play for a case.
pub const PART: &str = "PROCESS_TEST_PART";

/// After so many seconds a case is killed by an alarm: it waits for something that does not come.
const PATIENCE_S: u32 = 60;

fn cases() -> impl Iterator<Item = Case> {
    [starting::CASES, refusing::CASES, leftovers::CASES, orphans::CASES].concat().into_iter()
}

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        orphans::play(&part);
        return ExitCode::SUCCESS;
    }
    if let Ok(name) = std::env::var(CASE) {
        // SAFETY: no code runs when the alarm comes; it kills.
        unsafe { libc::alarm(PATIENCE_S) };
        let (_, _, run) = cases().find(|case| case.0 == name).expect("a case of this name");
        run();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse(std::env::args().skip(1));
    let (chosen, left_out): (Vec<Case>, Vec<Case>) = cases().partition(|case| arguments.choose(case.0));
    if arguments.list {
        for (name, _, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let (mut failed, mut ignored) = (Vec::new(), 0);
    for (name, needs, _) in &chosen {
        match needs {
            Some(needs) if !arguments.include_ignored => {
                println!("test {name} ... ignored, needs {needs}");
                ignored += 1;
            }
            None if arguments.only_ignored => ignored += 1,
            Some(_) | None => {
                if !passes(name) {
                    failed.push(*name);
                }
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = chosen.len() - ignored - failed.len();
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out",
        failed.len(),
        left_out.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs one case in a process of its own.
fn passes(name: &str) -> bool {
    let own = std::env::current_exe().expect("our own file is there");
    // A file, not a pipe: what a case that failed half-way leaves behind may hold it open.
    let mut output = tempfile::tempfile().expect("a file");
    let same = || Stdio::from(output.try_clone().expect("a descriptor"));
    let mut command = Command::new(own);
    let mut case = command.env(CASE, name).stdout(same()).stderr(same()).spawn().expect("our own file runs");
    let mark = bench::mark_of(case.id());
    let status = case.wait().expect("it is our child");
    sweep(&mark, Instant::now() + Duration::from_secs(10)).expect("/proc is there");
    let passed = status.success();
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    if !passed {
        let mut text = Vec::new();
        output.rewind().expect("it is a file");
        output.read_to_end(&mut text).expect("it is a file");
        println!("---- {name}: {status}\n{}", String::from_utf8_lossy(&text));
    }
    passed
}

/// What `cargo test` and its users say.
#[derive(Default)]
struct Arguments {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    include_ignored: bool,
    only_ignored: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Arguments {
        let mut arguments = Arguments::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => arguments.exact = true,
                "--list" => arguments.list = true,
                "--include-ignored" => arguments.include_ignored = true,
                "--ignored" => (arguments.include_ignored, arguments.only_ignored) = (true, true),
                "--skip" => arguments.skip.extend(words.next()),
                // Options with a value that means nothing here.
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                _ => arguments.filters.push(word),
            }
        }
        arguments
    }

    fn choose(&self, name: &str) -> bool {
        let matches =
            |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        let wanted = self.filters.is_empty() || self.filters.iter().any(matches);
        wanted && !self.skip.iter().any(matches)
    }
}
