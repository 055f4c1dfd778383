//! This system's merged filters.

use anyhow::{Context, Result};
use dpf::{BlockId, Filter, MAX_ATOMS, Node, NodeId, Store, Tag, Trie};

use super::{Bytes, Contender, Task};

struct Blocks {
    nodes: Vec<Node>,
}

impl Store for Blocks {
    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index() as usize]
    }
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index() as usize]
    }
    fn filter(&self, _block: BlockId) -> &Filter {
        unreachable!("nothing here looks for overlaps")
    }
}

pub(super) struct Merged<const COMPILED: bool> {
    known: Vec<Filter>,
    store: Blocks,
    trie: Trie,
    installed: u32,
}

impl<const COMPILED: bool> Merged<COMPILED> {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Vec<_> =
            task.predicates.iter().map(|predicate| predicate.filter()).collect::<Result<_>>()?;
        let nodes = vec![Node::VACANT; known.len() * MAX_ATOMS];
        let mut it = Self { known, store: Blocks { nodes }, trie: Trie::new(), installed: 0 };
        (0..task.installed).try_for_each(|tag| it.insert(tag))?;
        Ok(it)
    }
}

impl<const COMPILED: bool> Contender for Merged<COMPILED> {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        self.trie.classify(&self.store, frame).map(|tag| tag.0)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let filter = self.known.get(tag as usize).context("no such filter")?;
        let block = BlockId::new(tag).context("too many")?;
        self.trie
            .insert(&mut self.store, filter, block, Tag(tag))
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        self.installed += 1;
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        let filter = self.known.get(tag as usize).context("no such filter")?;
        let block = BlockId::new(tag).context("too many")?;
        self.trie
            .remove(&mut self.store, filter, block)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        self.installed -= 1;
        Ok(())
    }

    fn bytes(&self) -> Bytes {
        let data = u64::from(self.installed) * (MAX_ATOMS * size_of::<Node>()) as u64;
        Bytes { code: 0, data }
    }
}
