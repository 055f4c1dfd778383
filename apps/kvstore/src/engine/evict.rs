//! What to give up when the memory is full.
//!
//! Within a bucket, CLOCK: a hand goes round the chunks, and an item that was read
//! since the hand last passed is spared once. It approximates least-recently-used
//! without a list that every `get` would have to write; a `get` writes one byte,
//! and only if the item was cold. Items that have expired or been flushed go first,
//! whether read or not.
//!
//! Between buckets, pages move, or a store that was filled with one item size
//! would have no room for another ("slab calcification"):
//!
//! 1. a slab without items is taken from whoever has it;
//! 2. a bucket that has no slab at all gets one from the bucket with most memory,
//!    or, if it needs several contiguous pages, the pages under a rotating hand;
//! 3. a bucket that has evicted as many items as it can hold looks at one slab of
//!    another bucket, each in turn, and takes it if it has gone cold: at most one in
//!    eight of its items read since the last such look. Buckets whose chunk is
//!    larger than a page do not do this: they grow only by 1.
//!
//! **Cost.** A bounded number of steps: at most [`CLOCK_STEPS`] for the hand, and
//! for moving pages the chunks of one slab (or of the pages one large chunk takes).

use super::Engine;
use super::classes::{ClassId, MAX_CLASSES};
use super::item::{ItemRef, State};
use super::pages::{PageId, Slab};

/// After so many warm items the hand takes the next one as it is.
const CLOCK_STEPS: u32 = 256;

/// The fewest evictions after which a bucket looks at another's slab.
const TURNOVER: u32 = 32;

/// Who has been evicting, and whose turn it is.
pub(super) struct Pressure {
    /// By bucket: evictions since it last looked at another's slab.
    evicted: [u32; MAX_CLASSES],
    /// The bucket to look at next.
    next_class: u8,
    /// The page from which contiguous pages are next taken.
    next_page: u32,
}

impl Pressure {
    pub(super) fn new() -> Self {
        Self { evicted: [0; MAX_CLASSES], next_class: 0, next_page: 0 }
    }
}

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
        if self.slabs.slabs(class) > 0 {
            if self.may_grow(class) && self.take_cold_slab(class, keep) {
                return self.slabs.take(&mut self.heap, class);
            }
            if let Some(chunk) = self.evict_at_hand(class) {
                return Some(chunk);
            }
        }
        if self.slabs.classes().get(class).span == 1 {
            self.empty_richest(keep)?;
        } else {
            self.empty_run(class, keep)?;
        }
        self.slabs.take(&mut self.heap, class)
    }

    /// Evicts the first item the hand does not spare. Returns its chunk, taken.
    fn evict_at_hand(&mut self, class: ClassId) -> Option<ItemRef> {
        for step in 0..=CLOCK_STEPS {
            let item = self.slabs.next_at_hand(class)?;
            let header = self.heap.header(item);
            if header.state == State::FREE {
                continue;
            }
            if header.state == State::WARM && !self.is_dead(&header) && step < CLOCK_STEPS {
                self.heap.set_state(item, State::COLD);
                continue;
            }
            self.pressure.evicted[usize::from(class.0)] += 1;
            self.evict(item);
            return Some(item);
        }
        None
    }

    /// Whether this bucket has turned over what it holds, and may look around.
    fn may_grow(&mut self, class: ClassId) -> bool {
        let shape = self.slabs.classes().get(class);
        let evicted = &mut self.pressure.evicted[usize::from(class.0)];
        let due = *evicted >= TURNOVER.max(self.slabs.slabs(class) * shape.per_slab);
        if due {
            *evicted = 0;
        }
        due && shape.span == 1
    }

    /// Looks at one slab of the next bucket in turn; frees its pages if it is cold.
    fn take_cold_slab(&mut self, class: ClassId, keep: Option<ItemRef>) -> bool {
        let classes = self.slabs.classes().all().len() as u8;
        let turn = (1..=classes).map(|i| ClassId((self.pressure.next_class + i) % classes));
        let Some(other) = turn.into_iter().find(|&c| c != class && self.slabs.slabs(c) > 0) else {
            return false;
        };
        self.pressure.next_class = other.0;
        let Some((page, slab)) = self.slabs.slab_at_hand(other) else { return false };
        let mut warm = 0;
        for item in self.slabs.chunks(page, slab) {
            let header = self.heap.header(item);
            if header.state == State::WARM && !self.is_dead(&header) {
                self.heap.set_state(item, State::COLD);
                warm += 1;
            }
        }
        if warm * 8 > slab.live || self.slab_holds(page, keep) {
            self.slabs.skip_slab(other);
            return false;
        }
        self.empty_slab(page, slab);
        true
    }

    /// Frees the pages of one slab of the bucket with most memory.
    fn empty_richest(&mut self, keep: Option<ItemRef>) -> Option<()> {
        let classes = self.slabs.classes().all().len() as u8;
        let kept = keep.and_then(|item| self.slabs.class_of(item));
        let richest = (0..classes)
            .map(ClassId)
            // Of the bucket with the item to keep one slab has to stay.
            .filter(|&class| self.slabs.slabs(class) > u32::from(kept == Some(class)))
            .max_by_key(|&class| {
                u64::from(self.slabs.slabs(class)) * u64::from(self.slabs.classes().get(class).span)
            })?;
        let (page, _) = self.slabs.slab_at_hand(richest)?;
        if self.slab_holds(page, keep) {
            self.slabs.skip_slab(richest);
        }
        let (page, slab) = self.slabs.slab_at_hand(richest)?;
        self.empty_slab(page, slab);
        Some(())
    }

    /// Frees as many contiguous pages as one chunk of this bucket takes.
    fn empty_run(&mut self, class: ClassId, keep: Option<ItemRef>) -> Option<()> {
        let span = self.slabs.classes().get(class).span;
        let places = (self.slabs.pages().len() + 1).checked_sub(span).filter(|&n| n > 0)?;
        let start = (0..places).map(|i| (self.pressure.next_page + i) % places).find(|&start| {
            (start..start + span).all(|page| !self.slab_holds(PageId(page), keep))
        })?;
        self.pressure.next_page = start + span;
        for page in start..start + span {
            if let Some((first, slab)) = self.slabs.pages().slab_of(PageId(page)) {
                self.empty_slab(first, slab);
            }
        }
        Some(())
    }

    /// Whether the slab that `page` belongs to holds this item.
    fn slab_holds(&self, page: PageId, item: Option<ItemRef>) -> bool {
        let first = |page| self.slabs.pages().slab_of(page).map(|(first, _)| first);
        item.is_some_and(|item| first(page) == first(self.slabs.page_of(item)))
    }

    /// Evicts all items of a slab and frees its pages.
    fn empty_slab(&mut self, page: PageId, slab: Slab) {
        for item in self.slabs.chunks(page, slab) {
            if self.heap.header(item).state != State::FREE {
                self.evict(item);
                self.slabs.give(&mut self.heap, item);
            }
        }
        self.slabs.release(&mut self.heap, page);
    }

    /// Takes an item out of the index; its chunk stays taken.
    fn evict(&mut self, item: ItemRef) {
        if self.is_dead(&self.heap.header(item)) {
            self.stats.reclaimed += 1;
        } else {
            self.stats.evictions += 1;
        }
        self.forget(item);
    }
}
