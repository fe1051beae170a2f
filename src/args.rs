//! What `pushpulld` is told on its command line. The manual pushpulld(8) says the same.

use clap::{Parser, ValueEnum};
use pushpull::config::{Message, WORKERS_MAX};
use std::path::PathBuf;

/// Runs jobs with supervised workers: a durable queue that is the parent of its workers.
#[derive(Debug, Parser)]
#[command(
    name = "pushpulld",
    version,
    max_term_width = 100,
    after_help = "Without options: a daemon in the foreground with built-in workers, one per CPU.\nSubmit jobs with pushpullctl. Manuals: pushpulld(8), pushpulld.toml(5), pushpull-worker(7)."
)]
pub struct Args {
    /// Run this job file with a private daemon and exit: 0 if all jobs succeeded, 1 if any failed
    #[arg(long, value_name = "FILE")]
    pub once: Option<PathBuf>,

    /// Workers of the default pool; one per CPU if this is not said
    #[arg(short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(WORKERS_MAX)))]
    pub workers: Option<u32>,

    /// What the messages of the default pool's workers look like
    #[arg(short = 'm', long, value_name = "MESSAGE")]
    pub message: Option<MessageArg>,

    /// Read pools, limits and policies from this file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// With --once: each line of the file is one shell command
    #[arg(long, requires = "once")]
    pub lines: bool,

    /// With --once: give commands the environment of the daemon's start only, not the caller's variables
    #[arg(long, requires = "once")]
    pub no_env: bool,

    /// With --once: write the whole output of each command into files of this directory, too
    #[arg(long, value_name = "DIR", requires = "once")]
    pub output_dir: Option<PathBuf>,

    /// With --once: go on with the interrupted run of this file; without one, run all of it
    #[arg(long, requires = "once", conflicts_with_all = ["fresh", "memory"])]
    pub resume: bool,

    /// With --once: discard the interrupted run of this file and begin again
    #[arg(long, requires = "once", conflicts_with = "memory")]
    pub fresh: bool,

    /// With --once: start no more jobs when N have failed
    #[arg(long, value_name = "N", requires = "once", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_fails: Option<u64>,

    /// Directory of the sockets
    #[arg(long, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,

    /// Directory of the jobs
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Keep nothing on disk
    #[arg(long)]
    pub memory: bool,

    /// If the jobs on disk cannot be used: move them aside, to jobs.db.corrupt-TIME, and begin anew
    #[arg(long, conflicts_with_all = ["once", "check", "memory"])]
    pub recover: bool,

    /// Go into the background and return when the daemon is ready, or say why it is not
    #[arg(long, conflicts_with_all = ["once", "check"])]
    pub daemonize: bool,

    /// Check the configuration and exit
    #[arg(long, conflicts_with = "once")]
    pub check: bool,

    /// Say more; twice: say much more
    #[arg(short, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say errors only
    #[arg(short)]
    pub quiet: bool,

    /// The program of the default pool's workers; without one, the built-in worker runs commands
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// The setting `message`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MessageArg {
    /// The worker protocol, {"type":"job","id":17,"attempt":1,"data":ANY}
    Envelope,
    /// The job's data alone
    Bare,
}

impl From<MessageArg> for Message {
    fn from(argument: MessageArg) -> Message {
        match argument {
            MessageArg::Envelope => Message::Envelope,
            MessageArg::Bare => Message::Bare,
        }
    }
}
