//! Where a daemon of a test lives, and how it is started there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Two built-in workers.
pub const PLAIN: &str = "[pools.default]\nworkers = 2\n";

/// A directory with a configuration; the daemon's own directories are below it.
pub struct Site {
    directory: TempDir,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Site {
    pub fn new(config: &str) -> Site {
        // Sockets have short paths, whatever TMPDIR says.
        let directory = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").expect("/tmp is there");
        let site = Site { directory, arguments: Vec::new(), variables: Vec::new() };
        site.configure(config);
        site
    }

    pub fn configure(&self, config: &str) {
        fs::write(self.path().join("config.toml"), config).expect("it is ours");
    }

    pub fn argument(mut self, argument: &str) -> Site {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Other arguments for the next start.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    }

    pub fn variable(mut self, name: &str, value: &str) -> Site {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub fn runtime(&self) -> PathBuf {
        self.path().join("run")
    }

    pub fn is_in_memory(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--memory")
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// `pushpulld` for these directories.
    pub fn command(&self) -> Command {
        let mut command = program();
        command.arg("--config").arg(self.path().join("config.toml"));
        command.arg("--runtime-dir").arg(self.runtime());
        if !self.is_in_memory() {
            command.arg("--state-dir").arg(self.state());
        }
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `pushpullctl` with the daemon here.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushpullctl"));
        command.arg("--runtime-dir").arg(self.runtime()).args(arguments).stdin(Stdio::null());
        command.output().expect("it can be executed")
    }

    pub fn logged_command(&self) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path().join("log"));
        let mut command = self.command();
        command.stderr(log.expect("it is ours"));
        // When the test program itself is killed, nobody is left to look after the daemon.
        // SAFETY: system calls, which are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // Our own sockets' descriptors would be inherited.
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                Ok(())
            });
        }
        command
    }
}

/// `pushpulld` with nothing of our own surroundings that it would listen to.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpulld"));
    for variable in [
        "PUSHPULL_RUNTIME_DIR",
        "PUSHPULL_STATE_DIR",
        "PUSHPULL_DAEMON",
        "RUST_LOG",
        "NOTIFY_SOCKET",
        "JOURNAL_STREAM",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
