//! The nodes of one group, and the groups of one node: finding, linking, moving.
//!
//! All of it takes the same time however many siblings there are, except that a node's
//! groups are searched one by one, as a packet does.

use crate::storage::{Group, GroupId, NodeId, Store};
use crate::test::Test;

/// A group with more nodes than this is searched through the hash table.
pub(crate) const CHAIN: u32 = 4;

impl Test {
    /// The test of the group it belongs to, and its value there.
    pub(crate) fn shape(self) -> (Self, u64) {
        match self {
            Self::Bits { at, mask, value } => (Self::Bits { at, mask, value: 0 }, value),
            other => (other, 0),
        }
    }
}

/// The group with test `shape` among those from `id` on, or [`GroupId::NONE`].
pub(crate) fn find_group<S: Store>(store: &S, mut id: GroupId, shape: &Test) -> GroupId {
    while id != GroupId::NONE && store.group(id).test != *shape {
        id = store.group(id).next;
    }
    id
}

/// The group's node with this value, or [`NodeId::NONE`].
#[inline]
pub(crate) fn find_node<S: Store>(store: &S, group: &Group, value: u64) -> NodeId {
    if !group.is_hashed() {
        return group.first;
    }
    if group.count <= CHAIN {
        let mut id = group.first;
        while id != NodeId::NONE && store.node(id).value != value {
            id = store.node(id).next;
        }
        return id;
    }
    find_hashed(store, group, value)
}

/// The same through the table. Apart, so that what is on the way of every packet stays small.
#[inline(never)]
fn find_hashed<S: Store>(store: &S, group: &Group, value: u64) -> NodeId {
    let mut id = store.bucket(group.bucket(value, store.buckets().bits));
    while id != NodeId::NONE {
        let node = store.node(id);
        if node.value == value && node.salt == group.salt {
            break;
        }
        id = node.next_in_bucket;
    }
    id
}

/// Makes a node one of the group's.
pub(crate) fn attach<S: Store>(store: &mut S, group: GroupId, id: NodeId) {
    let it = store.group_mut(group);
    let (hashed, salt, next) = (it.is_hashed(), it.salt, it.first);
    it.first = id;
    it.count += 1;
    let it = *it;
    let bucket = it.bucket(store.node(id).value, store.buckets().bits);
    let next_in_bucket = if hashed { store.bucket(bucket) } else { NodeId::NONE };
    let node = store.node_mut(id);
    (node.salt, node.next, node.next_in_bucket) = (salt, next, next_in_bucket);
    (node.previous, node.previous_in_bucket) = (NodeId::NONE, NodeId::NONE);
    if next != NodeId::NONE {
        store.node_mut(next).previous = id;
    }
    if next_in_bucket != NodeId::NONE {
        store.node_mut(next_in_bucket).previous_in_bucket = id;
    }
    if hashed {
        store.set_bucket(bucket, id);
    }
}

/// Takes a node out of its group.
pub(crate) fn detach<S: Store>(store: &mut S, group: GroupId, id: NodeId) {
    let node = *store.node(id);
    store.group_mut(group).count -= 1;
    join_nodes(store, group, (node.previous, node.next), (node.next, node.previous));
    let after = (node.next_in_bucket, node.previous_in_bucket);
    join_bucket(store, group, id, (node.previous_in_bucket, node.next_in_bucket), after);
}

/// Moves a node of the group to another slot.
pub(crate) fn move_node<S: Store>(store: &mut S, group: GroupId, from: NodeId, to: NodeId) {
    let node = *store.node(from);
    *store.node_mut(to) = node;
    join_nodes(store, group, (node.previous, to), (node.next, to));
    let after = (node.next_in_bucket, to);
    join_bucket(store, group, from, (node.previous_in_bucket, to), after);
}

/// Links the left sibling and the right one to what follows them on the other side.
fn join_nodes<S: Store>(
    store: &mut S,
    group: GroupId,
    (left, right_of_left): (NodeId, NodeId),
    (right, left_of_right): (NodeId, NodeId),
) {
    if left == NodeId::NONE {
        store.group_mut(group).first = right_of_left;
    } else {
        store.node_mut(left).next = right_of_left;
    }
    if right != NodeId::NONE {
        store.node_mut(right).previous = left_of_right;
    }
}

/// The same for the chain of the bucket that `id` is in, if its group is hashed.
fn join_bucket<S: Store>(
    store: &mut S,
    group: GroupId,
    id: NodeId,
    (left, right_of_left): (NodeId, NodeId),
    (right, left_of_right): (NodeId, NodeId),
) {
    if !store.group(group).is_hashed() {
        return;
    }
    if left == NodeId::NONE {
        let bits = store.buckets().bits;
        let bucket = store.group(group).bucket(store.node(id).value, bits);
        store.set_bucket(bucket, right_of_left);
    } else {
        store.node_mut(left).next_in_bucket = right_of_left;
    }
    if right != NodeId::NONE {
        store.node_mut(right).previous_in_bucket = left_of_right;
    }
}

/// The groups that lead on from `parent`, which is [`NodeId::NONE`] for the root.
#[inline]
pub(crate) fn groups_of<S: Store>(store: &S, root: GroupId, parent: NodeId) -> GroupId {
    if parent == NodeId::NONE { root } else { store.node(parent).groups }
}
