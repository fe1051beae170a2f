//! Chance, and what a seed has in store for each job.

use std::collections::BTreeMap;

/// The world's only source of chance (xorshift64*, Vigna 2016).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + (self.next() >> 16) % (to - from + 1)
    }

    /// True in `percent` of a hundred throws.
    pub fn hits(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }
}

/// What a job does to whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Succeed,
    /// The worker answers with an error each time.
    Fail,
    /// An error at the first attempts, then a success.
    Flaky(u32),
    /// The worker dies on it.
    Poison,
    /// The worker leaves with exit status 0 instead of answering, the first so many times.
    Leave(u32),
}

/// One job of the world.
#[derive(Clone, Debug)]
pub struct Plan {
    pub fate: Fate,
    pub took_us: u64,
    pub priority: i16,
    pub retries: u64,
    pub delay_ms: u64,
    /// Times that a worker has begun it.
    pub begun: u32,
}

/// All jobs of the world, by the number in their data.
#[derive(Clone, Debug, Default)]
pub struct Plans(pub BTreeMap<u64, Plan>);

impl Plans {
    /// Draws a job and returns its number and its JSON.
    pub fn draw(&mut self, dice: &mut Dice) -> (u64, String) {
        let tag = self.0.len() as u64;
        let fate = match dice.between(1, 100) {
            1..=80 => Fate::Succeed,
            81..=85 => Fate::Fail,
            86..=92 => Fate::Flaky(1 + (tag % 2) as u32),
            93..=97 => Fate::Poison,
            _ => Fate::Leave(dice.between(1, 3) as u32),
        };
        let took_us = if dice.hits(80) { dice.between(1, 500) } else { dice.between(1_000, 80_000) };
        let priority = if dice.hits(15) { dice.between(0, 6) as i16 - 3 } else { 0 };
        let plan = Plan {
            fate,
            took_us,
            priority,
            retries: dice.between(0, 3),
            delay_ms: if dice.hits(8) { dice.between(1, 400) } else { 0 },
            begun: 0,
        };
        let json = format!(
            r#"{{"data":{tag},"priority":{},"retries":{},"backoff":"20ms","delay":"{}ms"}}"#,
            plan.priority, plan.retries, plan.delay_ms
        );
        self.0.insert(tag, plan);
        (tag, json)
    }
}
