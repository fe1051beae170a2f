//! How wide standard output is.

use std::io::{self, IsTerminal};

/// Columns of standard output; `None`: it is no terminal, and lines may have any length.
#[must_use]
pub fn columns() -> Option<u16> {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let is_terminal = io::stdout().is_terminal();
    width(said, is_terminal.then(terminal_columns).flatten(), is_terminal)
}

/// The environment goes before the terminal; a pipe has no width unless the environment says so.
fn width(columns: Option<u16>, terminal: Option<u16>, is_terminal: bool) -> Option<u16> {
    let known = columns.filter(|columns| *columns > 0).or(terminal.filter(|columns| *columns > 0));
    known.or(is_terminal.then_some(80))
}

fn terminal_columns() -> Option<u16> {
    nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize, for which there is room.
    let asked = unsafe { window_size(libc::STDOUT_FILENO, &raw mut size) };
    asked.ok().map(|_| size.ws_col)
}

#[cfg(test)]
mod tests {
    use super::width;

    #[test]
    fn the_environment_then_the_terminal_then_eighty_columns() {
        assert_eq!(width(Some(40), Some(120), true), Some(40));
        assert_eq!(width(None, Some(120), true), Some(120));
        assert_eq!(width(Some(0), None, true), Some(80));
        assert_eq!(width(None, None, false), None);
        assert_eq!(width(Some(40), None, false), Some(40));
    }
}
