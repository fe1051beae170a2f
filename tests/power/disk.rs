//! A disk's memory: what was written when, and what of it a power cut would have left.
//!
//! [`Disk`] takes notes while the store works. [`World`] plays the notes again, event by event, and can be asked
//! at any of them for an [`Image`]: what was synced is in every image; what was not may be there, be missing, or
//! be torn at any sector, whatever the order in which it was written. A new file's name is there for certain
//! after its directory was synced, which `SQLite` does with the first sync of a journal or log.

use crate::story::Dice;
use rusqlite::ffi;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;

/// What is written whole or not at all.
const SECTOR: usize = 512;

/// Something that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Delete,
    SharedMemory,
}

/// A failure to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub op: Op,
    /// How many go well before.
    pub after: u64,
    /// Whether all that follow fail as well.
    pub lasts: bool,
    pub code: c_int,
}

/// One thing that happened. Files go by numbers, for names are used again.
#[derive(Clone, Debug)]
pub enum Event {
    Created {
        file: usize,
        name: String,
        is_log: bool,
    },
    Written {
        file: usize,
        at: usize,
        data: Vec<u8>,
    },
    Truncated {
        file: usize,
        len: usize,
    },
    Synced {
        file: usize,
        failed: bool,
    },
    Deleted {
        name: String,
        synced: bool,
    },
    /// The store said that this many steps are done.
    Told(usize),
}

/// The notes of one directory.
#[derive(Default)]
pub struct Disk {
    pub events: Vec<Event>,
    pub fault: Option<Fault>,
    /// How often a fault struck.
    pub struck: u64,
    /// A mutant: nothing is ever synced, and the store is not told.
    pub is_deaf: bool,
    names: BTreeMap<String, usize>,
    files: usize,
}

impl Disk {
    /// The error code, if this is to fail.
    pub fn strike(&mut self, op: Op) -> Option<c_int> {
        let fault = self.fault.as_mut().filter(|fault| fault.op == op)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let code = fault.code;
        if !fault.lasts {
            self.fault = None;
        }
        self.struck += 1;
        Some(code)
    }

    pub fn opened(&mut self, name: &str, is_log: bool) -> usize {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let file = self.files;
        self.files += 1;
        self.names.insert(name.to_owned(), file);
        self.events.push(Event::Created { file, name: name.to_owned(), is_log });
        file
    }

    pub fn deleted(&mut self, name: &str, synced: bool) {
        self.names.remove(name);
        self.events.push(Event::Deleted { name: name.to_owned(), synced: synced && !self.is_deaf });
    }

    pub fn written(&mut self, file: usize, at: usize, data: &[u8]) {
        self.events.push(Event::Written { file, at, data: data.to_vec() });
    }

    pub fn truncated(&mut self, file: usize, len: usize) {
        self.events.push(Event::Truncated { file, len });
    }

    pub fn synced(&mut self, file: usize, failed: bool) {
        if !self.is_deaf {
            self.events.push(Event::Synced { file, failed });
        }
    }
}

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Kept,
    Dropped,
    /// Each write whole or not at all.
    Scattered,
    /// Each sector of each write, or the writes' first parts.
    Torn,
}

/// Files by name.
pub type Image = BTreeMap<String, Vec<u8>>;

enum Change {
    Write { at: usize, data: Vec<u8> },
    Truncate(usize),
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// A log whose directory was not synced since it was made.
    is_new_log: bool,
}

enum Naming {
    Add(String, usize),
    Remove(String),
}

/// The disk at one event.
#[derive(Default)]
pub struct World {
    inodes: BTreeMap<usize, Inode>,
    names: BTreeMap<String, usize>,
    namings: Vec<Naming>,
}

impl World {
    pub fn step(&mut self, event: &Event, dice: &mut Dice) {
        match event {
            Event::Created { file, name, is_log } => {
                self.inodes.insert(*file, Inode { is_new_log: *is_log, ..Inode::default() });
                self.namings.push(Naming::Add(name.clone(), *file));
            }
            Event::Written { file, at, data } => {
                let change = Change::Write { at: *at, data: data.clone() };
                self.inode(*file).pending.push(change);
            }
            Event::Truncated { file, len } => self.inode(*file).pending.push(Change::Truncate(*len)),
            Event::Synced { file, failed } => {
                let inode = self.inode(*file);
                // After a failed sync the kernel takes what it holds for clean: nobody will write it again.
                let cut = if *failed { Cut::Scattered } else { Cut::Kept };
                for change in std::mem::take(&mut inode.pending) {
                    lay(&mut inode.durable, &change, cut, dice);
                }
                if !failed && std::mem::take(&mut inode.is_new_log) {
                    self.sync_names();
                }
            }
            Event::Deleted { name, synced } => {
                self.namings.push(Naming::Remove(name.clone()));
                if *synced {
                    self.sync_names();
                }
            }
            Event::Told(_) => {}
        }
    }

    /// What is found when the power comes back.
    pub fn image(&self, cut: Cut, dice: &mut Dice) -> Image {
        let mut names = self.names.clone();
        let kept = match cut {
            Cut::Kept => self.namings.len(),
            Cut::Dropped => 0,
            Cut::Scattered | Cut::Torn => {
                usize::try_from(dice.roll(self.namings.len() as u64 + 1)).expect("small")
            }
        };
        for naming in &self.namings[..kept] {
            apply_naming(&mut names, naming);
        }
        let content = |(name, file): (String, usize)| {
            let inode = &self.inodes[&file];
            let mut content = inode.durable.clone();
            inode.pending.iter().for_each(|change| lay(&mut content, change, cut, dice));
            (name, content)
        };
        names.into_iter().map(content).collect()
    }

    fn inode(&mut self, file: usize) -> &mut Inode {
        self.inodes.get_mut(&file).expect("it was made before")
    }

    fn sync_names(&mut self) {
        for naming in std::mem::take(&mut self.namings) {
            apply_naming(&mut self.names, &naming);
        }
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        self.inodes.retain(|file, inode| named.contains(file) || !inode.pending.is_empty());
    }
}

fn apply_naming(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Add(name, file) => names.insert(name.clone(), *file),
        Naming::Remove(name) => names.remove(name),
    };
}

/// Lets a change reach the disk, as far as it gets.
fn lay(content: &mut Vec<u8>, change: &Change, cut: Cut, dice: &mut Dice) {
    let whole = match cut {
        Cut::Kept => true,
        Cut::Dropped => false,
        Cut::Scattered => dice.is(2),
        Cut::Torn => {
            if let Change::Write { at, data } = change {
                tear(content, *at, data, dice);
                return;
            }
            dice.is(2)
        }
    };
    match change {
        Change::Write { at, data } if whole => put(content, *at, data),
        Change::Truncate(len) if whole => content.resize(*len, 0),
        Change::Write { .. } | Change::Truncate(_) => {}
    }
}

fn tear(content: &mut Vec<u8>, at: usize, data: &[u8], dice: &mut Dice) {
    // Half of the time one half gets there, else any of the sectors.
    let half = dice.is(2).then(|| dice.is(2));
    let mut from = 0;
    while from < data.len() {
        let to = data.len().min(from + SECTOR - (at + from) % SECTOR);
        let arrives = match half {
            Some(first) => (from < data.len() / 2) == first,
            None => dice.is(2),
        };
        if arrives {
            put(content, at + from, &data[from..to]);
        }
        from = to;
    }
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    if content.len() < at + data.len() {
        content.resize(at + data.len(), 0);
    }
    content[at..at + data.len()].copy_from_slice(data);
}

/// The faults that a disk can have.
pub const FAULTS: [(Op, c_int); 8] = [
    (Op::Write, ffi::SQLITE_IOERR_WRITE),
    (Op::Write, ffi::SQLITE_FULL),
    (Op::Sync, ffi::SQLITE_IOERR_FSYNC),
    (Op::Read, ffi::SQLITE_IOERR_READ),
    (Op::Truncate, ffi::SQLITE_IOERR_TRUNCATE),
    (Op::Delete, ffi::SQLITE_IOERR_DELETE),
    (Op::SharedMemory, ffi::SQLITE_IOERR_SHMSIZE),
    (Op::Open, ffi::SQLITE_CANTOPEN),
];
