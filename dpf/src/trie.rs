//! All installed filters, merged.
//!
//! Filters that begin with the same tests share the nodes for them, so a frame
//! pays for a test once, however many filters ask for it. A filter is a path from
//! the root; it ends in a node that accepts for it. Tests behind a shift are relative
//! to it, so paths that share one share the shift, too. What nodes and groups are, and
//! where, is told in the module `storage`. These invariants hold:
//!
//! 1. a node, or group, at depth `d` lives in the block of a filter with a path through it,
//!    in the slot for `d`; so that slot of a block is vacant or holds what is at depth `d` of
//!    its own filter's path;
//! 2. every node accepts, or has a group; every group has a node: none is kept in vain;
//! 3. the groups of a node differ in their test, the nodes of a group in their value;
//! 4. a node's entry is the code of its acceptance, or else of its first group.
//!
//! Inserting fills own slots where no equal node or group exists. Removing must leave
//! the block unused at once, so that its memory can be taken back while filters that
//! share its nodes stay. What is shared moves into the block of another filter with a path
//! through it; by (1) the slot for its depth is vacant there. Both touch the path of the
//! filter and what is linked to it, and search the groups along it; how many other filters
//! there are makes no difference.
//!
//! New code is complete before anything leads to it: an insertion ends with one store
//! of a name in a hash chain or an entry in a node, or with new code for one group that is
//! in place. What was in place before is replaced by [`Store::write_code`] alone.

use crate::compile;
use crate::filter::{Filter, MAX_ATOMS};
use crate::runs::{Arrival, Order, settle};
use crate::siblings::{CHAIN, attach, detach, find_group, find_node, groups_of, move_node};
use crate::storage::{BlockId, CodeSlot, Group, GroupId, Node, NodeId, SLOTS, Store, Tag};

/// Why a filter was not installed or not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrieError {
    /// A filter that takes the same frames is already installed.
    Duplicate,
    /// The filter is not installed with this block.
    NotInstalled,
    /// Frames would have to try more tests at one place than they may.
    TooManyForks,
}

/// The groups and nodes of one filter by depth, as far as there are any.
type Path = [(GroupId, NodeId); MAX_ATOMS];

/// The merged filters. Nodes are in a [`Store`], the same in every call; several tries
/// may share one. A copy is the same trie until one of the two changes.
#[derive(Clone, Copy, Debug)]
pub struct Trie {
    /// The groups of the node before all tests.
    pub(crate) root: GroupId,
    /// Their code, or zero.
    entry: u64,
    /// Groups that are not the first of their node, over all nodes.
    forks: u32,
}

impl Default for Trie {
    fn default() -> Self {
        Self::new()
    }
}

impl Trie {
    /// No filters.
    pub const fn new() -> Self {
        Self { root: GroupId::NONE, entry: 0, forks: 0 }
    }

    /// Installs `filter` with the vacant block `block`; frames that match it, and no filter of
    /// higher `rank`, are reported as `tag`. A rank is not zero, and is best that of no other
    /// ([`Filter::rank`]).
    ///
    /// Errors: [`TrieError::Duplicate`], and [`TrieError::TooManyForks`] beyond
    /// [`Store::MOST_FORKS`]; then nothing has changed.
    /// **Cost**: bounded by [`MAX_ATOMS`] and the number of groups along the path.
    pub fn insert<S: Store>(
        &mut self,
        store: &mut S,
        filter: &Filter,
        block: BlockId,
        tag: Tag,
        rank: u64,
    ) -> Result<(), TrieError> {
        self.merge(store, filter, block, tag, rank)?;
        settle(store, self.root, filter, Order::FarFirst);
        Ok(())
    }

    /// The same without regard to where the length of a frame is asked: maybe more often
    /// than it must be, but on the old path as if it went on alone.
    fn merge<S: Store>(
        &mut self,
        store: &mut S,
        filter: &Filter,
        block: BlockId,
        tag: Tag,
        rank: u64,
    ) -> Result<(), TrieError> {
        let path = self.path(store, filter);
        let count = filter.tests().len();
        let known = path.iter().take_while(|(_, node)| *node != NodeId::NONE).count();
        let end = path.get(count.wrapping_sub(1)).map_or(NodeId::NONE, |&(_, node)| node);
        if known == count && (end == NodeId::NONE || store.node(end).rank != 0) {
            return Err(TrieError::Duplicate);
        }
        let accepting = Node { rank, tag, owner: block, ..Node::VACANT };
        if known == count {
            let node = store.node_mut(end);
            (node.rank, node.tag, node.owner) = (rank, tag, block);
            self.enter(store, &path, count);
            return Ok(());
        }
        let forks = known < count
            && path.get(known).is_some_and(|step| step.0 == GroupId::NONE)
            && groups_of(store, self.root, parent(&path, known)) != GroupId::NONE;
        if forks && self.forks >= S::MOST_FORKS {
            return Err(TrieError::TooManyForks);
        }
        // The first depth with a new group.
        let new = known + path.get(known).map_or(0, |step| usize::from(step.0 != GroupId::NONE));
        // From the end, so that what leads to something finds it finished.
        let mut below = GroupId::NONE;
        for (depth, test) in filter.tests().enumerate().skip(known).rev() {
            let (shape, value) = test.shape();
            let id = block.node(depth);
            let node = if depth + 1 == count { accepting } else { Node::VACANT };
            *store.node_mut(id) = Node { value, groups: below, ..node };
            enter_node(store, id, depth);
            let Some((group, _)) = path.get(depth).copied() else { break };
            if group != GroupId::NONE {
                attach(store, group, id);
                if store.group(group).count <= CHAIN + 1 {
                    compile::group(store, group, depth);
                    compile::before(store, group, depth);
                }
                return Ok(());
            }
            let group = block.group(depth);
            let parent = parent(&path, depth);
            let next =
                if depth == known { groups_of(store, self.root, parent) } else { GroupId::NONE };
            *store.group_mut(group) = Group::new(shape, block, next);
            if store.group(group).is_hashed() {
                store.group_mut(group).salt = store.salt();
            }
            attach(store, group, id);
            store.group_mut(group).length =
                Arrival::on_new_path(filter, new, depth, group).to_ask(store, group);
            compile::group(store, group, depth);
            below = group;
            if depth == known {
                self.forks += u32::from(next != GroupId::NONE);
                self.join_groups(store, parent, (GroupId::NONE, group), (next, group));
                self.enter(store, &path, depth);
            }
        }
        Ok(())
    }

    /// Removes `filter`, installed with `block`. Afterwards nothing refers to
    /// `block` and its memory can be used for something else.
    ///
    /// Errors: [`TrieError::NotInstalled`], and then nothing has changed.
    /// **Cost**: as for [`Trie::insert`].
    pub fn remove<S: Store>(
        &mut self,
        store: &mut S,
        filter: &Filter,
        block: BlockId,
    ) -> Result<(), TrieError> {
        let path = self.path(store, filter);
        let count = filter.tests().len();
        let end = path.get(count.wrapping_sub(1)).map_or(NodeId::NONE, |&(_, node)| node);
        if end == NodeId::NONE || store.node(end).rank == 0 || store.node(end).owner != block {
            return Err(TrieError::NotInstalled);
        }
        store.node_mut(end).rank = 0;
        // From the end, so that what hangs below a node is settled when it is its
        // turn, and what is above it is still where `path` found it.
        for (depth, &(group, id)) in path.iter().enumerate().take(count).rev() {
            let node = *store.node(id);
            let mut changed = true;
            if node.rank == 0 && node.groups == GroupId::NONE {
                detach(store, group, id);
                if store.group(group).count <= CHAIN {
                    compile::before(store, group, depth);
                }
            } else {
                changed = enter_node(store, id, depth);
                if id == block.node(depth) {
                    let heir = user_of(store, id).node(depth);
                    move_node(store, group, id, heir);
                }
            }
            let it = *store.group(group);
            let parent = parent(&path, depth);
            if it.first == NodeId::NONE {
                self.forks -= u32::from((it.previous, it.next) != (GroupId::NONE, GroupId::NONE));
                self.join_groups(store, parent, (it.previous, it.next), (it.next, it.previous));
                recompile(store, it.previous, depth);
            } else if group == block.group(depth) {
                let block = user_of(store, it.first);
                let heir = block.group(depth);
                *store.group_mut(heir) = Group { block, ..it };
                compile::group(store, heir, depth);
                self.join_groups(store, parent, (it.previous, heir), (it.next, heir));
                recompile(store, it.previous, depth);
            } else if changed && it.count <= CHAIN {
                compile::group(store, group, depth);
            }
        }
        settle(store, self.root, filter, Order::NearFirst);
        Ok(())
    }

    /// Where the code for this trie starts; `None` if there are no filters. It is a function, see the module `compile`, until the next change.
    #[inline]
    pub fn entry(&self) -> Option<u64> {
        (self.entry != 0).then_some(self.entry)
    }

    /// How many groups there are beside the first of each node.
    ///
    /// A frame tries all groups of a node, and of each gets to one node at most. So it gets to
    /// no more than one end for each of these and one more, each after at most
    /// [`MAX_ATOMS`] tests.
    #[inline]
    pub fn forks(&self) -> u32 {
        self.forks
    }

    /// The path of `filter`, as far as its groups and nodes exist.
    fn path<S: Store>(&self, store: &S, filter: &Filter) -> Path {
        let mut path = [(GroupId::NONE, NodeId::NONE); MAX_ATOMS];
        let mut groups = self.root;
        for (step, test) in path.iter_mut().zip(filter.tests()) {
            let (shape, value) = test.shape();
            step.0 = find_group(store, groups, &shape);
            if step.0 == GroupId::NONE {
                break;
            }
            step.1 = find_node(store, store.group(step.0), value);
            if step.1 == NodeId::NONE {
                break;
            }
            groups = store.node(step.1).groups;
        }
        path
    }

    /// Renews the entry of the last node of the first `depth` steps of a path.
    fn enter<S: Store>(&self, store: &mut S, path: &Path, depth: usize) {
        let Some(&(group, node)) = depth.checked_sub(1).and_then(|last| path.get(last)) else {
            return;
        };
        if enter_node(store, node, depth - 1) && store.group(group).count <= CHAIN {
            compile::group(store, group, depth - 1);
        }
    }

    /// Links the left group and the right one to what follows them on the other side.
    fn join_groups<S: Store>(
        &mut self,
        store: &mut S,
        parent: NodeId,
        (left, right_of_left): (GroupId, GroupId),
        (right, left_of_right): (GroupId, GroupId),
    ) {
        if left != GroupId::NONE {
            store.group_mut(left).next = right_of_left;
        } else if parent == NodeId::NONE {
            self.root = right_of_left;
            self.entry = group_code(store, self.root, 0).unwrap_or(0);
        } else {
            store.node_mut(parent).groups = right_of_left;
        }
        if right != GroupId::NONE {
            store.group_mut(right).previous = left_of_right;
        }
    }
}

/// The node above the group at `depth`, or [`NodeId::NONE`] for the root.
fn parent(path: &Path, depth: usize) -> NodeId {
    depth.checked_sub(1).and_then(|above| path.get(above)).map_or(NodeId::NONE, |step| step.1)
}

/// Makes code for a group, if there is one, since its successor has changed.
fn recompile<S: Store>(store: &mut S, group: GroupId, depth: usize) {
    if group != GroupId::NONE {
        compile::group(store, group, depth);
    }
}

/// Renews the entry of a node at `depth`: whether it has changed.
fn enter_node<S: Store>(store: &mut S, id: NodeId, depth: usize) -> bool {
    let node = *store.node(id);
    let groups = group_code(store, node.groups, depth + 1);
    let slot = CodeSlot { block: node.owner, index: SLOTS - 1 };
    let entry = if node.rank == 0 {
        groups.unwrap_or(0)
    } else {
        let address = store.code_address(slot);
        let code = compile::acceptance(node.rank, node.tag, address, groups);
        store.write_code(slot, code.bytes());
        address
    };
    store.node_mut(id).entry = entry;
    node.entry != entry
}

/// Where the code of a group at `depth` is, if there is the group.
pub(crate) fn group_code<S: Store>(store: &S, id: GroupId, depth: usize) -> Option<u64> {
    if id == GroupId::NONE {
        return None;
    }
    Some(store.code_address(CodeSlot { block: store.group(id).block, index: depth }))
}

/// The block of a filter with a path through the node. By invariant 2 each step leads
/// closer to one that accepts, after at most [`MAX_ATOMS`].
fn user_of<S: Store>(store: &S, id: NodeId) -> BlockId {
    let mut node = store.node(id);
    while node.rank == 0 {
        node = store.node(store.group(node.groups).first);
    }
    node.owner
}
