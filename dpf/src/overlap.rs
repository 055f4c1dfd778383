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

use core::ops::ControlFlow;

use crate::conjunction::Conjunction;
use crate::language::{Filter, MAX_CASES, MAX_RANGES};
use crate::satisfy::satisfiable;
use crate::siblings::find_node;
use crate::storage::{BlockId, GroupId, NodeId, Store, Tag};
use crate::test::{Bits, Range, Test, ones};
use crate::trie::Trie;
use crate::verify::FilterError;

/// Most bits of ranges that are gone through to compare two filters: each pair of
/// cases, all ranges of both, 64 bits each. Filters without ranges are compared
/// without this, and pairs that pin a bit to different values are not gone through.
pub const WORK: usize = MAX_CASES * MAX_CASES * 2 * MAX_RANGES * 64;

/// Whether some frame matches both filters. Exact.
///
/// **Cost**: bounded by [`WORK`].
pub fn overlap(a: &Filter, b: &Filter) -> bool {
    a.cases().any(|one| b.cases().any(|other| satisfiable(&one, &other)))
}

/// Whether every frame that matches `a` matches `b` as well. Exact.
///
/// Authority over frames can be written as a filter too: a holder of `grant` may
/// install `filter` if `implies(filter, grant)`.
/// **Cost**: bounded by ten times [`WORK`].
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

/// Whether two filters cannot both be installed, even by one owner: they share a
/// frame, and it is not plain which is more specific.
///
/// Filters of equal specificity are in conflict if they share any frame; of two nested
/// ones the inner must rank higher, which it does but for rounding (see `rank`).
pub fn conflict(a: &Filter, b: &Filter) -> bool {
    let (wide, narrow) = if a.rank() < b.rank() { (a, b) } else { (b, a) };
    overlap(a, b) && (a.rank() == b.rank() || implies(wide, narrow))
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

impl Filter {
    /// Whether some frame may match the filter and have these bits, which it pins
    /// before any shift. If not, none does.
    fn admits(&self, bits: &Bits) -> bool {
        !self.unshifted().any(|own| own.contradicts(bits))
    }

    /// What it pins the bits `mask` of the window at `at` to before any shift, if all.
    fn value_at(&self, at: u16, mask: u64) -> Option<u64> {
        let (pinned, value) = self.window_at(at);
        (pinned & mask == mask).then_some(value & mask)
    }

    /// The bits that it pins before any shift.
    pub(crate) fn unshifted(&self) -> impl Iterator<Item = Bits> {
        self.tests().map_while(|test| match *test {
            Test::Bits { at, mask, value } => Some(Bits { at, mask, value }),
            _ => None,
        })
    }
}

impl Trie {
    /// Calls `visit` with every installed filter that shares a frame with `filter`,
    /// its tag and its block, until it breaks, in no particular order. Exact.
    ///
    /// **Cost**: enters only branches whose pinned bits `filter` admits, and compares
    /// with the filters that end there. Where `filter` pins all that a group does, it
    /// looks one node up.
    pub fn find_overlap<S: Store, B>(
        &self,
        store: &S,
        filter: &Filter,
        mut visit: impl FnMut(Tag, BlockId, &Filter) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        visit_groups(store, self.root, true, filter, &mut visit)
    }
}

/// [`Trie::find_overlap`] from groups of one node on. `plain` holds before any shift;
/// behind one, positions mean nothing yet. Recursion ends at the depth of the trie.
fn visit_groups<S: Store, B>(
    store: &S,
    mut id: GroupId,
    plain: bool,
    filter: &Filter,
    visit: &mut impl FnMut(Tag, BlockId, &Filter) -> ControlFlow<B>,
) -> ControlFlow<B> {
    while id != GroupId::NONE {
        let group = store.group(id);
        id = group.next;
        let pinned = match group.test {
            Test::Bits { at, mask, .. } if plain => filter.value_at(at, mask),
            _ => None,
        };
        let mut next = match pinned {
            Some(value) => find_node(store, group, value),
            None => group.first,
        };
        while next != NodeId::NONE {
            let node = store.node(next);
            next = if pinned.is_some() { NodeId::NONE } else { node.next };
            let plain = match group.test.with_value(node.value) {
                Test::Bits { at, mask, value } if plain => {
                    if !filter.admits(&Bits { at, mask, value }) {
                        continue;
                    }
                    plain
                }
                Test::Shift { .. } => false,
                _ => plain,
            };
            let other = (node.rank != 0).then(|| store.filter(node.owner));
            if let Some(other) = other.filter(|other| overlap(filter, other)) {
                visit(node.tag, node.owner, other)?;
            }
            visit_groups(store, node.groups, plain, filter, visit)?;
        }
    }
    ControlFlow::Continue(())
}
