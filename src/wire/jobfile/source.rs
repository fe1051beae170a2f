//! The bytes of a file, with the place where they stand, and a way back to a mark.
//!
//! Between [`Source::mark`] and [`Source::rewind`] what is read is also recorded; after the rewind it is read
//! again. So a reader can look ahead in a file that cannot be sought, as far as it is willing to keep.

use std::io::{self, BufRead};

/// No more than this is handed out at once, even by a reader that has everything in memory: so whoever counts
/// what was read can stop in time.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: u64,
    /// Bytes of the line before it.
    pub(super) column: u64,
}

impl Place {
    /// The place behind `bytes`.
    pub(super) fn after(self, bytes: &[u8]) -> Place {
        let breaks: u64 = bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum();
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => Place { line: self.line + breaks, column: (bytes.len() - last - 1) as u64 },
            None => Place { line: self.line, column: self.column + bytes.len() as u64 },
        }
    }
}

/// A file being read.
pub(super) struct Source<R> {
    inner: R,
    place: Place,
    /// Read before and to be read again, from `replayed` on.
    replay: Vec<u8>,
    replayed: usize,
    /// Where the mark is, and what was read since.
    marked: Option<(Place, Vec<u8>)>,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(inner: R) -> Source<R> {
        let place = Place { line: 1, column: 0 };
        Source { inner, place, replay: Vec::new(), replayed: 0, marked: None }
    }

    /// Where the next byte stands.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The next bytes, at least one; empty at the end.
    pub(super) fn chunk(&mut self) -> io::Result<&[u8]> {
        let bytes = if self.replayed < self.replay.len() {
            &self.replay[self.replayed..]
        } else {
            while let Err(error) = self.inner.fill_buf() {
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            self.inner.fill_buf()?
        };
        Ok(&bytes[..bytes.len().min(CHUNK_BYTES_MAX)])
    }

    /// Goes on behind the first `count` bytes of the [`chunk`](Source::chunk).
    pub(super) fn advance(&mut self, count: usize) -> io::Result<()> {
        let from_replay = self.replayed < self.replay.len();
        let bytes = if from_replay {
            &self.replay[self.replayed..][..count]
        } else {
            &self.inner.fill_buf()?[..count]
        };
        self.place = self.place.after(bytes);
        if let Some((_, record)) = &mut self.marked {
            record.extend_from_slice(bytes);
        }
        if from_replay {
            self.replayed += count;
            if self.replayed == self.replay.len() {
                self.replay = Vec::new();
                self.replayed = 0;
            }
        } else {
            self.inner.consume(count);
        }
        Ok(())
    }

    /// The next byte; `None` at the end.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.chunk()?.first().copied())
    }

    /// Goes on behind the next byte if it is `wanted`, and says whether it was.
    pub(super) fn eat(&mut self, wanted: u8) -> io::Result<bool> {
        let is_next = self.peek()? == Some(wanted);
        if is_next {
            self.advance(1)?;
        }
        Ok(is_next)
    }

    /// Goes on behind what JSON calls white space.
    pub(super) fn skip_blank(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.chunk()?;
            let blank = chunk.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
            let is_all = blank == chunk.len();
            if blank > 0 {
                self.advance(blank)?;
            }
            if blank == 0 || !is_all {
                return Ok(());
            }
        }
    }

    /// Begins to record.
    pub(super) fn mark(&mut self) {
        self.marked = Some((self.place, Vec::new()));
    }

    /// How many bytes were read since the mark.
    pub(super) fn recorded(&self) -> usize {
        self.marked.as_ref().map_or(0, |(_, record)| record.len())
    }

    /// How many bytes are kept in memory.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.replay.len() + self.recorded()
    }

    /// Takes the mark away and goes on from here.
    pub(super) fn forget(&mut self) {
        self.marked = None;
    }

    /// Goes back to the mark.
    pub(super) fn rewind(&mut self) {
        if let Some((place, mut record)) = self.marked.take() {
            record.extend_from_slice(&self.replay[self.replayed..]);
            self.place = place;
            self.replay = record;
            self.replayed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn read_all<R: BufRead>(source: &mut Source<R>, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let chunk = source.chunk().expect("memory can be read");
            let count = chunk.len().min(step);
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&chunk[..count]);
            source.advance(count).expect("memory can be read");
        }
    }

    #[test]
    fn places_count_lines_and_bytes() {
        let mut source = Source::new(BufReader::with_capacity(2, &b"ab\n\ncde"[..]));
        assert_eq!(source.place(), Place { line: 1, column: 0 });
        assert!(source.eat(b'a').expect("readable"));
        assert!(!source.eat(b'a').expect("readable"));
        assert_eq!(source.place(), Place { line: 1, column: 1 });
        assert_eq!(read_all(&mut source, 3), b"b\n\ncde");
        assert_eq!(source.place(), Place { line: 3, column: 3 });
        assert_eq!(source.peek().expect("readable"), None);
    }

    #[test]
    fn a_rewind_reads_the_same_again_however_often() {
        let text: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for step in [1, 7, 1_000] {
            let mut source = Source::new(BufReader::with_capacity(13, &text[..]));
            source.advance(1).expect("readable");
            let place = source.place();
            for look in [1, 5, 3, 9] {
                source.mark();
                let count = source.chunk().expect("readable").len().min(look);
                source.advance(count).expect("readable");
                assert!(source.recorded() > 0);
                source.rewind();
                assert_eq!(source.place(), place);
            }
            assert_eq!(read_all(&mut source, step), text[1..]);
        }
    }

    #[test]
    fn a_reader_with_everything_in_memory_hands_it_out_in_chunks() {
        let text = vec![b' '; CHUNK_BYTES_MAX * 3 + 1];
        let mut source = Source::new(&text[..]);
        assert_eq!(source.chunk().expect("readable").len(), CHUNK_BYTES_MAX);
        source.skip_blank().expect("readable");
        assert_eq!(source.place().column, text.len() as u64);
    }
}
