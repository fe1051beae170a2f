//! Where a reader of the logs stands: a place in each series. Opaque to clients, who may hand back anything.

use super::Voice;
use crate::model::PoolName;
use std::collections::BTreeMap;
use std::fmt;

/// A place in each series that was read; the others are read from their oldest line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub places: BTreeMap<Voice, Place>,
    /// A line of the worker that is asked for was found before.
    pub found: bool,
}

/// A byte of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub volume: u64,
    pub offset: u64,
}

/// The daemon's own series; no pool has such a name.
const DAEMON: &str = "@";

/// The most series that a cursor may name, so that a hostile one is short.
const PLACES_MAX: usize = 10_000;

impl Cursor {
    /// Reads what [`Cursor::to_string`] wrote.
    pub fn parse(text: &str) -> Option<Cursor> {
        let mut parts = text.split('/');
        let found = match parts.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let mut places = BTreeMap::new();
        for part in parts.take(PLACES_MAX) {
            let (name, place) = part.split_once(':')?;
            let (volume, offset) = place.split_once('.')?;
            let voice = if name == DAEMON { Voice::Daemon } else { Voice::Pool(PoolName::new(name)?) };
            places.insert(voice, Place { volume: volume.parse().ok()?, offset: offset.parse().ok()? });
        }
        Some(Cursor { places, found })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(self.found))?;
        for (voice, place) in &self.places {
            let name = match voice {
                Voice::Daemon => DAEMON,
                Voice::Pool(name) => name.as_str(),
            };
            write!(f, "/{name}:{}.{}", place.volume, place.offset)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_journey_and_nonsense_is_none() {
        let mut cursor = Cursor::default();
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor.clone()));
        cursor.found = true;
        cursor.places.insert(Voice::Daemon, Place { volume: 1, offset: 0 });
        cursor.places.insert(Voice::Pool(PoolName::default()), Place { volume: 17, offset: 4_096 });
        assert_eq!(cursor.to_string(), "1/@:1.0/default:17.4096");
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for bad in
            ["", "2", "1/", "1/@", "1/@:1", "1/@:1.x", "1/Pool:1.1", "1/@:-1.0", "0/@:99999999999999999999.0"]
        {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
