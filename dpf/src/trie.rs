//! All installed filters, merged, in storage their owners brought.
//!
//! Filters that begin with the same tests share the nodes for them, so a frame
//! pays for a test once, however many filters ask for it. A filter is a path from
//! the root; it ends in a node that accepts for it. Tests behind a shift are relative
//! to it, so paths that share one share the shift, too.
//!
//! There is no pool of nodes that somebody could exhaust. Whoever installs a
//! filter brings a block of [`MAX_ATOMS`] slots, one for each depth, and these
//! invariants hold:
//!
//! 1. a node lives in the block of a filter whose path it is on;
//! 2. the slot of a block at depth `d` is vacant or holds the node at depth `d`
//!    of the path of that block's filter;
//! 3. every node accepts, or has a child: none is kept in vain;
//! 4. siblings are sorted by their tests and differ, so the shape of the trie
//!    follows from the set of filters alone, not from their history.
//!
//! Inserting fills own slots where no equal node exists. Removing must leave the
//! block unused at once, so that its memory can be taken back while filters that
//! share its nodes stay. A shared node moves into the block of another filter on
//! whose path it is; by (2) and (1) the slot for its depth is vacant there. Both
//! touch only the changed path and the siblings along it.
//!
//! A hash over siblings that differ only in their value would go into
//! [`Trie::seek`] and the walk.

use crate::error::errors;
use crate::language::{Filter, MAX_ATOMS};
use crate::test::Test;

/// Names the storage that one installed filter brought: slots for [`MAX_ATOMS`] nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockId(u32);

impl BlockId {
    /// Blocks are numbered below this.
    pub const LIMIT: u32 = u32::MAX / MAX_ATOMS as u32;

    /// Block number `index`, or `None` from [`BlockId::LIMIT`] on.
    pub const fn new(index: u32) -> Option<Self> {
        if index < Self::LIMIT { Some(Self(index)) } else { None }
    }

    /// The number given to [`BlockId::new`].
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Slot `depth`, below [`MAX_ATOMS`], of this block.
    pub(crate) fn slot(self, depth: usize) -> NodeId {
        NodeId(self.0 * MAX_ATOMS as u32 + depth as u32)
    }
}

/// Names one slot of one block, and the node in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

impl NodeId {
    /// No node. A [`Store`] is never asked for it.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// [`MAX_ATOMS`] times the block's index, plus the slot.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0
    }

    /// The block.
    #[inline]
    pub const fn block(self) -> BlockId {
        BlockId(self.0 / MAX_ATOMS as u32)
    }

    /// The slot in the block, below [`MAX_ATOMS`]. Also the node's depth in the trie.
    #[inline]
    pub const fn slot(self) -> usize {
        self.0 as usize % MAX_ATOMS
    }
}

/// What the caller wants to hear when a frame matches; this crate gives it no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

/// Where a filter ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    /// [`Filter::rank`], or zero if no filter ends here.
    pub(crate) rank: u64,
    pub(crate) tag: Tag,
    /// The filter's own block, which need not be the one that holds this node.
    pub(crate) block: BlockId,
}

impl Accept {
    pub(crate) const NONE: Self = Self { rank: 0, tag: Tag(0), block: BlockId(0) };

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.rank != 0
    }
}

/// One test of the merged filters, in a cache line of its own. Only [`Trie`]
/// reads or changes it.
#[repr(align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub(crate) test: Test,
    pub(crate) first_child: NodeId,
    pub(crate) next_sibling: NodeId,
    pub(crate) accept: Accept,
}

impl Node {
    /// For initialising a block. What a vacant slot holds does not matter.
    pub const VACANT: Self = Self {
        test: Test::VACANT,
        first_child: NodeId::NONE,
        next_sibling: NodeId::NONE,
        accept: Accept::NONE,
    };
}

/// Finds nodes in the blocks of the installed filters.
///
/// The trie asks only for slots of blocks that are installed, or are being
/// installed by the call under way. [`Store::node`] is on the packet path: it is
/// cheapest if the index of a node is its place in one linear map of memory, 64
/// bytes each, that is, if a block's number is its address divided by 1024.
/// **Trust**: whoever implements this; nobody else may write to the blocks.
pub trait Store {
    /// The node in slot `id`.
    fn node(&self, id: NodeId) -> &Node;
    /// The same, to change it.
    fn node_mut(&mut self, id: NodeId) -> &mut Node;
    /// The filter that is installed with `block`. Not on the packet path.
    fn filter(&self, block: BlockId) -> &Filter;
}

errors! {
    /// Why a filter was not installed or not removed. The numbers are part of the
    /// binary interface.
    pub enum TrieError {
        Duplicate = 1: "a filter that takes the same frames is already installed",
        NotInstalled = 2: "the filter is not installed with this block",
    }
}

/// Where the name of a node is written.
#[derive(Clone, Copy)]
enum Link {
    Root,
    FirstChild(NodeId),
    NextSibling(NodeId),
}

/// The nodes of one filter by depth, and where each is linked.
type Path = [(Link, NodeId); MAX_ATOMS];

/// The merged filters. Its nodes are in a [`Store`], the same in every call.
#[derive(Debug)]
pub struct Trie {
    pub(crate) root: NodeId,
}

impl Default for Trie {
    fn default() -> Self {
        Self::new()
    }
}

impl Trie {
    /// No filters.
    pub const fn new() -> Self {
        Self { root: NodeId::NONE }
    }

    /// Installs `filter` with the vacant block `block`; frames that match it are
    /// reported as `tag`.
    ///
    /// Whether the filter may overlap with others is the caller's question, see
    /// [`Trie::find_overlap`] and [`conflict`](crate::conflict). Errors: [`TrieError::Duplicate`], and then nothing
    /// has changed.
    /// **Cost**: bounded by [`MAX_ATOMS`] times the number of installed filters.
    pub fn insert<S: Store>(
        &mut self,
        store: &mut S,
        filter: &Filter,
        block: BlockId,
        tag: Tag,
    ) -> Result<(), TrieError> {
        let mut link = Link::Root;
        let mut last = NodeId::NONE;
        for (depth, test) in filter.tests().enumerate() {
            let (at, next_sibling) = self.seek(store, link, test);
            last = next_sibling;
            if !has_test(store, last, test) {
                last = block.slot(depth);
                *store.node_mut(last) = Node { test: *test, next_sibling, ..Node::VACANT };
                self.point(store, at, last);
            }
            link = Link::FirstChild(last);
        }
        // If a filter ends here, the whole path was there and nothing was written.
        let accept = &mut store.node_mut(last).accept;
        if accept.is_some() {
            return Err(TrieError::Duplicate);
        }
        *accept = Accept { rank: filter.rank(), tag, block };
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
        let path = self.path(store, filter, block).ok_or(TrieError::NotInstalled)?;
        let path = path.iter().take(filter.tests().len()).rev();
        if let Some(&(_, last)) = path.clone().next() {
            store.node_mut(last).accept = Accept::NONE;
        }
        // From the end, so that what hangs below a node is settled when it is its
        // turn, and the links above it are still as `path` found them.
        for &(link, id) in path {
            let node = *store.node(id);
            if !node.accept.is_some() && node.first_child == NodeId::NONE {
                self.point(store, link, node.next_sibling);
            } else if id.block() == block {
                let heir = user_of(store, node).slot(id.slot());
                *store.node_mut(heir) = node;
                self.point(store, link, heir);
            }
        }
        Ok(())
    }

    /// The path of `filter`, or `None` if it is not installed with `block`.
    fn path<S: Store>(&self, store: &S, filter: &Filter, block: BlockId) -> Option<Path> {
        let mut path = [(Link::Root, NodeId::NONE); MAX_ATOMS];
        let mut link = Link::Root;
        let mut accept = Accept::NONE;
        for (step, test) in path.iter_mut().zip(filter.tests()) {
            let (at, id) = self.seek(store, link, test);
            if !has_test(store, id, test) {
                return None;
            }
            accept = store.node(id).accept;
            *step = (at, id);
            link = Link::FirstChild(id);
        }
        (accept.is_some() && accept.block == block).then_some(path)
    }

    /// Along the siblings from `link` to where `test` is or would be: the link, and
    /// what it names.
    fn seek<S: Store>(&self, store: &S, mut link: Link, test: &Test) -> (Link, NodeId) {
        loop {
            let id = self.follow(store, link);
            if id == NodeId::NONE || store.node(id).test >= *test {
                return (link, id);
            }
            link = Link::NextSibling(id);
        }
    }

    fn follow<S: Store>(&self, store: &S, link: Link) -> NodeId {
        match link {
            Link::Root => self.root,
            Link::FirstChild(parent) => store.node(parent).first_child,
            Link::NextSibling(sibling) => store.node(sibling).next_sibling,
        }
    }

    fn point<S: Store>(&mut self, store: &mut S, link: Link, to: NodeId) {
        match link {
            Link::Root => self.root = to,
            Link::FirstChild(parent) => store.node_mut(parent).first_child = to,
            Link::NextSibling(sibling) => store.node_mut(sibling).next_sibling = to,
        }
    }
}

fn has_test<S: Store>(store: &S, id: NodeId, test: &Test) -> bool {
    id != NodeId::NONE && store.node(id).test == *test
}

/// The block of a filter on whose path `node` is. By invariant 3 each step leads
/// closer to one that accepts, after at most [`MAX_ATOMS`].
fn user_of<S: Store>(store: &S, mut node: Node) -> BlockId {
    while !node.accept.is_some() {
        node = *store.node(node.first_child);
    }
    node.accept.block
}
