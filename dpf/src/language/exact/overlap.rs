//! Do two filters share a frame; does one contain the other?
//!
//! Both are decided exactly. A filter is the union of its cases, and a case is a
//! conjunction without shifts.
//!
//! * Two filters share a frame if a case of one shares a frame with a case of the
//!   other. Length never keeps them apart: a frame of full length holds both.
//! * `a` implies `b` if every case of `a` does. Such a case is cut into parts by the
//!   values of the fields that shift `b`; each part must be empty, or within the case
//!   of `b` for these values. A tight conjunction is within another one if it pins
//!   whatever the other pins, to the same value; if it has no frame with a value below
//!   or above a range of the other; and if it asks for no shorter a frame. Otherwise
//!   take one of its frames, of the shortest length, and flip the bit that it leaves
//!   open: all bits that are not pinned vary.

use super::satisfy::satisfiable;
use crate::filter::Filter;
use crate::language::FilterError;
use crate::language::conjunction::Conjunction;
use crate::language::fields::Range;
use crate::test::ones;

/// Whether some frame matches both filters. Exact.
pub fn overlap(a: &Filter, b: &Filter) -> bool {
    // With one field that shifts both first, only its values on both sides go together.
    let first = |filter: &Filter| filter.shifts().next().map(|(field, _)| field);
    let same = first(a).is_some() && first(a) == first(b);
    a.live().any(|digits| {
        let Ok(one) = a.case(digits) else { return false };
        let others = b.live().filter(|others| !same || (digits ^ others) & 15 == 0);
        others.filter_map(|others| b.case(others).ok()).any(|two| satisfiable(&one, &two))
    })
}

/// Whether every frame that matches `a` matches `b` as well. Exact.
pub fn implies(a: &Filter, b: &Filter) -> bool {
    a.cases().all(|case| {
        b.assignments().all(|digits| {
            let part = match b.part(&case, digits) {
                Ok(part) => part,
                Err(error) => return error == FilterError::Contradiction,
            };
            b.case(digits)
                .is_ok_and(|outer| case.reach() >= outer.reach() && part.is_within(&outer))
        })
    })
}

impl Conjunction {
    /// Whether all of its frames that are long enough are in `outer`. Both are tight.
    fn is_within(&self, outer: &Self) -> bool {
        outer.bits().iter().all(|bits| {
            let (mask, value) = self.pinned_at(bits.at);
            mask & bits.mask == bits.mask && value & bits.mask == bits.value
        }) && outer.ranges().iter().all(|range| {
            let below = range.lo.checked_sub(1).map(|hi| Range { lo: 0, hi, ..*range });
            let all = ones(range.field.bits);
            let above = (range.hi < all).then(|| Range { lo: range.hi + 1, hi: all, ..*range });
            [below, above].into_iter().flatten().all(|outside| {
                let mut there = Self::ALL;
                there.limit(outside).is_ok() && !satisfiable(self, &there)
            })
        })
    }
}
