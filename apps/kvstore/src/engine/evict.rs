//! What to give up when the memory is full.
//!
//! Within a bucket, CLOCK: a hand goes round the chunks, and an item that was read
//! since the hand last passed is spared once. It approximates least-recently-used
//! without a list that every `get` would have to write. Items that have expired or been
//! flushed go first, whether read or not.
//!
//! Between buckets, pages move, or a store that was filled with one item size would
//! have no room for another ("slab calcification"). Before a bucket gives up an item,
//! [`super::rebalance`] looks whether another one holds older items; then a slab of
//! those goes instead.
//!
//! **Cost.** A bounded number of steps, however large the store. At most
//! - [`CLOCK_STEPS`] chunks for the hand,
//! - what [`super::rebalance`] says of moving pages,
//! - and evicting what is in one slab (or in the pages that one large chunk takes).

use super::Engine;
use super::classes::ClassId;
use super::item::ItemRef;
use super::pages::{PageId, Slab};
use super::state::{OLDEST, State};

/// After so many warm items the hand takes the next one as it is.
pub(super) const CLOCK_STEPS: u32 = 256;

impl Engine<'_> {
    /// A chunk of this bucket, for which items may be evicted, but not `keep`, which is
    /// in another bucket. `None` only if there is no way to a chunk that spares it.
    pub(super) fn allocate(&mut self, class: ClassId, keep: Option<ItemRef>) -> Option<ItemRef> {
        loop {
            if let Some(chunk) = self.slabs.take(&mut self.heap, class) {
                return Some(chunk);
            }
            let Some(page) = self.slabs.empty_slab() else { break };
            self.slabs.release(&mut self.heap, page);
        }
        if self.keeps() {
            return self.reclaim(class, keep);
        }
        if let Some(victim) = self.victim(class) {
            if !self.take_older(class, self.age(victim), keep) {
                self.evict(victim);
                return Some(victim);
            }
        } else {
            self.take_oldest(class, keep)?;
        }
        self.slabs.take(&mut self.heap, class)
    }

    /// The same of a store that keeps its items: what has ended alone may go.
    #[cold]
    fn reclaim(&mut self, class: ClassId, keep: Option<ItemRef>) -> Option<ItemRef> {
        for _ in 0..=CLOCK_STEPS {
            let Some(item) = self.slabs.next_at_hand(class) else { break };
            let header = self.heap.header(item);
            if header.state != State::FREE
                && self.is_dead(&header)
                && !self.is_held_as(item, &header)
            {
                self.evict(item);
                return Some(item);
            }
        }
        self.take_dead(class, keep)?;
        self.slabs.take(&mut self.heap, class)
    }

    /// Epochs since an item was last used; [`OLDEST`] if it is dead, or no item.
    pub(super) fn age(&self, item: ItemRef) -> u16 {
        let header = self.heap.header(item);
        if header.state != State::FREE && self.is_dead(&header) {
            return OLDEST;
        }
        header.state.age(self.epoch)
    }

    /// The first item the hand does not spare. `None` if the bucket holds none.
    fn victim(&mut self, class: ClassId) -> Option<ItemRef> {
        for step in 0..=CLOCK_STEPS {
            let item = self.slabs.next_at_hand(class)?;
            let header = self.heap.header(item);
            if header.state == State::FREE || self.is_held_as(item, &header) {
                continue;
            }
            if header.state.is_warm() && !self.is_dead(&header) && step < CLOCK_STEPS {
                self.heap.set_state(item, header.state.cooled());
                continue;
            }
            return Some(item);
        }
        None
    }

    /// Evicts all items of a slab and frees its pages.
    pub(super) fn empty_slab(&mut self, page: PageId, slab: Slab) {
        for item in self.slabs.chunks(page, slab) {
            if self.heap.header(item).state != State::FREE {
                self.evict(item);
                self.slabs.give(&mut self.heap, item);
            }
        }
        self.slabs.release(&mut self.heap, page);
    }

    /// Takes an item out of the index; its chunk stays taken.
    pub(super) fn evict(&mut self, item: ItemRef) {
        if self.is_dead(&self.heap.header(item)) {
            self.stats.reclaimed += 1;
        } else {
            self.stats.evictions += 1;
        }
        self.forget(item);
    }
}
