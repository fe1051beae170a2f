//! FIFOs: how jobs tell a test where they are, and how a test lets them go on.

use crate::process::{PATIENCE, is_readable};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A FIFO that is open at both ends as long as the test has it, so nobody waits for an opening.
pub struct Fifo {
    path: PathBuf,
    file: File,
}

impl Fifo {
    pub fn new(directory: &Path, name: &str) -> Fifo {
        let path = directory.join(name);
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&path, mode).expect("a FIFO can be made");
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path);
        Fifo { path, file: file.expect("it is ours") }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("plain letters")
    }

    /// The next line that a job has written.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            assert!(is_readable(self.file.as_raw_fd(), PATIENCE), "nobody writes to {}", self.path());
            self.file.read_exact(&mut byte).expect("something is there");
            if byte == *b"\n" {
                return String::from_utf8(line).expect("jobs write text");
            }
            line.push(byte[0]);
        }
    }

    pub fn pid(&mut self) -> i32 {
        self.line().parse().expect("the job wrote a pid")
    }

    /// Lets so many readers go on.
    pub fn open_for(&mut self, readers: usize) {
        self.file.write_all("go\n".repeat(readers).as_bytes()).expect("a pipe takes that much");
    }
}
