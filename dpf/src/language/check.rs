//! The invariants of the merged filters, gone through one by one.
//!
use crate::filter::{Filter, MAX_ATOMS};
use crate::runs::Arrival;
use crate::siblings::{find_group, find_node};
use crate::storage::{BlockId, CodeSlot, GroupId, NodeId, PLACE, SLOTS, Salt, Store, UNIT};
use crate::test::Test;
use crate::trie::{Trie, group_code};

/// A store that remembers what is installed.
pub trait Inspect: Store {
    /// The filter that is installed with `block`.
    fn filter(&self, block: BlockId) -> Filter;
}

/// What is wrong, or how many filters end below.
type Check<T> = Result<T, &'static str>;

fn require(holds: bool, otherwise: &'static str) -> Check<()> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// The tests that lead to a place.
struct Prefix {
    tests: [Test; MAX_ATOMS],
    depth: usize,
}

impl Trie {
    /// Checks the invariants of the modules `trie` and `storage`; answers how many
    /// filters are installed, or what does not hold.
    pub fn check<S: Inspect>(&self, store: &S) -> Result<usize, &'static str> {
        let mut prefix = Prefix { tests: [Test::VACANT; MAX_ATOMS], depth: 0 };
        require(self.entry() == group_code(store, self.root, 0), "the trie's entry is its code")?;
        let mut forks = 0;
        let filters = groups(store, self.root, &mut prefix, Arrival::ROOT, &mut forks)?;
        require(forks == self.forks(), "forks are counted")?;
        Ok(filters)
    }
}

fn groups<S: Inspect>(
    store: &S,
    first: GroupId,
    prefix: &mut Prefix,
    arrival: Arrival,
    forks: &mut u32,
) -> Check<usize> {
    let (mut id, mut previous, mut filters) = (first, GroupId::NONE, 0);
    while id != GroupId::NONE {
        *forks += u32::from(id != first);
        let group = store.group(id);
        require(prefix.depth < MAX_ATOMS, "no path is longer than a filter")?;
        require(id == group.block.group(prefix.depth), "a group is in the slot of its depth")?;
        require(group.previous == previous, "groups are linked both ways")?;
        require(find_group(store, first, &group.test) == id, "groups differ in their test")?;
        require(group.first != NodeId::NONE, "every group has a node")?;
        require((group.salt != Salt::NONE) == group.is_hashed(), "pinned bits have a salt")?;
        require(group.is_hashed() || group.count == 1, "other tests have one node")?;
        let home = store.filter(group.block);
        require(group.length == arrival.to_ask(store, id), "lengths are asked once for each run")?;
        filters += nodes(store, id, prefix, arrival.behind(store, group), forks)?;
        let mut own = home.tests();
        let on_path = prefix.tests.iter().take(prefix.depth).all(|test| own.next() == Some(test));
        let shape = own.next().map(|test| test.shape().0);
        require(on_path && shape == Some(group.test), "a group is in the block of a user")?;
        (previous, id) = (id, group.next);
    }
    Ok(filters)
}

fn nodes<S: Inspect>(
    store: &S,
    group_id: GroupId,
    prefix: &mut Prefix,
    behind: Arrival,
    forks: &mut u32,
) -> Check<usize> {
    let group = store.group(group_id);
    let (mut id, mut previous, mut count, mut filters) = (group.first, NodeId::NONE, 0, 0);
    let depth = prefix.depth;
    while id != NodeId::NONE {
        let node = store.node(id);
        count += 1;
        require(node.previous == previous, "nodes are linked both ways")?;
        require(node.salt == group.salt, "nodes have the salt of their group")?;
        require(find_node(store, group, node.value) == id, "nodes differ in their value")?;
        if group.is_hashed() {
            let number = group.bucket(node.value, store.buckets().bits);
            let mut other = store.bucket(number);
            let mut before = NodeId::NONE;
            while other != id {
                require(other != NodeId::NONE, "a node is in its bucket")?;
                (before, other) = (other, store.node(other).next_in_bucket);
            }
            require(node.previous_in_bucket == before, "buckets are linked both ways")?;
        }
        let slot = prefix.tests.get_mut(depth).ok_or("no path is longer than a filter")?;
        *slot = group.test.with_value(node.value);
        prefix.depth = depth + 1;
        let path = || prefix.tests.iter().take(depth + 1);
        let below = group_code(store, node.groups, depth + 1);
        let mut entry = below;
        if node.rank != 0 {
            filters += 1;
            let filter = store.filter(node.owner);
            require(filter.tests().eq(path()), "a node accepts for a filter that ends there")?;
            entry = Some(store.code_address(CodeSlot { block: node.owner, index: SLOTS - 1 }));
        } else {
            require(node.groups != GroupId::NONE, "every node accepts or has a group")?;
        }
        require(node.entry == entry.unwrap_or(0), "entries are where code is")?;
        let home = BlockId::of_node(id, depth).ok_or("a node is in a block")?;
        let home = store.filter(home);
        require(home.tests().take(depth + 1).eq(path()), "a node is in the block of a user")?;
        filters += groups(store, node.groups, prefix, behind, forks)?;
        prefix.depth = depth;
        (previous, id) = (id, node.next);
    }
    require(count == group.count, "groups know how many nodes they have")?;
    Ok(filters)
}

impl Test {
    /// The test of the group's node with this value.
    pub(crate) fn with_value(mut self, given: u64) -> Self {
        if let Self::Bits { value, .. } = &mut self {
            *value = given;
        }
        self
    }
}

impl BlockId {
    /// The block that has this node at this depth.
    fn of_node(node: NodeId, depth: usize) -> Option<Self> {
        node.index().checked_sub((depth * PLACE / UNIT) as u32).and_then(Self::new)
    }
}
