//! Moving a store aside that cannot be used, so that a daemon can begin anew and nothing is destroyed.

use crate::model::Wall;
use crate::wire::timestamp;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What belongs to a store, as endings of its name; its log keeps its ending, so that tools find both.
const PARTS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Moves the store at `path` with all of its parts to `PATH.corrupt-TIMESTAMP`, and never onto something else.
/// The file goes first: a log without its file is refused by the next start, a file without its log might not be.
///
/// # Errors
/// When the directory does not allow it. What was moved stays where it is now.
pub(super) fn move_aside(path: &Path, now: Wall) -> io::Result<Vec<PathBuf>> {
    let at: String = timestamp::render(now).chars().filter(char::is_ascii_alphanumeric).collect();
    let target = (1..=u32::MAX)
        .map(|number| match number {
            1 => ending(path, &format!(".corrupt-{at}")),
            _ => ending(path, &format!(".corrupt-{at}.{number}")),
        })
        .find(|target| PARTS.iter().all(|part| !is_there(&ending(target, part))))
        .expect("some number is free");
    let mut moved = Vec::new();
    for part in PARTS {
        let from = ending(path, part);
        if is_there(&from) {
            let to = ending(&target, part);
            fs::rename(from, &to)?;
            moved.push(to);
        }
    }
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(moved)
}

fn ending(path: &Path, more: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// Whatever it is, be it a link to nowhere.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_moved_before_is_overwritten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("jobs.db");
        let log = dir.path().join("jobs.db-wal");
        let at = Wall(1_000);
        fs::write(&path, "one").expect("written");
        let first = move_aside(&path, at).expect("moved");
        fs::write(&path, "two").expect("written");
        fs::write(&log, "two's log").expect("written");
        let second = move_aside(&path, at).expect("moved");
        assert!(!path.exists() && !log.exists());
        assert_eq!(first, [dir.path().join("jobs.db.corrupt-19700101T000001000Z")]);
        assert_eq!(second.len(), 2);
        let read = |path: &PathBuf| fs::read_to_string(path).expect("it is there");
        assert_eq!([read(&first[0]), read(&second[0]), read(&second[1])], ["one", "two", "two's log"]);
        assert_eq!(second[1], ending(&second[0], "-wal"));
        // A log that has lost its file does not land beside another one.
        fs::write(&log, "three's log").expect("written");
        let third = move_aside(&path, at).expect("moved");
        assert_eq!(third, [dir.path().join("jobs.db.corrupt-19700101T000001000Z.3-wal")]);
    }
}
