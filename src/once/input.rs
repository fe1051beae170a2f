//! The job file of `--once`, and what tells it from every other.
//!
//! A run that is on disk must be found again, and only by the file that it was made from. So the contents are
//! digested before the first job is submitted. What cannot be read twice, as standard input, is copied first into
//! a file without a name; that costs nothing more, because no job is accepted before the last one is read.

use crate::Failure;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 17;
/// Characters of the file's name that are seen in its directory's.
const NAME_CHARS_MAX: usize = 40;

/// An open job file, to be read from its beginning.
pub type Reader = Box<dyn BufRead + Send>;

/// A job file of which all is known.
pub struct Input {
    pub reader: Reader,
    /// A digest of every byte.
    pub contents: u128,
    /// The file's own path without symbolic links; `None` if it is a stream.
    pub path: Option<PathBuf>,
}

/// What people call the file.
pub fn title(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// Opens a file to be read once.
///
/// # Errors
/// It cannot be opened, or is a directory.
pub fn open(path: &Path) -> Result<Reader, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    Ok(Box::new(BufReader::new(open_file(path)?)))
}

/// Opens a file and digests it. `spool` is a directory for a copy of what cannot be read twice.
///
/// # Errors
/// It cannot be read, or not be copied.
pub fn open_known(path: &Path, spool: &Path) -> Result<Input, Failure> {
    let unreadable = |error: io::Error| Failure::usage(format!("cannot read {}: {error}", title(path)));
    let stream: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let mut file = open_file(path)?;
        if file.metadata().is_ok_and(|found| found.is_file()) {
            let contents = digest(&mut file, &mut io::sink()).map_err(|(_, error)| unreadable(error))?;
            file.rewind().map_err(unreadable)?;
            let path = std::fs::canonicalize(path).map_err(unreadable)?;
            return Ok(Input { reader: Box::new(BufReader::new(file)), contents, path: Some(path) });
        }
        Box::new(file)
    };
    let uncopied = |error: io::Error| {
        let status = if error.kind() == io::ErrorKind::StorageFull { 5 } else { 6 };
        let text = format!(
            "cannot copy {} to {}: {error}. Choose another directory with --state-dir, or keep nothing on disk with --memory",
            title(path),
            spool.display()
        );
        Failure { status, text }
    };
    let mut copy = tempfile::tempfile_in(spool).map_err(uncopied)?;
    let contents = digest(stream, &mut copy).map_err(|(side, error)| match side {
        Side::From => unreadable(error),
        Side::To => uncopied(error),
    })?;
    copy.rewind().map_err(uncopied)?;
    Ok(Input { reader: Box::new(BufReader::new(copy)), contents, path: None })
}

impl Input {
    /// The name of the directory that a run of this file has: the same for the same file, whatever is in it, and
    /// for streams the same for the same contents.
    pub fn directory_name(&self) -> String {
        match &self.path {
            Some(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let plain = |c: char| if c.is_ascii_alphanumeric() || "._+".contains(c) { c } else { '_' };
                let name: String = name.chars().map(plain).take(NAME_CHARS_MAX).collect();
                format!("{name}-{:016x}", xxh3_64(path.as_os_str().as_bytes()))
            }
            None => format!("{STREAM}{:032x}", self.contents),
        }
    }
}

/// How the directories of streams' runs begin; files' names have a `-` before their digest.
pub const STREAM: &str = "stream_";

fn open_file(path: &Path) -> Result<File, Failure> {
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|found| found.is_dir()) => {
            Err(Failure::usage(format!("{} is a directory; name a job file", path.display())))
        }
        Ok(file) => Ok(file),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

/// Which side of a copy failed.
enum Side {
    From,
    To,
}

/// Copies everything and digests it on the way.
fn digest(mut from: impl Read, to: &mut impl Write) -> Result<u128, (Side, io::Error)> {
    let mut hash = Xxh3::new();
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(hash.digest128()),
            Ok(length) => {
                hash.update(&block[..length]);
                to.write_all(&block[..length]).map_err(|error| (Side::To, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((Side::From, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: Option<&str>, contents: u128) -> Input {
        Input { reader: Box::new(io::empty()), contents, path: path.map(PathBuf::from) }
    }

    #[test]
    fn a_file_is_known_by_its_place_and_a_stream_by_its_contents() {
        let name = |path: Option<&str>, contents| input(path, contents).directory_name();
        assert_eq!(name(Some("/a/jobs.json"), 1), name(Some("/a/jobs.json"), 2));
        assert_ne!(name(Some("/a/jobs.json"), 1), name(Some("/b/jobs.json"), 1));
        assert!(name(Some("/a/jobs.json"), 1).starts_with("jobs.json-"));
        assert_eq!(name(None, 1), name(None, 1));
        assert_ne!(name(None, 1), name(None, 2));
    }

    #[test]
    fn directory_names_are_plain_and_short() {
        let path = format!("/a/\u{e9} $x-{}", "y".repeat(300));
        let name = input(Some(&path), 1).directory_name();
        assert!(name.starts_with("___x_yyy"), "{name}");
        assert_eq!(name.len(), NAME_CHARS_MAX + 17);
        assert!(!input(Some("/a/stream_"), 1).directory_name().starts_with(&format!("{STREAM}0")));
    }

    #[test]
    fn what_cannot_be_read_twice_is_copied() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("jobs");
        std::fs::write(&path, "echo 1\necho 2\n").expect("it is ours");
        let known = open_known(&path, place.path()).unwrap_or_else(|failure| panic!("{}", failure.text));
        assert!(known.path.is_some());
        let fifo = place.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("it is ours");
        let writer = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::write(fifo, "echo 1\necho 2\n")
        });
        let mut stream = open_known(&fifo, place.path()).unwrap_or_else(|failure| panic!("{}", failure.text));
        writer.join().expect("it only writes").expect("somebody reads");
        assert_eq!((stream.contents, stream.path.is_none()), (known.contents, true));
        let mut text = String::new();
        stream.reader.read_to_string(&mut text).expect("text");
        assert_eq!(text, "echo 1\necho 2\n");
    }
}
