//! What the seed decides before anything happens: pools, submits, and the faults with their times.

use super::asking::Asking;
use super::happening::Happening;
use super::lives::{Stop, boot};
use super::{MS, SECOND, World, clock};
use crate::clients::Submit;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::oracles::Oracles;
use crate::plan::Plans;
use pushpull::config::{Config, Message, PoolSettings, Spending};
use pushpull::engine::Effects;
use pushpull::model::{FinishCursor, PoolName, StoreError};
use pushpull::wire::request::Verb;
use std::collections::BTreeMap;
use std::time::Duration;

/// Results above this are an error of their job.
pub const RESULT_BYTES_MAX: usize = 100;
/// Faults begin and end within this time.
const FAULTS_MS: u64 = 2_500;

impl World {
    pub fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed);
        let config = draw_config(&mut dice);
        let mut disk = Disk::new();
        let now = SECOND;
        let wall_offset = 1_700_000_000_000;
        let engine = boot(&config, &mut disk, clock(now, wall_offset), &mut dice);
        let mut world = World {
            has_reader: dice.hits(60),
            dice,
            whole: config.clone(),
            config,
            now,
            wall_offset,
            engine,
            effects: Effects::default(),
            disk,
            queue: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            plans: Plans::default(),
            submits: Vec::new(),
            next_client: 0,
            faults: true,
            left: None,
            ending: false,
            last_cancel: Vec::new(),
            follower: FinishCursor::default(),
            followed: false,
            quiet: false,
            oracles: Oracles::new(clock(now, wall_offset)),
            trace: Vec::new(),
        };
        world.disk.unreadable = world.dice.hits(50);
        world.draw_submits();
        world.draw_faults();
        world.draw_questions();
        world
    }

    fn draw_submits(&mut self) {
        let pools = self.whole.pools.clone();
        for number in 0..self.dice.between(1, 6) {
            let mut submit = Submit::new(format!("submit-{number}"));
            for _ in 0..self.dice.between(1, 3) {
                let jobs =
                    if self.dice.hits(80) { self.dice.between(1, 30) } else { self.dice.between(0, 60) };
                let chunk = (0..jobs).map(|_| self.plans.draw(&mut self.dice, &pools)).collect();
                submit.chunks.push(chunk);
            }
            if self.dice.hits(20) {
                submit.vanishes = Some(self.dice.between(0, submit.chunks.len() as u64 - 1) as usize);
            }
            self.submits.push(submit);
            let at = self.dice.between(0, 800) * MS;
            self.later(at, Happening::ClientSends(number as usize, 0));
        }
    }

    fn draw_faults(&mut self) {
        self.draw_some(0, 6, |_| Happening::Murder);
        self.draw_some(0, 2, |_| Happening::DaemonCrashes);
        self.draw_some(0, 2, |dice| {
            Happening::DaemonStops(dice.pick(&[
                Stop::Signal,
                Stop::Signal,
                Stop::Shutdown,
                Stop::ShutdownNow,
            ]))
        });
        if self.dice.hits(30) {
            let at = self.dice.between(1, FAULTS_MS) * MS;
            let error =
                if self.dice.hits(50) { StoreError::NoSpace } else { StoreError::Io("broken".to_owned()) };
            self.later(at, Happening::DiskBreaks(error));
            let until = at + self.dice.between(1, 2_000) * MS;
            self.later(until, Happening::DiskHeals);
        }
        if self.dice.hits(30) {
            self.draw_some(1, 2, |dice| Happening::ClockSteps(draw_step(dice)));
        }
    }

    fn draw_questions(&mut self) {
        let verbs = [Verb::Cancel, Verb::Retry, Verb::Remove];
        if self.dice.hits(60) {
            self.draw_some(0, 5, |dice| Happening::Ask(Asking::Act(dice.pick(&verbs))));
        }
        if self.dice.hits(30) {
            // Workers die, and what they held is cancelled and retried before their last answers come.
            let at = self.dice.between(1, 1_000) * MS;
            for _ in 0..self.dice.between(1, 4) {
                self.later(at, Happening::Murder);
            }
            self.later(at + 4 * MS, Happening::Ask(Asking::CancelAll));
        }
        if self.dice.hits(40) {
            self.draw_some(0, 4, |dice| Happening::Ask(Asking::Pause(dice.hits(50))));
        }
        if self.dice.hits(15) {
            self.draw_some(1, 1, |_| Happening::Ask(Asking::Drain));
            self.draw_some(0, 2, |_| Happening::Ask(Asking::EndDrain));
        }
        if self.dice.hits(50) {
            let number = self.dice.between(0, self.submits.len() as u64 - 1) as usize;
            self.draw_some(0, 2, |_| Happening::Ask(Asking::Repeat(number)));
            self.draw_some(0, 2, |_| Happening::Ask(Asking::Conflict(number)));
        }
        let questions =
            [Asking::Status, Asking::Audit, Asking::Wait, Asking::Show, Asking::List, Asking::Browse];
        self.draw_some(2, 12, |dice| Happening::Ask(dice.pick(&questions)));
        self.later(MS, Happening::Ask(Asking::Follow));
    }

    fn draw_some(&mut self, least: u64, most: u64, draw: impl Fn(&mut Dice) -> Happening) {
        for _ in 0..self.dice.between(least, most) {
            let at = self.dice.between(1, FAULTS_MS) * MS;
            let happening = draw(&mut self.dice);
            self.later(at, happening);
        }
    }
}

fn draw_config(dice: &mut Dice) -> Config {
    let mut config = Config::without_file(2);
    config.pools = vec![draw_pool(dice, "default", true, Message::Envelope)];
    if dice.hits(30) {
        config.pools.push(draw_pool(dice, "second", true, Message::Envelope));
    }
    if dice.hits(40) {
        config.pools.push(draw_pool(dice, "shell", false, Message::Envelope));
    }
    if dice.hits(25) {
        config.pools.push(draw_pool(dice, "bare", true, Message::Bare));
    }
    config.daemon.window_jobs_max = dice.between(4, 60) as usize;
    if dice.hits(20) {
        config.daemon.window_bytes_max = dice.between(500, 5_000) as usize;
    }
    config.daemon.result_bytes_max = RESULT_BYTES_MAX;
    config.daemon.drain_timeout = dice.hits(80).then_some(Duration::from_millis(100));
    config
}

fn draw_pool(dice: &mut Dice, name: &str, has_command: bool, message: Message) -> PoolSettings {
    let ms = Duration::from_millis;
    let mut pool = PoolSettings::new(PoolName::new(name).expect("a name of a pool"), 2);
    pool.command = has_command.then(|| vec!["worker".to_owned()]);
    pool.message = message;
    pool.workers = dice.between(1, 4) as u32;
    pool.max_unready = dice.between(1, 4) as u32;
    pool.credit = if dice.hits(50) { Spending::Auto } else { Spending::Fixed(dice.between(1, 20) as u32) };
    pool.max_crashes = dice.between(1, 3) as u32;
    pool.timeout = dice.hits(20).then(|| ms(dice.between(100, 400)));
    pool.retries = dice.between(0, 1) as u32;
    pool.backoff = ms(dice.between(1, 50));
    pool.restart_delay = ms(10);
    pool.restart_delay_max = ms(200);
    pool.restart_reset = ms(100);
    pool.stop_timeout = ms(50);
    pool.start_timeout = ms(500);
    pool
}

/// By how many milliseconds somebody sets the wall clock: up to five hours, in either direction.
pub fn draw_step(dice: &mut Dice) -> i64 {
    dice.pick(&[-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]) * 3_600_000
}
