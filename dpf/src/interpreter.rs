//! The walk a received frame takes through the filters.
//!
//! Place on the packet path: step 2, classify. What may lie: every byte of the
//! frame, and its length.
//!
//! One test is one comparison with the frame's length, one 64-bit load, one mask
//! and one comparison. A code generator replaces this file, and nothing else.

use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::language::{Filter, MAX_ATOMS, MIN_FRAME, Test, WINDOW};
use crate::trie::{Accept, NodeId, Store, Tag, Trie};

impl Filter {
    /// Whether `frame`, from its Ethernet header on, matches this one filter.
    ///
    /// The reference for [`Trie::classify`], and the transmit check.
    pub fn matches(&self, frame: &[u8]) -> bool {
        frame.len() >= MIN_FRAME && self.tests().all(|test| test.holds(frame))
    }
}

impl Test {
    #[inline]
    fn holds(&self, frame: &[u8]) -> bool {
        let at = usize::from(self.at);
        match frame.get(at..at + WINDOW).and_then(|window| window.first_chunk()) {
            Some(&window) => u64::from_le_bytes(window) & self.mask == self.value,
            None => false,
        }
    }
}

impl Trie {
    /// The tag of the most specific installed filter that matches `frame`.
    ///
    /// Most specific is the filter that pins most bits; then the one with the
    /// greater [`reach`](Filter::reach); then the first in the order of their
    /// canonical atoms. So if one of two filters implies the other it wins, and
    /// the order of installation never matters.
    /// **Trust**: the frame may be hostile. **Cost**: bounded by the number of nodes.
    #[inline]
    pub fn classify<S: Store>(&self, store: &S, frame: &[u8]) -> Option<Tag> {
        if frame.len() < MIN_FRAME {
            return None;
        }
        let mut best = Accept::NONE;
        let ControlFlow::Continue(()) = self.walk(
            store,
            |test| test.holds(frame),
            |accept| -> ControlFlow<Infallible> {
                if accept.rank > best.rank {
                    best = *accept;
                }
                ControlFlow::Continue(())
            },
        );
        best.is_some().then_some(best.tag)
    }

    /// Visits, in the order of their tests, the nodes to which all tests lead that
    /// `enter` lets through, whether a filter ends there or not, until `visit` breaks.
    #[inline]
    pub(crate) fn walk<S: Store, B>(
        &self,
        store: &S,
        enter: impl Fn(&Test) -> bool,
        mut visit: impl FnMut(&Accept) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        // Siblings to go on with, at most one for each level, so there is always
        // room; taking the remainder spares the hot path a check that cannot fail.
        let mut pending = [NodeId::NONE; MAX_ATOMS];
        let mut count = 0;
        let mut id = self.root;
        loop {
            while id != NodeId::NONE {
                let node = store.node(id);
                id = node.next_sibling;
                if !enter(&node.test) {
                    continue;
                }
                visit(&node.accept)?;
                if node.first_child == NodeId::NONE {
                    continue;
                }
                if id != NodeId::NONE {
                    pending[count % MAX_ATOMS] = id;
                    count += 1;
                }
                id = node.first_child;
            }
            if count == 0 {
                return ControlFlow::Continue(());
            }
            count -= 1;
            id = pending[count % MAX_ATOMS];
        }
    }
}
