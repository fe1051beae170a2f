//! Where a daemon of a test lives, and how it is started there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Two built-in workers.
pub const PLAIN: &str = "[pools.default]\nworkers = 2\n";

/// A directory with a configuration; the daemon's own directories are below it.
pub struct Site {
    directory: TempDir,
    arguments: Vec<String>,
}

impl Site {
    pub fn new(config: &str) -> Site {
        // Sockets have short paths, whatever TMPDIR says.
        let directory = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").expect("/tmp is there");
        let site = Site { directory, arguments: Vec::new() };
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
        command.args(&self.arguments);
        command
    }

    pub fn logged_command(&self) -> Command {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path().join("log"));
        let mut command = self.command();
        command.stderr(log.expect("it is ours"));
        // When the test program itself is killed, nobody is left to look after the daemon.
        // SAFETY: one system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        command
    }
}

/// `pushpulld` with nothing of our own surroundings that it would listen to.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpulld"));
    for variable in ["PUSHPULL_RUNTIME_DIR", "PUSHPULL_STATE_DIR", "PUSHPULL_DAEMON", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
