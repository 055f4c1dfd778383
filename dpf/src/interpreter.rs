//! What a filter means, and the walk a received frame takes through all of them.
//!
//! Place on the packet path: step 2, classify. What may lie: every byte of the
//! frame, and its length.
//!
//! A test of pinned bits is one comparison with the frame's length, one 64-bit load,
//! one mask and one comparison; a group with many values is one look-up. The module
//! `compile` makes code that does the same; what is here says what it must do.

use crate::language::{Filter, MAX_ATOMS, MIN_FRAME};
use crate::siblings::find_node;
use crate::storage::{Group, GroupId, Node, NodeId, Store, Tag};
use crate::test::{Field, Test, WINDOW, ones};
use crate::trie::Trie;

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
            Self::Shift { field, scale, lo, hi } => {
                let value = field.load(frame, base)? as u8;
                (lo..=hi).contains(&value).then(|| base + (u16::from(value) << scale))
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
    /// Most specific is the filter that pins most bits; of those that pin as many, the oldest
    /// (see the module `rank`).
    /// The generated code gives the same answer.
    /// **Trust**: the frame may be hostile. **Cost**: that of every group of every node
    /// that is reached; how many nodes a group has makes no difference.
    #[inline]
    pub fn classify<S: Store>(&self, store: &S, frame: &[u8]) -> Option<Tag> {
        if frame.len() < MIN_FRAME {
            return None;
        }
        let mut best = (0, None);
        // Groups to go on with, at most one for each level, so there is always
        // room; taking the remainder spares the hot path a check that cannot fail.
        const ROOM: usize = MAX_ATOMS.next_power_of_two();
        let (mut groups, mut bases) = ([GroupId::NONE; ROOM], [0; ROOM]);
        let mut count = 0;
        let (mut id, mut base) = (self.root, 0);
        loop {
            while id != GroupId::NONE {
                let group = store.group(id);
                id = group.next;
                let Some((node, behind)) = group.step(store, frame, base) else { continue };
                if node.rank > best.0 {
                    best = (node.rank, Some(node.tag));
                }
                if node.groups == GroupId::NONE {
                    continue;
                }
                if id != GroupId::NONE {
                    (groups[count % ROOM], bases[count % ROOM]) = (id, base);
                    count += 1;
                }
                (id, base) = (node.groups, behind);
            }
            if count == 0 {
                return best.1;
            }
            count -= 1;
            (id, base) = (groups[count % ROOM], bases[count % ROOM]);
        }
    }
}

impl Group {
    /// The node to which `frame` leads at `base`, and the base behind it.
    #[inline]
    fn step<'s, S: Store>(&self, store: &'s S, frame: &[u8], base: u16) -> Option<(&'s Node, u16)> {
        let (id, behind) = match self.test {
            Test::Bits { at, mask, .. } => {
                let window = u64::from_le_bytes(window(frame, base, at)?);
                (find_node(store, self, window & mask), base)
            }
            test => (self.first, test.pass_field(frame, base)?),
        };
        (id != NodeId::NONE).then(|| (store.node(id), behind))
    }
}
