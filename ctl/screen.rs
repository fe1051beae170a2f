//! Where output goes: data to stdout, talk to stderr, and what may be done with each.

use crate::words::plain;
use pushpull::client::columns;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// Stdout, and what is known of the terminal.
pub struct Screen {
    out: BufWriter<Stdout>,
    /// JSON for programs instead of tables for people.
    pub json: bool,
    pub colour: bool,
    /// Columns of the terminal; `None`: lines may have any length.
    pub width: Option<u16>,
    /// Whether a progress bar would be seen.
    pub bars: bool,
}

impl Screen {
    /// What this process was started with.
    pub fn of_this_process(json: bool) -> Screen {
        let is_terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            json,
            colour: is_terminal && !no_color,
            width: columns(),
            bars: !json && io::stderr().is_terminal(),
        }
    }

    /// One line of data.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Text for people, unless programs are listening.
    pub fn people(&mut self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.line(text) }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line of talk on stderr. If nobody can hear it, nothing is lost.
pub fn say(text: &str) {
    let mut line = text.split('\n').map(plain).collect::<Vec<_>>().join("\n");
    line.push('\n');
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
