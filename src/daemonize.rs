//! `--daemonize`: returns when the daemon is ready, or says why it is not.
//!
//! A process with threads must not fork, so the daemon is this program executed again: in a session of its own, with
//! nothing on its standard streams but a log file, and with a pipe on which it says that it is ready or why not.

use crate::Failure;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the descriptor on which the daemon reports.
const VARIABLE: &str = "PUSHPULLD_REPORT_FD";
/// What it says when all is well; anything else is an exit status and a text.
const READY: &[u8] = b"ready";

/// Starts the daemon in the background and waits for its word.
///
/// # Errors
/// What the daemon says against starting, or what kept it from being started at all.
pub fn start(log: &Path) -> Result<u8, Failure> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Failure { status: 6, text: format!("cannot {what}: {error}") }
    };
    let log = OpenOptions::new().create(true).append(true).open(log).map_err(fail("open the log"))?;
    let (reader, writer) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fail("make a pipe")(errno.into()))?;
    let mut command = Command::new("/proc/self/exe");
    let arguments = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    let after = std::env::args_os().skip_while(|argument| argument != "--");
    command
        .arg0("pushpulld")
        .args(arguments.filter(|argument| argument != "--daemonize"))
        .args(after)
        .env(VARIABLE, writer.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let descriptor = writer.as_raw_fd();
    // SAFETY: both calls are async-signal-safe and touch no memory of this process.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 || libc::fcntl(descriptor, libc::F_SETFD, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn().map_err(fail("start the daemon"))?;
    drop(writer);
    hear(reader)
}

fn hear(reader: OwnedFd) -> Result<u8, Failure> {
    let mut word = Vec::new();
    let heard = File::from(reader).read_to_end(&mut word);
    match (heard, word.split_first()) {
        (Ok(_), _) if word == READY => Ok(0),
        (Ok(_), Some((status, text))) => {
            Err(Failure { status: *status, text: String::from_utf8_lossy(text).into_owned() })
        }
        (Ok(_) | Err(_), _) => {
            Err(Failure { status: 6, text: "the daemon ended before it was ready; see its log".to_owned() })
        }
    }
}

/// Where the daemon in the background says how its start went.
pub struct Report(File);

impl Report {
    /// The report that whoever started this process waits for, if somebody does. To be called first, once.
    pub fn wanted() -> Option<Report> {
        let descriptor = std::env::var(VARIABLE).ok()?.parse().ok()?;
        // SAFETY: no other thread runs yet. The number came from ourselves, for this purpose, and nobody else has it.
        let descriptor = unsafe {
            std::env::remove_var(VARIABLE);
            if libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
                return None;
            }
            OwnedFd::from_raw_fd(descriptor)
        };
        Some(Report(File::from(descriptor)))
    }

    pub fn ready(mut self) {
        let _ = self.0.write_all(READY);
    }

    pub fn failed(mut self, failure: &Failure) {
        let _ = self.0.write_all(&[failure.status]);
        let _ = self.0.write_all(failure.text.as_bytes());
    }
}
