//! Operations fail, one at a time or from one on: a group is refused whole, what was acknowledged stays, and when
//! the disk is well again the same group is taken.

use crate::disk::{Cut, FAULTS, Fault, World};
use crate::story::Dice;
use crate::tale::{Tale, cases, look};
use crate::vfs::lock;
use pushpull::store::{Query, Store, StoreError};
use std::fs;

const STORIES: u64 = 2;
const STEPS: usize = 40;

/// Tells a story in which faults strike, gives how many did.
fn story(seed: u64) -> u64 {
    let mut tale = Tale::begin(seed, false);
    let mut dice = Dice::new(seed ^ 0xbad);
    for _ in 0..STEPS {
        let (op, code) = dice.pick(&FAULTS).expect("there are faults");
        let after = dice.roll(12);
        let group = tale.group();
        let fault = Fault { op, after, lasts: dice.is(2), code };
        tale.set_fault(Some(fault));
        if dice.is(4) {
            tale.store().idle();
        }
        if dice.is(8) {
            if let Err(error) = tale.open() {
                assert_plain(&error);
                tale.set_fault(None);
                tale.open().expect("the disk is well again");
            }
        }
        tale.set_fault(Some(fault));
        let refused = tale.told(&group);
        if let Err(error) = &refused {
            assert_plain(error);
            // While the disk is ill, nothing else may go wrong either.
            let answer = tale.store().query(&Query::Recent(3));
            answer.err().iter().for_each(assert_plain);
        }
        tale.set_fault(None);
        if refused.is_err() {
            tale.told(&group).expect("the disk is well again");
        }
    }
    let expected = tale.expected.last().cloned().expect("there was a beginning");
    assert_eq!(tale.found(), expected, "seed {seed}");
    cut_after(&mut tale, &expected, &mut dice, seed);
    lock(&tale.disk).struck
}

/// What failed syncs have dropped was written again by the time that the store said it was there.
fn cut_after(tale: &mut Tale, expected: &str, dice: &mut Dice, seed: u64) {
    let events = std::mem::take(&mut lock(&tale.disk).events);
    let mut world = World::default();
    for event in &events {
        world.step(event, dice);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in world.image(Cut::Dropped, dice) {
        fs::write(directory.path().join(name), content).expect("written");
    }
    let found = look(&directory.path().join("jobs.db"));
    assert_eq!(found.as_deref(), Ok(expected), "seed {seed}, after failed syncs");
}

fn assert_plain(error: &StoreError) {
    assert!(matches!(error, StoreError::NoSpace | StoreError::Io(_)), "a failing disk is no damage: {error}");
}

#[test]
fn a_failing_disk_refuses_groups_whole_and_service_returns() {
    let struck: u64 = (0..STORIES * 4 * cases()).map(story).sum();
    println!("{struck} faults");
    assert!(struck > 50, "{struck} faults struck");
}
