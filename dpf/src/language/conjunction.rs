//! What atoms say together when all offsets are known.
//!
//! A [`Conjunction`] is built atom by atom, for what stands between two shifts and for
//! a case of a filter with shifts. [`Conjunction::tighten`] makes it exact:
//!
//! * a range begins and ends at values that agree with the pinned bits;
//! * a bit that all values of a range share is pinned, so pinned are exactly the bits
//!   that do not vary;
//! * a range over bits that may be anything below its first and last value does not
//!   contain those bits, and there is no range that only says what pinned bits say.
//!
//! Why this form is the only one: the fields of two ranges share no bit, so the set is
//! a product over fields and pinned bits, and each factor may be looked at alone. Its
//! first and last value and its constant bits follow from the set. Every bit that is
//! not pinned varies: let `t` be the highest in which first and last value differ.
//! Below it, a bit that is 0 in the first can be set there, and a bit that is 1 in the
//! last can be cleared there, without leaving the range; bits on which both agree
//! above `t` are pinned. A bit below which the first value has only zeros and the last
//! only ones makes no difference; any higher one down from `t` does.

use super::{FilterError, MAX_RANGES};
use crate::filter::{Filter, MAX_ATOMS, MAX_SHIFTS, MIN_FRAME};
use crate::language::fields::Range;
use crate::test::{Bits, Field, Test, WINDOW, ones};

/// Each atom pins bits of one window at most, whether it is a range or not; a case of
/// one filter is asked for the shifts of another; and ranges may be tightened again.
const MAX_WINDOWS: usize = MAX_ATOMS + MAX_SHIFTS + 2 * MAX_RANGES;

/// Pinned bits, ranges, length: not contradictory, if made by [`Conjunction::tighten`].
#[derive(Clone, Copy)]
pub(crate) struct Conjunction {
    /// The first `windows`. They may overlap, but do not contradict each other.
    bits: [Bits; MAX_WINDOWS],
    windows: usize,
    /// The first `count`, over fields that share no bit.
    ranges: [Range; MAX_RANGES],
    count: usize,
    /// Length in bytes of the shortest frame that holds all.
    reach: u16,
}

impl Conjunction {
    /// Takes every frame.
    pub(crate) const ALL: Self = Self {
        bits: [Bits { at: 0, mask: 0, value: 0 }; MAX_WINDOWS],
        windows: 0,
        ranges: [Range { field: Field { first: 0, bits: 0 }, lo: 0, hi: 0 }; MAX_RANGES],
        count: 0,
        reach: MIN_FRAME as u16,
    };

    pub(crate) fn bits(&self) -> &[Bits] {
        self.bits.get(..self.windows).unwrap_or_default()
    }

    pub(crate) fn ranges(&self) -> &[Range] {
        self.ranges.get(..self.count).unwrap_or_default()
    }

    pub(crate) fn reach(&self) -> usize {
        usize::from(self.reach)
    }

    /// And these bits. An empty mask says only how long the frame is.
    pub(crate) fn pin(&mut self, bits: Bits) -> Result<(), FilterError> {
        self.reach = self.reach.max(bits.at + WINDOW as u16);
        if bits.mask == 0 {
            return Ok(());
        }
        if self.bits().iter().any(|other| other.contradicts(&bits)) {
            return Err(FilterError::Contradiction);
        }
        let mut used = self.bits.iter_mut().take(self.windows);
        match used.find(|other| other.at == bits.at) {
            Some(same) => {
                (same.mask, same.value) = (same.mask | bits.mask, same.value | bits.value);
            }
            None => {
                *self.bits.get_mut(self.windows).ok_or(FilterError::TooManyAtoms)? = bits;
                self.windows += 1;
            }
        }
        Ok(())
    }

    /// And this range, in `lo..=hi` of the field.
    pub(crate) fn limit(&mut self, range: Range) -> Result<(), FilterError> {
        self.reach = self.reach.max(range.field.end());
        let mut used = self.ranges.iter_mut().take(self.count);
        match used.find(|other| other.field.overlaps(range.field)) {
            Some(same) if same.field == range.field => {
                (same.lo, same.hi) = (same.lo.max(range.lo), same.hi.min(range.hi));
            }
            Some(_) => return Err(FilterError::RangesOverlap),
            None => {
                *self.ranges.get_mut(self.count).ok_or(FilterError::TooManyRanges)? = range;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// Takes the range over this very field out, if there is one: its bounds, or those of
    /// the field.
    pub(crate) fn take_range(&mut self, field: Field) -> (u64, u64) {
        let Some(at) = self.ranges().iter().position(|range| range.field == field) else {
            return (0, ones(field.bits));
        };
        self.count -= 1;
        let ranges = self.ranges.get_mut(at..=self.count).unwrap_or_default();
        ranges.rotate_left(1);
        ranges.last().map_or((0, 0), |range| (range.lo, range.hi))
    }

    /// Brings it to the form that the module describes. Errors:
    /// [`FilterError::Contradiction`] if no frame matches.
    pub(crate) fn tighten(&mut self) -> Result<(), FilterError> {
        let ranges = self.ranges;
        let given = core::mem::take(&mut self.count);
        for Range { field, lo, hi } in ranges.into_iter().take(given) {
            let (mask, value) = self.pinned_in(field);
            let all = ones(field.bits);
            let lo = at_least(lo, mask, value, all);
            let hi =
                at_least(!hi & all, mask, !value & mask, all).map(|complement| !complement & all);
            let (Some(lo), Some(hi)) = (lo, hi) else { return Err(FilterError::Contradiction) };
            if lo > hi {
                return Err(FilterError::Contradiction);
            }
            // Bits from the highest that varies down.
            let varying = ones(64 - (lo ^ hi).leading_zeros() as u8);
            self.pin(Bits::in_field(field, all & !varying, lo))?;
            let relevant = (lo | !hi) & varying & !mask;
            if relevant != 0 {
                let cut = relevant.trailing_zeros() as u16;
                let bits = varying.count_ones() as u16 - cut;
                let first = field.end_bit() - cut - bits;
                let narrow = |bound: u64| (bound & varying) >> cut;
                let field = Field { first, bits: bits as u8 };
                self.limit(Range { field, lo: narrow(lo), hi: narrow(hi) })?;
            }
        }
        let count = self.count;
        self.ranges.get_mut(..count).unwrap_or_default().sort_unstable();
        Ok(())
    }

    /// Which bits of the window at `at` are pinned: (mask, value).
    pub(crate) fn pinned_at(&self, at: u16) -> (u64, u64) {
        Bits::all_seen_at(self.bits().iter().copied(), at)
    }

    /// Which bits of a field are pinned: (mask, value).
    pub(crate) fn pinned_in(&self, field: Field) -> (u64, u64) {
        let (mask, value) = self.pinned_at(field.at());
        let in_field = |window: u64| window.swap_bytes() >> field.low() & ones(field.bits);
        (in_field(mask), in_field(value))
    }

    /// Moves the canonical tests to the end of `filter`.
    ///
    /// Windows are laid greedily from the end towards the start, each over all pinned
    /// bits it can hold, so abutting atoms merge into one load. If no range ends where
    /// the shortest frame does, the last window does, even if it pins nothing.
    ///
    /// Without ranges the result never needs more windows than atoms were given.
    /// Covering points with intervals of one length greedily from one end is optimal,
    /// and the atoms are such a cover. If the first window is placed by length and not
    /// by the last pinned byte, it is the window of the atom that reaches furthest,
    /// which is part of that cover.
    pub(crate) fn write(&mut self, filter: &mut Filter) -> Result<(), FilterError> {
        self.write_behind(filter, MIN_FRAME)
    }

    /// The same behind tests that ask for frames of `asked` bytes.
    pub(crate) fn write_behind(
        &mut self,
        filter: &mut Filter,
        asked: usize,
    ) -> Result<(), FilterError> {
        let mut windows = [Test::VACANT; MAX_ATOMS];
        let mut count = 0;
        let by_range = self.ranges().iter().any(|range| range.field.end() == self.reach);
        let by_length = self.reach() > asked && !by_range;
        let mut end = if by_length { Some(self.reach()) } else { self.pinned_end() };
        while let Some(last) = end {
            let slot = windows.get_mut(count).ok_or(FilterError::TooManyAtoms)?;
            *slot = self.take_window(last.saturating_sub(WINDOW) as u16).test();
            count += 1;
            end = self.pinned_end();
        }
        let windows = windows.iter().take(count).rev().copied();
        let ranges =
            self.ranges().iter().map(|&Range { field, lo, hi }| Test::Range { field, lo, hi });
        windows
            .chain(ranges)
            .try_for_each(|test| filter.push(test))
            .ok_or(FilterError::TooManyAtoms)
    }

    /// One past the last byte that has a pinned bit.
    fn pinned_end(&self) -> Option<usize> {
        self.bits().iter().filter_map(Bits::pinned_end).max()
    }

    /// Moves all bits pinned in the window at `at` out of the conjunction.
    fn take_window(&mut self, at: u16) -> Bits {
        let (mask, value) = self.pinned_at(at);
        let window = Bits { at, mask, value };
        self.unpin(&window);
        window
    }

    /// Says nothing of these bits any more.
    pub(crate) fn unpin(&mut self, these: &Bits) {
        let mut kept = 0;
        for at in 0..self.windows {
            let Some(Bits { at, mask, value }) = self.bits.get(at).copied() else { break };
            let mask = mask & !these.seen_at(at).0;
            if let (Some(place), true) = (self.bits.get_mut(kept), mask != 0) {
                *place = Bits { at, mask, value: value & mask };
                kept += 1;
            }
        }
        self.windows = kept;
    }
}

/// The least `x`, not less than `lo`, with `x & mask == value`, in a field of the
/// bits `all`.
fn at_least(lo: u64, mask: u64, value: u64, all: u64) -> Option<u64> {
    let wrong = (lo ^ value) & mask;
    if wrong == 0 {
        return Some(lo);
    }
    // From the highest pinned bit that is wrong down, nothing of `lo` stays.
    let highest = 1 << (63 - wrong.leading_zeros());
    let below = |bit: u64| bit - 1;
    if value & highest != 0 {
        return Some(lo & !(highest | below(highest)) | value & (highest | below(highest)));
    }
    // It must be cleared, so a higher bit must be set: the lowest that can be.
    let free = all & !mask & !lo & !(highest | below(highest));
    let raised = free & free.wrapping_neg();
    (free != 0).then(|| lo & !below(raised) | raised | value & below(raised))
}
