//! What a filter means, and the walk a received frame takes through all of them.
//!
//! Place on the packet path: step 2, classify. What may lie: every byte of the
//! frame, and its length.
//!
//! A test of pinned bits is one comparison with the frame's length, one 64-bit load,
//! one mask and one comparison. A code generator replaces the walk;
//! [`Filter::matches`] stays, as what it is checked against.

use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::language::{Filter, MAX_ATOMS, MIN_FRAME};
use crate::test::{Field, Test, WINDOW, ones};
use crate::trie::{Accept, NodeId, Store, Tag, Trie};

impl Filter {
    /// Whether `frame`, from its Ethernet header on, matches this one filter.
    ///
    /// This is the meaning of a filter: the reference for [`Trie::classify`] and
    /// whatever replaces it. It is also the transmit check.
    pub fn matches(&self, frame: &[u8]) -> bool {
        frame.len() >= MIN_FRAME
            && self.tests().try_fold(0, |base, test| test.pass(frame, base)).is_some()
    }
}

impl Test {
    /// The base for what follows, if `frame` passes the test at `base`.
    #[inline]
    fn pass(&self, frame: &[u8], base: u16) -> Option<u16> {
        let Self::Bits { at, mask, value } = *self else { return self.pass_field(frame, base) };
        let window = u64::from_le_bytes(window(frame, base, at)?);
        (window & mask == value).then_some(base)
    }

    /// The same for what is not pinned bits; apart, so that those stay cheap.
    #[cold]
    fn pass_field(&self, frame: &[u8], base: u16) -> Option<u16> {
        match *self {
            // Not asked: `pass` has answered.
            Self::Bits { .. } => None,
            Self::Range { field, lo, hi } => {
                (lo..=hi).contains(&field.load(frame, base)?).then_some(base)
            }
            Self::Shift { field, scale } => {
                Some(base + ((field.load(frame, base)? as u16) << scale))
            }
        }
    }
}

impl Field {
    /// The value of the field in `frame`, or `None` if the frame ends before it does.
    fn load(self, frame: &[u8], base: u16) -> Option<u64> {
        let window = u64::from_be_bytes(window(frame, base, self.at())?);
        Some(window >> self.low() & ones(self.bits))
    }
}

#[inline]
fn window(frame: &[u8], base: u16, at: u16) -> Option<[u8; WINDOW]> {
    let at = usize::from(base) + usize::from(at);
    frame.get(at..at + WINDOW)?.first_chunk().copied()
}

impl Trie {
    /// The tag of the most specific installed filter that matches `frame`.
    ///
    /// Most specific is the filter that takes the smallest share of all frames (see
    /// the module `rank`), then the first in the order of their canonical tests. So
    /// the order of installation never matters, and if one of two filters that are not
    /// in [`conflict`](crate::conflict) implies the other it wins.
    /// **Trust**: the frame may be hostile. **Cost**: bounded by the number of nodes.
    #[inline]
    pub fn classify<S: Store>(&self, store: &S, frame: &[u8]) -> Option<Tag> {
        if frame.len() < MIN_FRAME {
            return None;
        }
        let mut best = Accept::NONE;
        let ControlFlow::Continue(()) = self.walk(
            store,
            0,
            |test, base| test.pass(frame, base),
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
    /// What `enter` answers is handed to it for the tests that follow; at the root it
    /// is `state`.
    #[inline]
    pub(crate) fn walk<S: Store, T: Copy, B>(
        &self,
        store: &S,
        mut state: T,
        enter: impl Fn(&Test, T) -> Option<T>,
        mut visit: impl FnMut(&Accept) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        // Siblings to go on with, at most one for each level, so there is always
        // room; taking the remainder spares the hot path a check that cannot fail.
        let mut pending = [(NodeId::NONE, state); MAX_ATOMS];
        let mut count = 0;
        let mut id = self.root;
        loop {
            while id != NodeId::NONE {
                let node = store.node(id);
                id = node.next_sibling;
                let Some(behind) = enter(&node.test, state) else { continue };
                visit(&node.accept)?;
                if node.first_child == NodeId::NONE {
                    continue;
                }
                if id != NodeId::NONE {
                    pending[count % MAX_ATOMS] = (id, state);
                    count += 1;
                }
                (id, state) = (node.first_child, behind);
            }
            if count == 0 {
                return ControlFlow::Continue(());
            }
            count -= 1;
            (id, state) = pending[count % MAX_ATOMS];
        }
    }
}
