//! How specific is a filter?
//!
//! Of the filters that match a frame the most specific gets it. How specific a filter
//! is follows from its *share* of all frames, where every length from [`MIN_FRAME`] to
//! [`MAX_FRAME`] is as likely as any other, and so is every value of every bit. A
//! pinned bit halves the share; a range of `n` values among `m` leaves `n` in `m`; a
//! filter that asks for longer frames has fewer; cases add up, for no two share a
//! frame. A filter that takes fewer frames has a smaller share, so whatever is within
//! something else is more specific.
//!
//! That is true of the exact share. It is kept as a floating-point number of 64 bits,
//! rounded down, of which 48 are compared. Filters without ranges and shifts lose
//! nothing by this. Of others, one within another can in theory have a rank that is
//! equal, or by the last place the wrong way round, if their shares differ by less
//! than one in 2^44. [`conflict`](crate::conflict) refuses such a pair rather than
//! rely on the rank.

use crate::conjunction::Conjunction;
use crate::language::MAX_FRAME;
use crate::test::ones;

/// `mantissa / 2^halvings`, the highest bit of the mantissa set unless it is zero.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    mantissa: u64,
    halvings: u32,
}

impl Share {
    /// Greater for a smaller share. Never zero.
    pub(crate) fn rank(self) -> u64 {
        // The highest bit is always set, so the next 47 are kept.
        u64::from(self.halvings) << 47 | (!self.mantissa << 1 >> 17)
    }

    fn times(self, factor: u64, halvings: u32) -> Self {
        let product = u128::from(self.mantissa) * u128::from(factor);
        let zeros = product.leading_zeros();
        let mantissa = (product.checked_shl(zeros).unwrap_or(0) >> 64) as u64;
        Self { mantissa, halvings: self.halvings + halvings + zeros - 64 }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        let (more, less) =
            if self.halvings < other.halvings { (self, other) } else { (other, self) };
        let aligned = less.mantissa.checked_shr(less.halvings - more.halvings).unwrap_or(0);
        match more.mantissa.checked_add(aligned) {
            Some(mantissa) => Self { mantissa, ..more },
            None => Self {
                mantissa: more.mantissa.wrapping_add(aligned) >> 1 | 1 << 63,
                halvings: more.halvings - 1,
            },
        }
    }
}

impl Conjunction {
    /// In units of one frame length, of which there are 1501.
    pub(crate) fn share(&self) -> Share {
        let longer = MAX_FRAME + 1 - self.reach();
        let all = Share { mantissa: 1 << 63, halvings: 1 << 10 };
        let share = all.times(longer as u64, self.pinned_bits());
        self.ranges().iter().fold(share, |share, range| {
            let (pinned, _) = self.pinned_in(range.field);
            let free = ones(range.field.bits) & !pinned;
            let among_free = |bound| gather(bound, free);
            let values = among_free(range.hi) - among_free(range.lo) + 1;
            share.times(values, free.count_ones())
        })
    }

    /// The number of pinned bits.
    fn pinned_bits(&self) -> u32 {
        let mut earlier = self.bits().iter();
        let mut sum = 0;
        while let Some(bits) = earlier.next_back() {
            let seen = earlier.clone().fold(0, |seen, other| seen | other.seen_at(bits.at).0);
            sum += (bits.mask & !seen).count_ones();
        }
        sum
    }
}

/// The bits of `from` at the places `places`, closed up.
fn gather(from: u64, mut places: u64) -> u64 {
    let mut gathered = 0;
    while places != 0 {
        let highest = 1 << (63 - places.leading_zeros());
        gathered = gathered << 1 | u64::from(from & highest != 0);
        places ^= highest;
    }
    gathered
}
