//! Sequence numbers: positions in a stream, modulo 2^32 (RFC 9293, section 3.4).

use core::ops::{Add, AddAssign, Sub};

/// A sequence number. Two of them are compared by the shorter way round, so there is no
/// order over all of them and `Ord` is not implemented.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub(super) struct Seq(pub(super) u32);

impl Seq {
    /// Whether `self` comes before `other`.
    #[inline(always)]
    pub(super) const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether `self` comes after `other`.
    #[inline(always)]
    pub(super) const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// The later of both.
    pub(super) const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    /// The earlier of both.
    pub(super) const fn min(self, other: Self) -> Self {
        if self.before(other) { self } else { other }
    }

    /// Bytes from `earlier` to `self`, zero if `earlier` is not earlier.
    #[inline(always)]
    pub(super) const fn beyond(self, earlier: Self) -> u32 {
        if self.before(earlier) { 0 } else { self.0.wrapping_sub(earlier.0) }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    #[inline(always)]
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for Seq {
    #[inline(always)]
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    #[inline(always)]
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl Sub for Seq {
    type Output = u32;

    #[inline(always)]
    fn sub(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn compares_across_the_wrap() {
        let (early, late) = (Seq(u32::MAX - 5), Seq(10));
        assert!(early.before(late) && late.after(early) && !late.before(early));
        assert_eq!((late - early, late.beyond(early), early.beyond(late)), (16, 16, 0));
        assert_eq!((early.max(late), early.min(late), early + 16), (late, early, late));
        assert!(!early.before(early) && !early.after(early));
    }
}
