//! The index: from a key to its item.
//!
//! A table of chain heads, the chains threaded through the items themselves. It
//! needs four bytes a head and four an item, cannot overflow, and never has to be
//! rebuilt: the number of heads is chosen once, from the memory. With about one item a head, a
//! hit looks at 1.5 items; a foreign one is told by its key, which lies beside the link.
//!
//! New items go to the front of their chain: what was just stored is likely to be
//! read.

use super::item::{Heap, ItemRef};
use super::key::Key;

/// The table of chain heads.
pub(super) struct Index<'m> {
    /// Item references in little-endian bytes.
    heads: &'m mut [[u8; 4]],
}

impl<'m> Index<'m> {
    /// An empty index. There must be at least one head.
    pub(super) fn new(heads: &'m mut [[u8; 4]]) -> Self {
        heads.fill([0; 4]);
        Self { heads }
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        self.heads.len() * 4
    }

    /// The item with this key, if there is one.
    #[inline(always)]
    pub(super) fn find(&self, heap: &Heap<'_>, hash: u32, key: Key<'_>) -> Option<ItemRef> {
        let mut link = self.head(hash);
        while let Some(item) = link {
            let look = heap.look(item);
            if look.has(key) {
                return link;
            }
            link = look.next();
        }
        None
    }

    /// Puts an item, whose key has this hash and is not in the index, at the front of its
    /// chain.
    #[inline(always)]
    pub(super) fn link(&mut self, heap: &mut Heap<'_>, hash: u32, item: ItemRef) {
        heap.set_next(item, self.head(hash));
        self.set_head(hash, Some(item));
    }

    /// Takes an item, whose key has this hash, out of its chain. It must be in the index.
    pub(super) fn unlink(&mut self, heap: &mut Heap<'_>, hash: u32, item: ItemRef) {
        let (next, _) = heap.link(item);
        let mut link = self.head(hash);
        if link == Some(item) {
            return self.set_head(hash, next);
        }
        while let Some(before) = link {
            link = heap.link(before).0;
            if link == Some(item) {
                return heap.set_next(before, next);
            }
        }
        debug_assert!(false, "the item is in its chain");
    }

    /// The item at `from` is now at `to`, header and all.
    pub(super) fn relink(&mut self, heap: &mut Heap<'_>, hash: u32, from: ItemRef, to: ItemRef) {
        let mut link = self.head(hash);
        if link == Some(from) {
            return self.set_head(hash, Some(to));
        }
        while let Some(before) = link {
            link = heap.link(before).0;
            if link == Some(from) {
                return heap.set_next(before, Some(to));
            }
        }
        debug_assert!(false, "the item is in its chain");
    }

    /// How many chains there are.
    pub(super) fn chains(&self) -> u64 {
        self.heads.len() as u64
    }

    /// The items of the chain with this number.
    pub(super) fn chain<'h>(
        &self,
        heap: &'h Heap<'_>,
        number: usize,
    ) -> impl Iterator<Item = ItemRef> + 'h {
        let head =
            self.heads.get(number).and_then(|head| ItemRef::from_raw(u32::from_le_bytes(*head)));
        core::iter::successors(head, |&item| heap.link(item).0)
    }

    /// Items in all chains.
    #[cfg(test)]
    pub(super) fn count(&self, heap: &Heap<'_>) -> u64 {
        let chains = (0..self.heads.len()).flat_map(|number| self.chain(heap, number));
        chains.count() as u64
    }

    #[inline(always)]
    fn head(&self, hash: u32) -> Option<ItemRef> {
        ItemRef::from_raw(u32::from_le_bytes(self.heads[self.place(hash)]))
    }

    fn set_head(&mut self, hash: u32, item: Option<ItemRef>) {
        let place = self.place(hash);
        self.heads[place] = ItemRef::raw(item).to_le_bytes();
    }

    #[inline(always)]
    fn place(&self, hash: u32) -> usize {
        // As many of the hashes for each head, however many there are.
        ((u64::from(hash) * self.heads.len() as u64) >> 32) as usize
    }
}
