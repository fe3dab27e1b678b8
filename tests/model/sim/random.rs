//! Chance, from a seed: the same seed draws the same numbers on every machine.

use std::time::Duration;

/// A stream of numbers (SplitMix64). Streams of one seed are independent: what one of them is asked for does not move another.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self { state: seed.wrapping_mul(0xa076_1d64_78bd_642f) ^ (stream + 1).wrapping_mul(0xe703_7ed1_a0b4_28db) };
        random.draw();
        random
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() % end as u64) as usize
    }

    /// True so many times in a thousand.
    pub fn permille(&mut self, times: u32) -> bool {
        self.below(1_000) < times as usize
    }

    /// A time up to `most`, not zero.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(1 + self.draw() % most.as_micros().max(1) as u64)
    }
}
