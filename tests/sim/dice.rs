//! Chance: the world's only source of it.

/// A small generator (xorshift64*, Vigna 2016). The same seed gives the same throws.
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

    /// One of `items`.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.between(0, items.len() as u64 - 1) as usize].clone()
    }
}
