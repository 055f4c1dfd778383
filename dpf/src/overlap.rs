//! Do two filters share a frame; does one contain the other?
//!
//! Both are decided exactly, because a filter only pins single bits. Two filters
//! share a frame unless they pin one bit to different values: otherwise take any
//! frame of full length and set the bits of both. And `a` implies `b` if `a` pins
//! whatever `b` pins, to the same value, and asks for no shorter a frame:
//! otherwise take the shortest frame of `a` and flip a bit that only `b` pins.

use core::ops::ControlFlow;

use crate::language::{Filter, Test};
use crate::trie::{Store, Tag, Trie};

/// Whether some frame matches both filters. Exact.
pub fn overlap(a: &Filter, b: &Filter) -> bool {
    a.tests().all(|test| b.admits(test))
}

/// Whether every frame that matches `a` matches `b` as well. Exact.
///
/// Authority over frames can be written as a filter too: a holder of `grant` may
/// install `filter` if `implies(filter, grant)`.
pub fn implies(a: &Filter, b: &Filter) -> bool {
    a.reach() >= b.reach() && b.tests().all(|test| a.pins(test))
}

impl Filter {
    /// Whether some frame matches the filter and passes `test`.
    fn admits(&self, test: &Test) -> bool {
        !self.tests().any(|own| own.contradicts(test))
    }

    /// Whether every frame that matches the filter passes `test`, its length aside.
    pub(crate) fn pins(&self, test: &Test) -> bool {
        let (mask, value) = self.pinned_at(test.at);
        mask & test.mask == test.mask && value & test.mask == test.value
    }
}

impl Trie {
    /// Calls `visit` with the tag of every installed filter that shares a frame
    /// with `filter`, until it breaks. Exact.
    ///
    /// The order is that of the tests, not of installation.
    /// **Cost**: enters only branches that `filter` admits; bounded by the number
    /// of nodes times [`MAX_ATOMS`](crate::MAX_ATOMS).
    pub fn find_overlap<S: Store, B>(
        &self,
        store: &S,
        filter: &Filter,
        mut visit: impl FnMut(Tag) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.walk(
            store,
            |test| filter.admits(test),
            |accept| if accept.is_some() { visit(accept.tag) } else { ControlFlow::Continue(()) },
        )
    }
}
