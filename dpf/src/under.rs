//! The way of a filter through the trie begins with what its owner is allowed.
//!
//! All groups of a node are tried on every frame that comes there, so at the root
//! somebody could make everybody's frames slow by filters of many shapes. Whoever may
//! only claim what is within another filter, a *scope*, pins what that pins. If these tests come
//! first, all of its own hang below them, and frames that are not within the scope
//! never meet them.

use crate::conjunction::Conjunction;
use crate::language::{Filter, MAX_ATOMS, MIN_FRAME};
use crate::test::{Range, Test};

impl Filter {
    /// The same filter with the tests first that `outer` begins with, as far as these pin
    /// bits; other tests do not repeat those bits.
    ///
    /// `None` if the filter does not pin them before any shift, or asks for shorter frames
    /// there, or would have more than [`MAX_ATOMS`] steps. It takes the same frames and has the same rank, but is not in
    /// canonical form: two such filters are compared by [`implies`](crate::implies).
    pub fn under(&self, outer: &Self) -> Option<Self> {
        let mut rest = Conjunction::ALL;
        let mut tests = self.tests();
        let mut shift = None;
        for test in tests.by_ref() {
            match *test {
                Test::Bits { .. } => {}
                Test::Range { field, lo, hi } => rest.limit(Range { field, lo, hi }).ok()?,
                Test::Shift { .. } => {
                    shift = Some(*test);
                    break;
                }
            }
        }
        self.unshifted().try_for_each(|bits| rest.pin(bits)).ok()?;
        let mut filter = Self::EMPTY;
        let mut reach = MIN_FRAME;
        for bits in outer.unshifted().filter(|bits| bits.mask != 0) {
            let (pinned, value) = rest.pinned_at(bits.at);
            let asked = bits.test().end();
            if pinned & bits.mask != bits.mask
                || value & bits.mask != bits.value
                || asked > rest.reach()
            {
                return None;
            }
            rest.unpin(&bits);
            filter.push(bits.test())?;
            reach = reach.max(asked);
        }
        rest.write_behind(&mut filter, reach).ok()?;
        shift.iter().chain(tests).try_for_each(|test| filter.push(*test))?;
        self.live().try_for_each(|digits| filter.push_case(digits))?;
        (filter.steps().count() <= MAX_ATOMS).then(|| filter.with_rank(self.rank()))
    }

    /// The same filter in canonical form, as it was before [`Filter::under`].
    pub fn canonical(&self) -> Self {
        Self::verify(self.steps()).unwrap_or(*self)
    }
}
