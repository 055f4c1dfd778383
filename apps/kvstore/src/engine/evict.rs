//! What happens when the memory is full.
//!
//! Within a bucket, the store's policy chooses what goes ([`super::eviction`]).
//!
//! Between buckets, pages move, or a store that was filled with one item size would
//! have no room for another ("slab calcification"). Before a bucket gives up an item,
//! [`super::rebalance`] looks whether another one holds older items; then a slab of
//! those goes instead.
//!
//! Before any of that, what has ended is reclaimed: each store into a full bucket looks at a few
//! chunks more on a way through all of them. So what expires unread makes room within as many
//! stores as a quarter of the items, without a scan of all of them at once.
//!
//! **Cost.** A bounded number of steps, however large the store. At most
//! - [`REAPED`] chunks on the way through all, and [`STEPS`] for the policy,
//! - what [`super::rebalance`] says of moving pages,
//! - and evicting what is in one slab (or in the pages that one large chunk takes).

use super::Engine;
use super::classes::ClassId;
use super::eviction::{STEPS, View};
use super::item::ItemRef;
use super::pages::{PageId, Slab};
use super::state::{OLDEST, State};

/// How many chunks are looked at for each item stored into a full bucket.
pub(super) const REAPED: u32 = 4;

impl Engine<'_> {
    /// A chunk of this bucket, for which items may be evicted, but not `keep`, which is
    /// in another bucket. `None` only if there is no way to a chunk that spares it.
    pub(super) fn allocate(&mut self, class: ClassId, keep: Option<ItemRef>) -> Option<ItemRef> {
        if let Some(chunk) = self.take_unused(class) {
            return Some(chunk);
        }
        if self.may_hold_dead {
            self.reap(keep);
            if let Some(chunk) = self.take_unused(class) {
                return Some(chunk);
            }
        }
        if self.keeps() {
            return self.reclaim(class, keep);
        }
        if let Some(victim) = self.victim(class) {
            self.probe(class);
            if self.age(victim) == OLDEST || !self.take_older(class, keep) {
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
        for _ in 0..=STEPS {
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

    /// A chunk that holds no item, if there is one or a page for it.
    fn take_unused(&mut self, class: ClassId) -> Option<ItemRef> {
        loop {
            if let Some(chunk) = self.slabs.take(&mut self.heap, class) {
                return Some(chunk);
            }
            let page = self.slabs.empty_slab()?;
            self.slabs.release(&mut self.heap, page);
        }
    }

    /// Looks at a few chunks further and reclaims what has ended there.
    fn reap(&mut self, keep: Option<ItemRef>) {
        for _ in 0..REAPED {
            let Some(item) = self.slabs.next_in_turn() else { return };
            let header = self.heap.header(item);
            let holds_item = header.state != State::FREE && header.state != State::UNLINKED;
            if holds_item && self.is_dead(&header) && keep != Some(item) {
                self.stats.reclaimed += 1;
                self.discard(item);
            }
        }
    }

    /// Epochs since an item was last used; [`OLDEST`] if it is dead, or no item.
    pub(super) fn age(&self, item: ItemRef) -> u16 {
        let header = self.heap.header(item);
        if header.state != State::FREE && self.is_dead(&header) {
            return OLDEST;
        }
        header.state.age(self.epoch)
    }

    /// What the policy gives up. `None` if the bucket holds nothing that can go.
    fn victim(&mut self, class: ClassId) -> Option<ItemRef> {
        let (now, epoch) = (self.now(), self.epoch);
        let mut view = View { heap: &mut self.heap, slabs: &mut self.slabs, now, epoch };
        self.policy.policy().victim(&mut view, class)
    }

    /// The bucket of an item, if its policy keeps a list for that.
    #[inline(always)]
    pub(super) fn listed(&self, item: ItemRef) -> Option<ClassId> {
        if self.policy.keeps_lists() { self.slabs.class_of(item) } else { None }
    }

    /// An item, whose key has this hash, has been put into the index: the policy is to know.
    #[inline(always)]
    pub(super) fn list(&mut self, item: ItemRef, hash: u32) {
        if let Some(class) = self.listed(item) {
            self.policy.policy().stored(&mut self.heap, class, item, hash);
        }
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
        self.forget(item, true);
    }
}
