//! Real commands, run by the command runner alone or by a whole worker over its sockets.

mod commands;
mod workers;

/// The test program, to run the one test `name` of a module below.
fn this_test(name: &str) -> std::process::Command {
    let program = std::env::current_exe().expect("a test program has a path");
    let mut command = std::process::Command::new(program);
    command.arg(format!("worker::tests::{name}")).args(["--exact", "--nocapture", "--test-threads=1"]);
    command
}
