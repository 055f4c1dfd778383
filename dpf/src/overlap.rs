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

use crate::budget::Budget;
use crate::conjunction::Conjunction;
use crate::language::Filter;
use crate::satisfy::satisfiable;
use crate::siblings::find_node;
use crate::storage::{BlockId, GroupId, NodeId, Store, Tag};
use crate::test::{Bits, Range, Test, ones};
use crate::trie::Trie;
use crate::verify::FilterError;

/// Steps of a [`Budget`] that it takes to make a case.
const CASE: u32 = 16;

/// Whether some frame matches both filters. Exact.
pub fn overlap(a: &Filter, b: &Filter) -> bool {
    a.overlaps(b, &Budget::unlimited())
}

/// Whether every frame that matches `a` matches `b` as well. Exact.
///
/// Authority over frames can be written as a filter too: a holder of `grant` may
/// install `filter` if `implies(filter, grant)`.
pub fn implies(a: &Filter, b: &Filter) -> bool {
    a.implies(b, &Budget::unlimited())
}

/// Whether two filters cannot both be installed, even by one owner: they share a
/// frame, and it is not plain which is more specific.
///
/// Filters of equal specificity are in conflict if they share any frame; of two nested
/// ones the inner must rank higher, which it does but for rounding (see `rank`).
pub fn conflict(a: &Filter, b: &Filter) -> bool {
    overlap(a, b) && a.conflicts(b, &Budget::unlimited())
}

impl Filter {
    /// [`overlap`] within a budget; yes if that does not do.
    pub fn overlaps(&self, other: &Self, budget: &Budget) -> bool {
        // With one field that shifts both first, only its values on both sides go together.
        let first = |filter: &Self| filter.shifts().next().map(|(field, _)| field);
        let same = first(self).is_some() && first(self) == first(other);
        self.live().any(|digits| {
            let Ok(one) = self.case(digits) else { return false };
            other.live().filter(|others| !same || (digits ^ others) & 15 == 0).any(|others| {
                let two = other.case(others);
                !budget.spend(CASE) || two.is_ok_and(|two| satisfiable(&one, &two, budget))
            })
        })
    }

    /// [`implies`] within a budget; no if that does not do.
    pub fn implies(&self, outer: &Self, budget: &Budget) -> bool {
        self.cases().all(|case| {
            outer.assignments().all(|digits| {
                if !budget.spend(CASE) {
                    return false;
                }
                let part = match outer.part(&case, digits) {
                    Ok(part) => part,
                    Err(error) => return error == FilterError::Contradiction,
                };
                outer.case(digits).is_ok_and(|outer| {
                    case.reach() >= outer.reach() && part.is_within(&outer, budget)
                })
            })
        })
    }

    /// Whether it is not plain which of two filters that share a frame is more specific,
    /// within a budget.
    pub fn conflicts(&self, other: &Self, budget: &Budget) -> bool {
        let (wide, narrow) = if self.rank() < other.rank() { (self, other) } else { (other, self) };
        self.rank() == other.rank() || wide.implies(narrow, budget)
    }
}

impl Conjunction {
    /// Whether all of its frames that are long enough are in `outer`. Both are tight.
    fn is_within(&self, outer: &Self, budget: &Budget) -> bool {
        outer.bits().iter().all(|bits| {
            let (mask, value) = self.pinned_at(bits.at);
            mask & bits.mask == bits.mask && value & bits.mask == bits.value
        }) && outer.ranges().iter().all(|range| {
            let below = range.lo.checked_sub(1).map(|hi| Range { lo: 0, hi, ..*range });
            let all = ones(range.field.bits);
            let above = (range.hi < all).then(|| Range { lo: range.hi + 1, hi: all, ..*range });
            [below, above].into_iter().flatten().all(|outside| {
                let mut there = Self::ALL;
                there.limit(outside).is_ok() && !satisfiable(self, &there, budget)
            })
        })
    }
}

impl Filter {
    /// Whether some frame may match the filter and have these bits, counted from the base
    /// behind the filter's first `shifts` shifts. If not, none does.
    fn admits(&self, shifts: usize, bits: &Bits) -> bool {
        !self.part_bits(shifts).any(|own| own.contradicts(bits))
    }

    /// What it pins the bits `mask` of the window at `at` there to, if all.
    fn value_at(&self, shifts: usize, at: u16, mask: u64) -> Option<u64> {
        let (pinned, value) = Bits::all_seen_at(self.part_bits(shifts), at);
        (pinned & mask == mask).then_some(value & mask)
    }

    /// The bits that it pins behind this many shifts, and before the next.
    fn part_bits(&self, shifts: usize) -> impl Iterator<Item = Bits> {
        let mut before = 0;
        self.tests().filter_map(move |test| match *test {
            Test::Bits { at, mask, value } => {
                (before == shifts).then_some(Bits { at, mask, value })
            }
            Test::Range { .. } => None,
            Test::Shift { .. } => {
                before += 1;
                None
            }
        })
    }

    /// The bits that it pins before any shift.
    pub(crate) fn unshifted(&self) -> impl Iterator<Item = Bits> {
        self.part_bits(0)
    }
}

impl Trie {
    /// Calls `visit` with every installed filter that shares a frame with `filter`,
    /// its tag and the block it was installed with, until it breaks, in no
    /// particular order. Exact, unless the budget is spent: then it ends where that was.
    ///
    /// **Cost**: enters only branches whose pinned bits `filter` admits, and compares
    /// with the filters that end there. Where `filter` pins all that a group does, it
    /// looks one node up; also behind the same shifts.
    pub fn find_overlap<S: Store, B>(
        &self,
        store: &S,
        filter: &Filter,
        budget: &Budget,
        mut visit: impl FnMut(Tag, BlockId, &Filter) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        visit_groups(store, self.root, Some(0), filter, budget, &mut visit)
    }
}

/// [`Trie::find_overlap`] from groups of one node on. `shifts` are behind it, the same as the
/// filter's; if others are, positions mean nothing for it. Recursion ends at the depth
/// of the trie.
fn visit_groups<S: Store, B>(
    store: &S,
    mut id: GroupId,
    shifts: Option<usize>,
    filter: &Filter,
    budget: &Budget,
    visit: &mut impl FnMut(Tag, BlockId, &Filter) -> ControlFlow<B>,
) -> ControlFlow<B> {
    while id != GroupId::NONE && budget.spend(1) {
        let group = store.group(id);
        id = group.next;
        let pinned = match group.test {
            Test::Bits { at, mask, .. } => shifts.and_then(|s| filter.value_at(s, at, mask)),
            _ => None,
        };
        let mut next = match pinned {
            Some(value) => find_node(store, group, value),
            None => group.first,
        };
        while next != NodeId::NONE && budget.spend(1) {
            let node = store.node(next);
            next = if pinned.is_some() { NodeId::NONE } else { node.next };
            let shifts = match group.test.with_value(node.value) {
                Test::Bits { at, mask, value } => {
                    if shifts.is_some_and(|s| !filter.admits(s, &Bits { at, mask, value })) {
                        continue;
                    }
                    shifts
                }
                Test::Range { .. } => shifts,
                Test::Shift { field, scale, .. } => shifts.and_then(|s| {
                    (filter.shifts().nth(s) == Some((field, scale))).then_some(s + 1)
                }),
            };
            let other = (node.rank != 0).then(|| store.filter(node.owner));
            if let Some(other) = other.filter(|other| filter.overlaps(other, budget))
                && !budget.is_spent()
            {
                visit(node.tag, node.owner, other)?;
            }
            visit_groups(store, node.groups, shifts, filter, budget, visit)?;
        }
    }
    ControlFlow::Continue(())
}
