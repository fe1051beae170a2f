//! The name of a pool.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Characters in a name.
const LENGTH_MAX: usize = 32;

/// A pool's name: `[a-z0-9][a-z0-9_-]{0,31}`. It lies in the value itself: every job carries one from thread to
/// thread, and a count of references would be fought over.
#[derive(Clone)]
pub struct PoolName {
    length: u8,
    bytes: [u8; LENGTH_MAX],
}

impl PoolName {
    /// The name, if `text` is one.
    #[must_use]
    pub fn new(text: &str) -> Option<PoolName> {
        let tail_is_good = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let said = text.as_bytes();
        let is_name =
            matches!(said.first(), Some(b'a'..=b'z' | b'0'..=b'9')) && said.iter().all(tail_is_good);
        let length = u8::try_from(said.len()).ok().filter(|_| is_name)?;
        let mut bytes = [0; LENGTH_MAX];
        bytes.get_mut(..said.len())?.copy_from_slice(said);
        Some(PoolName { length, bytes })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("a name is ASCII")
    }
}

impl Default for PoolName {
    /// The first pool of a daemon that was told nothing: `default`.
    fn default() -> PoolName {
        PoolName::new("default").expect("it is a name")
    }
}

// As texts, so that a map by name can be asked with a text.

impl PartialEq for PoolName {
    fn eq(&self, other: &PoolName) -> bool {
        // What lies behind the name is zero.
        self.bytes == other.bytes
    }
}

impl Eq for PoolName {}

impl PartialOrd for PoolName {
    fn partial_cmp(&self, other: &PoolName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PoolName {
    fn cmp(&self, other: &PoolName) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl Hash for PoolName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for PoolName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_lower_case_words() {
        for good in ["default", "0", "gpu-1", "a_b", &"x".repeat(32)] {
            assert!(PoolName::new(good).is_some(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a b", "a/b", "ä", &"x".repeat(33)] {
            assert!(PoolName::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn they_are_ordered_and_found_as_texts() {
        let mut words = ["b", "a-", "a", "a0", "a_", "ab", "0"];
        let mut names: Vec<PoolName> = words.iter().filter_map(|word| PoolName::new(word)).collect();
        words.sort_unstable();
        names.sort_unstable();
        assert_eq!(names.iter().map(PoolName::as_str).collect::<Vec<_>>(), words);
        let all: std::collections::BTreeSet<PoolName> = names.into_iter().collect();
        assert!(all.contains("a0") && !all.contains("a1"));
    }
}
