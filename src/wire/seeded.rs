//! Numbers for tests that depend on nothing but their seed.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("below a usize")
    }
}

/// How many cases such a test goes through: `PUSHPULL_CASES`, or 20,000.
pub(super) fn cases() -> u32 {
    let asked = std::env::var("PUSHPULL_CASES").ok();
    asked.map_or(20_000, |text| text.parse().expect("PUSHPULL_CASES is a number"))
}
