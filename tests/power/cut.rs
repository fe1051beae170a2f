//! A power cut at every point of a story: what was acknowledged is there, and nothing but at most the one group
//! that was in flight, whole.

use crate::disk::{Cut, Event, Image, World};
use crate::story::Dice;
use crate::tale::{Tale, cases, look};
use crate::vfs::lock;
use std::fs;
use std::path::Path;

const STORIES: u64 = 5;
const STEPS: usize = 30;
/// One in so many events that are no sync is looked at as well.
const ASIDE: u64 = 25;

/// What a cut has broken, and how many were looked at.
struct Hunt {
    images: u64,
    losses: Vec<String>,
}

/// Tells a story and cuts the power wherever it could matter.
fn hunt(seed: u64, is_deaf: bool) -> Hunt {
    let mut tale = Tale::begin(seed, is_deaf);
    for _ in 0..STEPS {
        tale.step();
    }
    tale.store = None;
    let events = std::mem::take(&mut lock(&tale.disk).events);
    let mut dice = Dice::new(seed ^ 0x5eed);
    let mut world = World::default();
    let mut hunt = Hunt { images: 0, losses: Vec::new() };
    let mut done = 0;
    for (at, event) in events.iter().enumerate() {
        let is_sync = matches!(event, Event::Synced { .. } | Event::Deleted { .. } | Event::Told(_));
        if let Event::Told(steps) = event {
            done = *steps;
        }
        if is_sync || dice.is(ASIDE) {
            let others = [Cut::Kept, Cut::Scattered, Cut::Torn, Cut::Torn];
            let other = dice.pick(&others).expect("there are cuts");
            for cut in [Cut::Dropped, other] {
                let image = world.image(cut, &mut dice);
                hunt.images += 1;
                if let Err(why) = check(&image, &tale.expected, done) {
                    hunt.losses.push(format!("seed {seed}, event {at}, {cut:?}, {done} steps done: {why}"));
                }
            }
        }
        world.step(event, &mut dice);
    }
    hunt
}

/// Starts a store on what was left.
fn check(image: &Image, expected: &[String], done: usize) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(image, directory.path());
    let found = look(&directory.path().join("jobs.db"))?;
    let known = expected[done..].iter().take(2).any(|said| *said == found);
    if known {
        return Ok(());
    }
    let differs = |said: &String| {
        let mut lines = said.lines().zip(found.lines());
        lines.find(|(left, right)| left != right).map(|(left, right)| format!("{left}\nbut found\n{right}"))
    };
    Err(format!("it should say {}", differs(&expected[done]).unwrap_or_else(|| "more".to_owned())))
}

fn write(image: &Image, directory: &Path) {
    for (name, content) in image {
        fs::write(directory.join(name), content).expect("written");
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    let mut images = 0;
    for seed in 0..STORIES * cases() {
        let hunt = hunt(seed, false);
        assert!(hunt.losses.is_empty(), "{} losses; the first: {}", hunt.losses.len(), hunt.losses[0]);
        images += hunt.images;
    }
    println!("{images} power cuts");
    assert!(images > 100 * STORIES, "the stories were cut at many points");
}

#[test]
fn a_store_whose_syncs_do_nothing_is_found_out() {
    let losses: usize = (100..102).map(|seed| hunt(seed, true).losses.len()).sum();
    assert!(losses > 0, "nothing was synced, and nothing was lost");
}
