//! Chance that repeats: the same calls, the same choices. No secret comes from it.

/// Marsaglia's xorshift with 32 bits.
pub(super) struct Chance(u32);

impl Chance {
    /// Always from the same number on.
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9)
    }

    /// The next number, never zero.
    #[inline]
    pub(super) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}
