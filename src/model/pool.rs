//! The name of a pool.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A pool's name: `[a-z0-9][a-z0-9_-]{0,31}`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// The name, if `text` is one.
    #[must_use]
    pub fn new(text: &str) -> Option<PoolName> {
        let tail_is_good = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let bytes = text.as_bytes();
        let is_name = matches!(bytes.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
            && bytes.len() <= 32
            && bytes.iter().all(tail_is_good);
        is_name.then(|| PoolName(Arc::from(text)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PoolName {
    /// The first pool of a daemon that was told nothing: `default`.
    fn default() -> PoolName {
        PoolName(Arc::from("default"))
    }
}

impl Borrow<str> for PoolName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
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
}
