//! The walk that a frame takes through merged filters, interpreted.
//!
//! The kernel runs the code that the module `compile` makes, and not this; what is here says
//! what that code must do, for tests and measurements.

use crate::filter::{MAX_ATOMS, MIN_FRAME, window};
use crate::siblings::find_node;
use crate::storage::{Group, GroupId, Node, NodeId, Store, Tag};
use crate::test::Test;
use crate::trie::Trie;

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
            test => (self.first, test.pass(frame, base)?),
        };
        (id != NodeId::NONE).then(|| (store.node(id), behind))
    }
}
