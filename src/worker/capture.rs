//! The beginning and the end of what a command writes, however much that is.
//!
//! Both matter: the beginning tells what was done, the end why it failed. A stream of a command that writes a
//! terabyte costs no more memory than [`PART_BYTES_MAX`] for its head and twice that for its tail. The two streams
//! of a command share one limit, and what one leaves unused the other may have; so they are cut only at the end,
//! when it is known what each needs.

use crate::wire::base64;
use crate::wire::pipeline::outcome::Stream;

/// Longest head, and longest tail, kept of one stream. Their sum is the largest limit for both streams together.
pub const PART_BYTES_MAX: usize = 32 * 1024;

/// What a command writes to both streams is kept up to this size.
pub const OUTPUT_BYTES_MAX: usize = 2 * PART_BYTES_MAX;

/// Room for the line that stands for what was left out.
const MARKER_BYTES_MAX: usize = 64;

/// One stream's head and tail.
#[derive(Debug, Default)]
pub struct Capture {
    head: Vec<u8>,
    /// Its last [`PART_BYTES_MAX`] bytes count; there may be as many old ones before them.
    tail: Vec<u8>,
    total: u64,
}

impl Capture {
    /// Takes in what was written next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = PART_BYTES_MAX - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(PART_BYTES_MAX)..];
        self.tail.extend_from_slice(rest);
        if self.tail.len() > 2 * PART_BYTES_MAX {
            self.tail.drain(..self.tail.len() - PART_BYTES_MAX);
        }
    }

    /// How much was written in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The stream in at most `limit` bytes, and whether something was left out for that.
    fn fit(self, limit: usize) -> (Stream, bool) {
        let whole = self.total <= limit as u64;
        if whole {
            let mut bytes = self.head;
            bytes.extend_from_slice(&self.tail);
            return (stream(bytes), false);
        }
        let half = limit.saturating_sub(MARKER_BYTES_MAX) / 2;
        // A stream may be cut although it still fits into head and tail as they are kept.
        let mut end = self.head.clone();
        end.extend_from_slice(&self.tail);
        let head = without_half_character_at_end(&self.head[..half.min(self.head.len())]);
        let tail = without_half_character_at_start(&end[end.len().saturating_sub(half)..]);
        let left_out = self.total - head.len() as u64 - tail.len() as u64;
        let mut bytes = head.to_vec();
        if bytes.last().is_some_and(|&byte| byte != b'\n') {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(format!("[... {left_out} bytes left out ...]\n").as_bytes());
        bytes.extend_from_slice(tail);
        (stream(bytes), true)
    }
}

/// Both streams of a command in at most `limit` bytes together, and whether something was left out for that.
#[must_use]
pub fn fit_together(stdout: Capture, stderr: Capture, limit: usize) -> (Stream, Stream, bool) {
    let needs = |capture: &Capture| usize::try_from(capture.total()).unwrap_or(usize::MAX);
    let (out_needs, err_needs) = (needs(&stdout), needs(&stderr));
    let half = limit / 2;
    let out_limit = limit - half.min(err_needs);
    let err_limit = limit - half.min(out_needs);
    let (out_limit, err_limit) =
        if out_needs > half && err_needs > half { (half, half) } else { (out_limit, err_limit) };
    let (stdout, out_cut) = stdout.fit(out_limit);
    let (stderr, err_cut) = stderr.fit(err_limit);
    (stdout, stderr, out_cut || err_cut)
}

fn stream(bytes: Vec<u8>) -> Stream {
    match String::from_utf8(bytes) {
        Ok(text) => Stream::Text(text),
        Err(error) => Stream::Base64(base64::encode(error.as_bytes())),
    }
}

fn without_half_character_at_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        // No error length: the text is good, but for a character that is cut at its end.
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        Ok(_) | Err(_) => bytes,
    }
}

fn without_half_character_at_start(bytes: &[u8]) -> &[u8] {
    let is_continuation = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let cut = bytes.iter().take(3).take_while(is_continuation).count();
    if std::str::from_utf8(&bytes[cut..]).is_ok() { &bytes[cut..] } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(bytes: &[u8], piece: usize) -> Capture {
        let mut capture = Capture::default();
        bytes.chunks(piece).for_each(|chunk| capture.push(chunk));
        capture
    }

    fn fitted(stdout: &[u8], stderr: &[u8], piece: usize) -> (Stream, Stream, bool) {
        fit_together(captured(stdout, piece), captured(stderr, piece), OUTPUT_BYTES_MAX)
    }

    fn text(stream: &Stream) -> &str {
        match stream {
            Stream::Text(text) => text,
            Stream::Base64(_) => panic!("not a text"),
        }
    }

    #[test]
    fn one_stream_may_fill_what_the_other_leaves() {
        let long = "x".repeat(OUTPUT_BYTES_MAX - 3);
        for piece in [1, 1000, 100_000] {
            let (stdout, stderr, truncated) = fitted(b"abc", long.as_bytes(), piece);
            assert!(text(&stdout) == "abc" && text(&stderr) == long && !truncated, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_flood_keeps_its_head_and_tail_and_counts_the_rest() {
        let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}\n")).collect();
        let all = lines.concat();
        for piece in [7, 4096, 65536, all.len()] {
            let (stdout, stderr, truncated) = fitted(all.as_bytes(), b"short", piece);
            let kept = text(&stdout);
            assert!(truncated && text(&stderr) == "short");
            assert!(
                kept.len() <= OUTPUT_BYTES_MAX - 5 && kept.len() > OUTPUT_BYTES_MAX - 200,
                "{}",
                kept.len()
            );
            let (head, rest) = kept.split_once("[... ").expect("a marker line");
            let (count, tail) = rest.split_once(" bytes left out ...]\n").expect("a marker line");
            // The line feed before the marker may be the stream's own.
            let head = if all.starts_with(head) { head } else { &head[..head.len() - 1] };
            assert!(all.starts_with(head) && all.ends_with(tail));
            let count: usize = count.parse().expect("a number");
            assert!((0..=1).contains(&(count + head.len() + tail.len() - all.len())));
        }
    }

    #[test]
    fn two_floods_share_the_limit() {
        let flood = vec![b'x'; 3 * OUTPUT_BYTES_MAX];
        let (stdout, stderr, truncated) = fitted(&flood, &flood, 5000);
        assert!(truncated && stdout == stderr);
        assert!(2 * text(&stdout).len() <= OUTPUT_BYTES_MAX);
        // Each alone would fit into what is kept, both do not.
        let medium = vec![b'x'; OUTPUT_BYTES_MAX / 2 + 1];
        let (stdout, _, truncated) = fitted(&medium, &medium, 5000);
        assert!(truncated && text(&stdout).contains("bytes left out"));
    }

    #[test]
    fn a_cut_through_a_character_leaves_text() {
        let mut stream = b"a".to_vec();
        stream.extend("€".repeat(OUTPUT_BYTES_MAX).bytes());
        let (stdout, _, truncated) = fitted(&stream, b"", 1000);
        assert!(truncated && text(&stdout).starts_with("a€") && text(&stdout).ends_with("€"));
    }

    #[test]
    fn what_is_not_utf8_is_kept_in_base64() {
        let (stdout, stderr, truncated) = fitted(&[0xff, 0xfe, 0xfb], b"", 10);
        assert_eq!(stdout, Stream::Base64("//77".to_owned()));
        assert!(stderr == Stream::Text(String::new()) && !truncated);
    }
}
