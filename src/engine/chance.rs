//! Jitter from a seed: the engine draws, the shell says from where.

use std::time::Duration;

/// A small generator of pseudo-random numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", OOPSLA 2014). The same seed gives the same draws.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `span`, up to a fifth shorter or longer.
    pub(super) fn jitter(&mut self, span: Duration) -> Duration {
        let permille = 800 + u32::try_from(self.next() % 401).expect("a remainder below 401 fits");
        span.saturating_mul(permille) / 1_000
    }

    /// `span`, or up to a fifth shorter.
    pub(super) fn a_little_less(&mut self, span: Duration) -> Duration {
        let permille = 800 + u32::try_from(self.next() % 201).expect("a remainder below 201 fits");
        span / 1_000 * permille
    }

    /// `number`, or up to a fifth lower, but not 0.
    pub(super) fn a_little_fewer(&mut self, number: u64) -> u64 {
        (number - self.next() % (number / 5 + 1)).max(1)
    }
}

/// The pause before the `number`th further try, counted from 1: `base`, doubling, no longer than `max`.
pub(super) fn doubling(base: Duration, number: u32, max: Duration) -> Duration {
    let factor = 1_u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        let pauses: Vec<u64> = (1..=5)
            .map(|number| doubling(Duration::from_secs(1), number, Duration::from_secs(6)).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 6, 6]);
        assert_eq!(doubling(Duration::from_secs(1), 200, Duration::from_secs(6)).as_secs(), 6);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_varies() {
        let mut chance = Chance::new(1);
        let draws: Vec<u128> =
            (0..1_000).map(|_| chance.jitter(Duration::from_secs(1)).as_millis()).collect();
        assert!(draws.iter().all(|draw| (800..=1_200).contains(draw)));
        assert!(draws.iter().any(|draw| *draw < 850) && draws.iter().any(|draw| *draw > 1_150));
    }
}
