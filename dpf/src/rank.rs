//! Which of two filters of one scope gets a packet that both match.
//!
//! The one that pins more bits; of two that pin as many, the older. Nothing depends on this
//! but the owner of both, so it need not be exact: of a range, only the bits count in which all
//! its values agree, which are pinned in the canonical form.

use crate::filter::Filter;
use crate::test::Test;

/// Bits of a rank below the number of pinned bits.
const AGE_BITS: u32 = 48;

impl Filter {
    /// How many bits it pins.
    pub fn pinned(&self) -> u32 {
        let bits = self.tests().map(|test| match *test {
            Test::Bits { mask, .. } => mask.count_ones(),
            _ => 0,
        });
        bits.sum()
    }

    /// Greater for the filter that gets a packet first. `age` says how many came before it,
    /// below 2^48. Never zero.
    pub fn rank(&self, age: u64) -> u64 {
        u64::from(self.pinned() + 1) << AGE_BITS | (!age & ((1 << AGE_BITS) - 1))
    }
}
