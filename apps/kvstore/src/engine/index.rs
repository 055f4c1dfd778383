//! The index: from a key to its item.
//!
//! A table of chain heads, the chains threaded through the items themselves. It
//! needs four bytes a head and four an item, cannot overflow, and never has to be
//! rebuilt: the number of heads is chosen once, from the memory. Every item keeps
//! its 32-bit hash, so that a foreign item in the chain is passed over without
//! looking at its key. With about one item a head, a hit looks at 1.5 items.
//!
//! New items go to the front of their chain: what was just stored is likely to be
//! read.

use super::item::{Heap, ItemRef};
use super::key::Key;

/// The table of chain heads.
pub(super) struct Index<'m> {
    /// Item references in little-endian bytes. The length is a power of two.
    heads: &'m mut [[u8; 4]],
}

impl<'m> Index<'m> {
    /// An empty index. `heads` must be a power of two in number.
    pub(super) fn new(heads: &'m mut [[u8; 4]]) -> Self {
        debug_assert!(heads.len().is_power_of_two());
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
            let (header, wire) = heap.open(item);
            if header.hash == hash
                && wire.get(..usize::from(header.key_len)).is_some_and(|bytes| key.is(bytes))
            {
                return link;
            }
            link = header.next;
        }
        None
    }

    /// Puts an item, its header already written with `hash`, at the front of its
    /// chain. The key must not be in the index.
    pub(super) fn link(&mut self, heap: &mut Heap<'_>, hash: u32, item: ItemRef) {
        heap.set_next(item, self.head(hash));
        self.set_head(hash, Some(item));
    }

    /// Takes an item out of its chain. It must be in the index.
    pub(super) fn unlink(&mut self, heap: &mut Heap<'_>, item: ItemRef) {
        let header = heap.header(item);
        let mut link = self.head(header.hash);
        if link == Some(item) {
            return self.set_head(header.hash, header.next);
        }
        while let Some(before) = link {
            link = heap.header(before).next;
            if link == Some(item) {
                return heap.set_next(before, header.next);
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
        core::iter::successors(head, |&item| heap.header(item).next)
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
        hash as usize & (self.heads.len() - 1)
    }
}
