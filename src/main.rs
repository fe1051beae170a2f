//! `pushpulld`: arguments, configuration, daemon, exit status.

mod args;
mod daemonize;
mod once;

use args::Args;
use clap::Parser;
use daemonize::Report;
use pushpull::config::{Config, Message};
use pushpull::shell::daemon::{Daemon, Setup};
use pushpull::shell::dirs::{Directory, Reach};
use pushpull::shell::logs::{self, OWN_FILE};
use pushpull::shell::place::Surroundings;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == pushpull::worker::ARGUMENT) {
        return pushpull::worker::run();
    }
    // Executed through /proc/self/exe, it would be called `exe` in lists of processes.
    let _ = nix::sys::prctl::set_name(c"pushpulld");
    let report = Report::wanted();
    let args = Args::parse();
    start_log(&args);
    match run(&args, report) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "pushpulld: {}", failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// Why the program ends early.
struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    /// A bad argument, file or configuration.
    fn usage(text: impl Into<String>) -> Failure {
        Failure { status: 2, text: text.into() }
    }
}

fn run(args: &Args, report: Option<Report>) -> Result<u8, Failure> {
    if let Some(path) = &args.once {
        return once::run(args, path);
    }
    let config = configuration(args)?;
    if args.check {
        println!("the configuration is good: {}", pool_words(&config));
        return Ok(0);
    }
    let setup = setup(args, config)?;
    if args.daemonize {
        return daemonize::start(&log_file(&setup)?);
    }
    let started = Daemon::start(&setup)
        .map_err(|error| Failure { status: error.exit_status(), text: error.to_string() });
    match (started, report) {
        (Ok(daemon), report) => {
            log::info!("ready: {}", pool_words(&setup.config));
            if let Some(report) = report {
                report.ready();
            }
            let read = || configuration(args).map_err(|failure| failure.text);
            Ok(daemon.run(read).status)
        }
        (Err(failure), Some(report)) => {
            let status = failure.status;
            report.failed(&failure);
            Ok(status)
        }
        (Err(failure), None) => Err(failure),
    }
}

/// What the places of the directories depend on, options before variables.
fn surroundings(args: &Args) -> Surroundings {
    let mut surroundings = Surroundings::of_this_process();
    if let Some(path) = &args.runtime_dir {
        surroundings.own_runtime = Some(path.into());
    }
    if let Some(path) = &args.state_dir {
        surroundings.own_state = Some(path.into());
    }
    surroundings
}

/// Where everything is.
fn setup(args: &Args, config: Config) -> Result<Setup, Failure> {
    let surroundings = surroundings(args);
    let state = if args.memory {
        None
    } else {
        Some(surroundings.state_dir().map_err(|error| Failure::usage(error.to_string()))?)
    };
    let runtime = surroundings.runtime_dir();
    Ok(Setup { config, runtime, state, recover: args.recover, is_private: false })
}

/// The log of a daemon in the background: `pushpulld.log` beside its jobs, or with `--memory` beside its sockets.
fn log_file(setup: &Setup) -> Result<PathBuf, Failure> {
    let directory = match &setup.state {
        Some(state) => Directory::state(state),
        None => Directory::runtime(&setup.runtime, Reach::Owner),
    };
    let directory = directory.map_err(|error| {
        let status = if error.is_setting() { 2 } else { 6 };
        Failure { status, text: error.to_string() }
    })?;
    Ok(directory.path().join(OWN_FILE))
}

/// The configuration file with the command line on top.
fn configuration(args: &Args) -> Result<Config, Failure> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1));
    let mut config = match config_path(args) {
        None => Config::without_file(cpus),
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
            Config::parse(&text, &path.display().to_string(), cpus)
                .map_err(|error| Failure::usage(error.to_string()))?
        }
    };
    if args.workers.is_some() || args.message.is_some() || !args.command.is_empty() {
        let pool = config.default_pool(cpus);
        if let Some(workers) = args.workers {
            pool.workers = workers;
        }
        if let Some(message) = args.message {
            pool.message = message.into();
        }
        if !args.command.is_empty() {
            pool.command = Some(args.command.clone());
        }
    }
    // Only now: the command of a pool in the file may stand on the command line.
    if let Some(pool) = config.pools.iter().find(|pool| pool.message == Message::Bare && pool.is_builtin()) {
        return Err(Failure::usage(format!(
            "bare messages are for workers of your own: give pool {} a command, or leave out `message` and -m bare",
            pool.name
        )));
    }
    Ok(config)
}

/// The file that is named, else the one that is in its usual place.
fn config_path(args: &Args) -> Option<PathBuf> {
    if let Some(path) = &args.config {
        return Some(path.clone());
    }
    if args.once.is_some() {
        // A run of its own depends on nothing that lies about.
        return None;
    }
    let system = Path::new("/etc/pushpull/pushpulld.toml").to_owned();
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let user = home.map(|home| home.join("pushpull/pushpulld.toml"));
    let is_root = nix::unistd::geteuid().is_root();
    let usual = if is_root { Some(system) } else { user };
    usual.filter(|path| path.exists())
}

/// As in "pool default with 4 workers, pool gpu with 1 worker".
fn pool_words(config: &Config) -> String {
    let words: Vec<String> = config
        .pools
        .iter()
        .map(|pool| {
            let workers = if pool.workers == 1 { "worker" } else { "workers" };
            format!("pool {} with {} {workers}", pool.name, pool.workers)
        })
        .collect();
    words.join(", ")
}

/// Talk goes to standard error, and to the log that the daemon keeps. `RUST_LOG` says more than `-v` and `-q` do.
fn start_log(args: &Args) {
    let quiet_run = args.once.is_some() && args.verbose == 0;
    let level = match (args.quiet, args.verbose) {
        (true, _) => "error",
        (false, 0) if quiet_run => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let environment = env_logger::Env::default().default_filter_or(level);
    logs::install(env_logger::Builder::from_env(environment).build());
}
