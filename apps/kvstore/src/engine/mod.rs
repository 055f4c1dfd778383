//! The store: items by key, in a memory that never grows.
//!
//! - `key`, `hash`: what a key is, and the secret hash of it
//! - `index`: from the hash to the item
//! - `item`: how an item lies in memory: a header, then its reply
//! - `config`, `classes`, `pages`, `slabs`: the bucket allocator, from parameters
//!   to chunks
//! - `eviction`, a folder: which item of a bucket is given up
//! - `state`, `evict`, `rebalance`: how old an item is, what happens when memory is full, and
//!   how pages move between buckets
//! - `read`, `store`, `arithmetic`, `meta`: the operations
//! - `hot`: which keys are read most
//! - `table`: what is kept for each bucket
//! - `hold`: long items on their way in or out, which stay as they are meanwhile
//! - `journal`, `restore`: changes, noted for an owner that makes them durable, and made again
//!
//! The engine is single-threaded by type: every operation takes `&mut self`. On
//! several cores each core has an engine and a part of the keys of its own.
//!
//! Results are those of memcached 1.6; what the protocol calls an error is an
//! ordinary value here. Time is told by [`Engine::set_time`], so that the same
//! sequence of calls always gives the same results.

mod arithmetic;
#[cfg(test)]
mod audit;
mod chance;
mod classes;
mod config;
mod evict;
mod eviction;
mod hash;
mod hold;
mod hot;
mod index;
mod item;
mod journal;
mod key;
mod meta;
mod pages;
mod read;
mod rebalance;
mod restore;
mod slabs;
mod state;
mod stats;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub use arithmetic::{Delta, DeltaError};
pub use config::{Config, SetupError};
pub use eviction::Eviction;
pub use hold::{Held, NoRoom};
pub use hot::HotKey;
pub use item::Expiry;
pub use journal::LEAD;
pub use key::Key;
pub use meta::{Found, Info};
pub(crate) use read::Hit;
pub use read::Value;
pub use restore::{NoteSink, RestoreError};
pub use stats::{BucketUsage, Stats, Usage};
pub use store::{Condition, Mode, Outcome, Stored, WireForm};

use classes::Classes;
use config::{PAGE_ENTRY, TABLES};
use eviction::{Chosen, Now};
use hash::HashKey;
use hot::HotKeys;
use index::Index;
use item::{Header, Heap, ItemRef, Stamp};
use journal::Journal;
use pages::PageTable;
use rebalance::Pressure;
use slabs::Slabs;
use state::{Epoch, State};

/// A store in a given memory.
pub struct Engine<'m> {
    hash_key: HashKey,
    heap: Heap<'m>,
    index: Index<'m>,
    slabs: Slabs<'m>,
    policy: Chosen<'m>,
    pressure: Pressure<'m>,
    epoch: Epoch,
    /// What an item says that is read now.
    stamp: Stamp,
    /// Pages with chunks that must stay where they are.
    held_pages: u32,
    /// Bytes still to be stored in this epoch.
    left_of_epoch: usize,
    /// Seconds on the engine's clock, from 1.
    now: u32,
    last_cas: u64,
    /// Items with a smaller CAS id have been flushed.
    flushed_below: u64,
    /// Whether items may have ended that nothing has met since.
    may_hold_dead: bool,
    /// When a delayed flush is due.
    flush_at: Option<u32>,
    max_item: u32,
    stats: Stats,
    usage: Usage,
    journal: Journal<'m>,
    hot: HotKeys<'m>,
}

impl<'m> Engine<'m> {
    /// Makes an empty store in `memory`, of which it will use all and no more. What
    /// the memory held before does not matter.
    ///
    /// # Errors
    /// See [`SetupError`]. The memory is untouched then.
    pub fn new(memory: &'m mut [u8], config: &Config) -> Result<Self, SetupError> {
        let limit = memory.len();
        let layout = config.layout(limit)?;
        let pages = layout.heap / config.page_size as usize;
        let half = (pages / 2 * config.page_size as usize).min(u32::MAX as usize) as u32;
        let links = config.eviction.links();
        let max_item = config.max_item.min(half - links as u32);
        Classes::count(config, max_item + links as u32, pages)?;

        let (heap, rest) = memory.split_at_mut(layout.heap);
        let (heads, rest) = rest.split_at_mut(layout.heads * 4);
        let (entries, rest) = rest.split_at_mut(pages * PAGE_ENTRY);
        let (tables, rest) = rest.split_at_mut(TABLES);
        let (lists, rest) = rest.split_at_mut(layout.lists);
        let ghosts = &mut rest[..layout.ghosts];
        let (classes, tables) = Classes::new(tables, config, max_item + links as u32, pages)?;
        let pages = PageTable::new(entries.as_chunks_mut().0);
        let (slabs, tables) = Slabs::new(tables, pages, classes, config.page_size, links);
        let (pressure, hot) = Pressure::new(tables);
        let index = Index::new(heads.as_chunks_mut().0);
        let usage = Usage { limit: limit as u64, index: index.bytes() as u64, ..Usage::default() };
        Ok(Self {
            hash_key: HashKey::new(config.seed),
            heap: Heap::new(heap),
            index,
            slabs,
            policy: Chosen::new(config.eviction, lists, ghosts),
            pressure,
            epoch: Epoch::FIRST,
            stamp: Stamp::new(State::read(Epoch::FIRST), 1),
            held_pages: 0,
            left_of_epoch: layout.heap / 256,
            now: 1,
            last_cas: 0,
            flushed_below: 0,
            may_hold_dead: false,
            flush_at: None,
            max_item,
            stats: Stats::default(),
            usage,
            journal: Journal::none(),
            hot: HotKeys::new(hot),
        })
    }

    /// Sets the engine's clock, in seconds from any origin before the store was
    /// made; it must be above 0 and should never go back.
    #[inline]
    pub fn set_time(&mut self, now: u32) {
        self.now = now;
        self.stamp = Stamp::new(State::read(self.epoch), now as u16);
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    /// Makes all items stored so far invisible, at once. A delayed flush that was
    /// still to come is forgotten.
    ///
    /// Cost: constant. The memory is reclaimed as the items are met.
    pub fn flush(&mut self) {
        self.flush_at = None;
        self.flushed_below = self.next_cas();
        self.note_flush();
        self.may_hold_dead = true;
    }

    /// Like [`Engine::flush`], when the clock shows `at`: for all items stored until
    /// then. Replaces a delayed flush that was still to come.
    pub fn flush_later(&mut self, at: u32) {
        self.flush_at = Some(at);
        self.note_flush();
        self.set_time(self.now);
    }

    /// What has happened since the start or the last reset.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The same, to count what happens outside the engine.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// What the memory holds now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let free = u64::from(self.slabs.pages().free());
        let page = self.heap.len() as u64 / u64::from(self.slabs.pages().len()).max(1);
        let pages = self.slabs.pages().len().into();
        Usage { pages, free_pages: free, page_size: page, ..self.usage }
    }

    /// Bytes of the largest item, header and key included.
    #[must_use]
    pub fn max_item(&self) -> usize {
        self.max_item as usize
    }

    /// What the buckets hold that have memory, by rising chunk size.
    ///
    /// Cost: proportional to the number of pages.
    pub fn buckets(&self) -> impl Iterator<Item = BucketUsage> + '_ {
        self.slabs.classes().ids().filter_map(|class| {
            let shape = self.slabs.classes().get(class);
            let slabs = u64::from(self.slabs.slabs(class));
            (slabs > 0).then(|| BucketUsage {
                class: class.0,
                chunk: shape.chunk.into(),
                per_slab: shape.per_slab.into(),
                pages: slabs * u64::from(shape.span),
                chunks: slabs * u64::from(shape.per_slab),
                used: self.slabs.live(class),
            })
        })
    }

    /// Epochs pass as items are stored.
    #[inline]
    fn pass_time(&mut self, stored: usize) {
        match self.left_of_epoch.checked_sub(stored) {
            Some(left @ 1..) => self.left_of_epoch = left,
            _ => self.pass_epochs(stored),
        }
    }

    #[cold]
    fn pass_epochs(&mut self, mut stored: usize) {
        while stored >= self.left_of_epoch {
            stored -= self.left_of_epoch;
            self.left_of_epoch = self.heap.len() / 256;
            self.epoch = self.epoch.next();
            self.stamp = Stamp::new(State::read(self.epoch), self.now as u16);
        }
        self.left_of_epoch -= stored;
    }

    #[inline]
    fn next_cas(&mut self) -> u64 {
        self.last_cas += 1;
        self.last_cas
    }

    /// Whether an item is gone for clients, though its memory is not reclaimed.
    #[inline(always)]
    fn is_dead(&self, header: &Header) -> bool {
        self.now().is_dead(header)
    }

    #[inline(always)]
    fn now(&self) -> Now {
        Now { second: self.now, flushed_below: self.flushed_below }
    }

    /// The item with this key, if clients may see it. One that is dead is reclaimed.
    #[inline(always)]
    fn find(&mut self, hash: u32, key: Key<'_>) -> Option<ItemRef> {
        let item = self.index.find(&self.heap, hash, key)?;
        let header = self.heap.header(item);
        if self.is_dead(&header) {
            self.bury(item, &header);
            return None;
        }
        Some(item)
    }

    #[cold]
    fn bury(&mut self, item: ItemRef, header: &Header) {
        if header.cas < self.flushed_below {
            self.stats.get_flushed += 1;
        } else {
            self.stats.get_expired += 1;
        }
        self.discard(item);
    }

    /// Takes an item out of the index and gives its memory back, unless it is held: then that
    /// happens when it no longer is.
    fn discard(&mut self, item: ItemRef) {
        self.forget(item, false);
        if !self.keep_for_holders(item) {
            self.slabs.give(&mut self.heap, item);
        }
    }

    /// Takes an item out of the index, to make room if `evicted`.
    fn forget(&mut self, item: ItemRef, evicted: bool) {
        self.note_gone(item);
        let hash = self.hash_of(item);
        if let Some(class) = self.listed(item) {
            self.policy.policy().removed(&mut self.heap, class, item, hash, evicted);
        }
        self.usage.items -= 1;
        self.usage.bytes -= self.heap.header(item).size() as u64;
        self.index.unlink(&mut self.heap, hash, item);
    }

    /// The hash of an item's key.
    fn hash_of(&self, item: ItemRef) -> u32 {
        Key::any(self.heap.link(item).1).map_or(0, |key| self.hash_key.hash(key))
    }
}
