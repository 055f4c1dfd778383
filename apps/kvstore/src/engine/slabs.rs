//! The bucket allocator: chunks for items.
//!
//! After the allocator of *Unbuckle* (Cambridge, 2014): the range of item sizes
//! is divided into buckets, each bucket holds whole pages cut into equal chunks,
//! and taking or giving a chunk is a matter of a few instructions. Growth of the
//! chunk sizes bounds what is lost inside chunks.
//!
//! Two things are different here. A fresh page is not threaded into a free list:
//! its chunks are *carved* one by one as they are first needed, so taking a page
//! has constant cost. And the free chunks of a bucket are linked both ways, so a
//! page can leave its bucket again: no page is lost for ever to the size that
//! happened to want it first.
//!
//! This module knows memory, not items: which item to give up when there is no
//! chunk left is the affair of [`super::evict`].

use super::classes::{ClassId, Classes};
use super::item::{Expiry, Header, Heap, ItemRef, Marks};
use super::pages::{Page, PageId, PageTable, Slab};
use super::state::State;
use super::table::{Record, Table};

/// Bytes of the buckets' table.
pub(super) const BUCKETS: usize = Table::<Bucket, BUCKET>::BYTES;

/// Bytes of a bucket's record.
const BUCKET: usize = 22;

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// First of the chunks that held an item before.
    free: Option<ItemRef>,
    /// The slab that may have chunks never used.
    fresh: Option<PageId>,
    /// Where the clock hand stands: a slab, and the chunk to look at next.
    hand: Option<PageId>,
    hand_chunk: u16,
    /// The slab in which a chunk is next looked at to learn of ages.
    probe: Option<PageId>,
    slabs: u32,
}

impl Record<BUCKET> for Bucket {
    #[inline]
    fn decode(b: &[u8; BUCKET]) -> Self {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let page = |at: usize| word(at).checked_sub(1).map(PageId);
        Self {
            free: ItemRef::from_raw(word(0)),
            fresh: page(4),
            hand: page(8),
            probe: page(12),
            slabs: word(16),
            hand_chunk: u16::from_le_bytes([b[20], b[21]]),
        }
    }

    #[inline]
    fn encode(self) -> [u8; BUCKET] {
        let page = |page: Option<PageId>| page.map_or(0, |page| page.0 + 1).to_le_bytes();
        let mut b = [0; BUCKET];
        b[..4].copy_from_slice(&ItemRef::raw(self.free).to_le_bytes());
        b[4..8].copy_from_slice(&page(self.fresh));
        b[8..12].copy_from_slice(&page(self.hand));
        b[12..16].copy_from_slice(&page(self.probe));
        b[16..20].copy_from_slice(&self.slabs.to_le_bytes());
        b[20..].copy_from_slice(&self.hand_chunk.to_le_bytes());
        b
    }
}

/// All buckets of a store.
pub(super) struct Slabs<'m> {
    pages: PageTable<'m>,
    classes: Classes<'m>,
    page_shift: u32,
    /// Bytes of a chunk before the header of its item.
    links: usize,
    buckets: Table<'m, Bucket, BUCKET>,
    /// Slabs without any item.
    empty: u32,
    /// The next chunk to look at on the way through all of them: page and number.
    turn: (PageId, u16),
}

impl<'m> Slabs<'m> {
    /// Buckets of chunks in which an item's header comes after so many bytes for `links`, with
    /// [`BUCKETS`] bytes of `memory`; and what is left of that.
    pub(super) fn new(
        memory: &'m mut [u8],
        pages: PageTable<'m>,
        classes: Classes<'m>,
        page_size: u32,
        links: usize,
    ) -> (Self, &'m mut [u8]) {
        let (buckets, rest) = Table::new(memory, Bucket::default());
        let page_shift = page_size.trailing_zeros();
        let turn = (PageId(0), 0);
        (Self { pages, classes, page_shift, links, buckets, empty: 0, turn }, rest)
    }

    pub(super) fn classes(&self) -> &Classes<'m> {
        &self.classes
    }

    pub(super) fn pages(&self) -> &PageTable<'m> {
        &self.pages
    }

    /// The smallest bucket for items of so many bytes, header included. `None` if none is.
    #[inline(always)]
    pub(super) fn holding(&self, bytes: usize) -> Option<ClassId> {
        self.classes.holding(bytes + self.links)
    }

    /// The largest item of a bucket.
    pub(super) fn room(&self, class: ClassId) -> usize {
        self.classes.get(class).chunk as usize - self.links
    }

    /// Whether an item with this header must stay as it is: it is long, and one of its slab
    /// is held ([`super::hold`]).
    #[inline(always)]
    pub(super) fn is_held(&self, item: ItemRef, header: &Header) -> bool {
        header.is_long()
            && self.pages.slab_of(self.page_of(item)).is_some_and(|(_, slab)| slab.held > 0)
    }

    /// Slabs a bucket holds.
    pub(super) fn slabs(&self, class: ClassId) -> u32 {
        self.bucket(class).slabs
    }

    /// Chunks of a bucket that hold an item. Cost: proportional to its slabs.
    pub(super) fn live(&self, class: ClassId) -> u64 {
        let first = self.slab_at_hand(class);
        let next = |(_, slab): &(PageId, Slab)| {
            self.pages
                .slab_of(slab.next)
                .filter(|(page, _)| first.is_some_and(|(at, _)| at != *page))
        };
        core::iter::successors(first, next).map(|(_, slab)| u64::from(slab.live)).sum()
    }

    /// The bucket a chunk belongs to.
    #[inline]
    pub(super) fn class_of(&self, chunk: ItemRef) -> Option<ClassId> {
        self.pages.slab_of(self.page_of(chunk)).map(|(_, slab)| slab.class)
    }

    /// A chunk of this bucket: a used one, else a fresh one, else one of a new slab.
    /// `None` if that would need pages that are not free.
    ///
    /// The caller writes a header with an item's state into it before anything else
    /// happens to the allocator.
    pub(super) fn take(&mut self, heap: &mut Heap<'_>, class: ClassId) -> Option<ItemRef> {
        let chunk = match self.bucket(class).free {
            Some(chunk) => {
                self.remove_free(heap, class, chunk);
                chunk
            }
            None => match self.carve(class) {
                Some(chunk) => chunk,
                None => {
                    self.add_slab(class)?;
                    self.carve(class)?
                }
            },
        };
        self.count_live(chunk);
        Some(chunk)
    }

    /// Takes this free chunk. The caller writes a header as for [`Slabs::take`].
    pub(super) fn claim(&mut self, heap: &mut Heap<'_>, chunk: ItemRef) {
        let Some(class) = self.class_of(chunk) else { return };
        self.remove_free(heap, class, chunk);
        self.count_live(chunk);
    }

    fn count_live(&mut self, chunk: ItemRef) {
        let mut was_empty = false;
        self.pages.update(self.page_of(chunk), |slab| {
            was_empty = slab.live == 0;
            slab.live += 1;
        });
        self.empty -= u32::from(was_empty);
    }

    /// Counts the chunks of a slab that are held: one more, or one less. Returns by how many
    /// the number of pages with such chunks has changed.
    pub(super) fn count_held(&mut self, chunk: ItemRef, more: bool) -> u32 {
        let Some((page, slab)) = self.pages.slab_of(self.page_of(chunk)) else { return 0 };
        let before = slab.held;
        self.pages.update(page, |slab| {
            slab.held = if more { slab.held + 1 } else { slab.held.saturating_sub(1) };
        });
        let changes = if more { before == 0 } else { before == 1 };
        if changes { self.classes.get(slab.class).span } else { 0 }
    }

    /// Gives a chunk back.
    pub(super) fn give(&mut self, heap: &mut Heap<'_>, chunk: ItemRef) {
        let Some(class) = self.class_of(chunk) else { return };
        let next = self.bucket(class).free;
        heap.set_header(
            chunk,
            &Header {
                next,
                cas: 0, // and with it `prev`
                expiry: Expiry::NEVER,
                has_end: false,
                wire_len: 0,
                key_len: 0,
                suffix_len: 0,
                marks: Marks::NONE,
                sum: 0,
                state: State::FREE,
                used: 0,
            },
        );
        if let Some(next) = next {
            heap.set_prev(next, Some(chunk));
        }
        self.buckets.update(class, |bucket| bucket.free = Some(chunk));

        let mut is_empty = false;
        self.pages.update(self.page_of(chunk), |slab| {
            slab.live -= 1;
            is_empty = slab.live == 0;
        });
        self.empty += u32::from(is_empty);
    }

    /// Frees the pages of a slab in which there is no item.
    ///
    /// Cost: proportional to the chunks of one slab.
    pub(super) fn release(&mut self, heap: &mut Heap<'_>, page: PageId) {
        let Some((page, slab)) = self.pages.slab_of(page) else { return };
        debug_assert_eq!(slab.live, 0);
        for chunk in self.chunks(page, slab) {
            self.remove_free(heap, slab.class, chunk);
        }
        let next = self.pages.leave_ring(page);
        self.buckets.update(slab.class, |bucket| {
            bucket.slabs -= 1;
            if bucket.fresh == Some(page) {
                bucket.fresh = None;
            }
            if bucket.hand == Some(page) {
                bucket.hand = next;
                bucket.hand_chunk = 0;
            }
            if bucket.probe == Some(page) {
                bucket.probe = next;
            }
        });
        self.empty -= 1;
        self.pages.free_run(page, self.classes.get(slab.class).span);
    }

    /// The slab the clock hand of a bucket stands in.
    pub(super) fn slab_at_hand(&self, class: ClassId) -> Option<(PageId, Slab)> {
        self.pages.slab_of(self.bucket(class).hand?)
    }

    /// The slabs of a bucket in turn, whatever its hand does.
    pub(super) fn next_probed(&mut self, class: ClassId) -> Option<(PageId, Slab)> {
        let bucket = self.bucket(class);
        let (page, slab) = self.pages.slab_of(bucket.probe.or(bucket.hand)?)?;
        self.buckets.set(class, Bucket { probe: Some(slab.next), ..bucket });
        Some((page, slab))
    }

    /// The slab of a bucket whose chunks the clock hand has not seen for longest: the one it
    /// stands at the start of, or, if it is in the middle, the next.
    pub(super) fn slab_ahead(&self, class: ClassId) -> Option<(PageId, Slab)> {
        let (page, slab) = self.slab_at_hand(class)?;
        if self.bucket(class).hand_chunk == 0 {
            return Some((page, slab));
        }
        self.pages.slab_of(slab.next)
    }

    /// Moves the clock hand of a bucket past one of its slabs.
    pub(super) fn skip_past(&mut self, page: PageId) {
        if let Some((_, slab)) = self.pages.slab_of(page) {
            self.buckets.update(slab.class, |bucket| {
                bucket.hand = Some(slab.next);
                bucket.hand_chunk = 0;
            });
        }
    }

    /// Moves the clock hand of a bucket by one carved chunk and returns that chunk.
    pub(super) fn next_at_hand(&mut self, class: ClassId) -> Option<ItemRef> {
        for _ in 0..=self.slabs(class) {
            let (page, slab) = self.slab_at_hand(class)?;
            let at = self.bucket(class).hand_chunk;
            if at < slab.carved {
                self.buckets.update(class, |bucket| bucket.hand_chunk = at + 1);
                return self.chunk(page, slab.class, at);
            }
            self.skip_past(page);
        }
        None
    }

    /// The next of all chunks that were ever used, whatever their bucket, round and round.
    ///
    /// Cost: that of looking at a page, or at two if one ends.
    pub(super) fn next_in_turn(&mut self) -> Option<ItemRef> {
        for _ in 0..2 {
            let (page, number) = self.turn;
            if let Page::Slab(slab) = self.pages.get(page)
                && number < slab.carved
            {
                self.turn = (page, number + 1);
                return self.chunk(page, slab.class, number);
            }
            let next = page.0 + 1;
            self.turn = (PageId(if next < self.pages.len() { next } else { 0 }), 0);
        }
        None
    }

    /// A slab without items, if there is one.
    ///
    /// Cost: nothing if there is none, else proportional to the number of pages.
    pub(super) fn empty_slab(&self) -> Option<PageId> {
        if self.empty == 0 {
            return None;
        }
        (0..self.pages.len())
            .map(PageId)
            .find(|&page| matches!(self.pages.get(page), Page::Slab(slab) if slab.live == 0))
    }

    #[cfg(test)]
    pub(super) fn first_free(&self, class: ClassId) -> Option<ItemRef> {
        self.bucket(class).free
    }

    /// The chunks of a slab that were ever used.
    pub(super) fn chunks(&self, page: PageId, slab: Slab) -> impl Iterator<Item = ItemRef> + use<> {
        let chunk = self.classes.get(slab.class).chunk as usize;
        let base = self.offset(page) + self.links;
        (0..usize::from(slab.carved)).filter_map(move |i| ItemRef::from_offset(base + i * chunk))
    }

    /// The page a chunk starts in.
    #[inline]
    pub(super) fn page_of(&self, chunk: ItemRef) -> PageId {
        PageId((chunk.offset() >> self.page_shift) as u32)
    }

    fn offset(&self, page: PageId) -> usize {
        (page.0 as usize) << self.page_shift
    }

    /// A chunk of a slab of this bucket, by its number.
    pub(super) fn chunk(&self, page: PageId, class: ClassId, number: u16) -> Option<ItemRef> {
        let chunk = self.classes.get(class).chunk as usize;
        ItemRef::from_offset(self.offset(page) + usize::from(number) * chunk + self.links)
    }

    /// The next chunk never used of the bucket's fresh slab.
    fn carve(&mut self, class: ClassId) -> Option<ItemRef> {
        let (page, slab) = self.pages.slab_of(self.bucket(class).fresh?)?;
        if u32::from(slab.carved) == self.classes.get(class).per_slab {
            self.buckets.update(class, |bucket| bucket.fresh = None);
            return None;
        }
        self.pages.update(page, |slab| slab.carved += 1);
        self.chunk(page, class, slab.carved)
    }

    fn add_slab(&mut self, class: ClassId) -> Option<()> {
        let page = self.pages.take_run(self.classes.get(class).span, class)?;
        let bucket = self.bucket(class);
        // Slabs that follow each other in the ring are looked at together, and are to be of
        // different ages: a new one goes between two old ones, each time some steps further.
        let mut probe = bucket.probe.or(bucket.hand);
        if let Some(neighbour) = probe {
            self.pages.join_ring(page, neighbour);
        }
        for _ in 0..1 + (page.0.wrapping_mul(0x9e37_79b1) >> 29) {
            probe = probe.and_then(|at| self.pages.slab_of(at)).map(|(_, slab)| slab.next);
        }
        let (hand, fresh, slabs) = (bucket.hand.or(Some(page)), Some(page), bucket.slabs + 1);
        self.buckets.set(class, Bucket { hand, probe, fresh, slabs, ..bucket });
        self.empty += 1;
        Some(())
    }

    fn remove_free(&mut self, heap: &mut Heap<'_>, class: ClassId, chunk: ItemRef) {
        let (next, prev) = (heap.header(chunk).next, heap.prev(chunk));
        match prev {
            Some(prev) => heap.set_next(prev, next),
            None => self.buckets.update(class, |bucket| bucket.free = next),
        }
        if let Some(next) = next {
            heap.set_prev(next, prev);
        }
    }

    #[inline]
    fn bucket(&self, class: ClassId) -> Bucket {
        self.buckets.get(class)
    }
}

#[cfg(test)]
mod tests {
    use super::super::classes::CLASSES;
    use super::super::config::{Config, PAGE_ENTRY};
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn with_slabs(test: impl FnOnce(&mut Slabs<'_>, &mut Heap<'_>)) {
        let config = Config { page_size: 4096, max_item: 16384, ..Config::default() };
        // Memory full of garbage: nothing may rely on zeros.
        let mut memory = vec![0xa5; 8 * 4096];
        let mut entries = [[0xa5; PAGE_ENTRY]; 8];
        let mut tables = [0xa5; CLASSES + BUCKETS];
        let (classes, rest) = Classes::new(&mut tables, &config, config.max_item, 8).unwrap();
        let pages = PageTable::new(&mut entries);
        let (mut slabs, _) = Slabs::new(rest, pages, classes, config.page_size, 0);
        test(&mut slabs, &mut Heap::new(&mut memory));
    }

    fn take_all(slabs: &mut Slabs<'_>, heap: &mut Heap<'_>, class: ClassId) -> Vec<ItemRef> {
        core::iter::from_fn(|| slabs.take(heap, class)).collect()
    }

    #[test]
    fn chunks_never_overlap_and_pages_move_between_buckets() {
        with_slabs(|slabs, heap| {
            for size in [48, 100, 700, 3000, 5000, 48] {
                let class = slabs.classes().holding(size).unwrap();
                let shape = slabs.classes().get(class);
                let chunks = take_all(slabs, heap, class);
                assert_eq!(chunks.len() as u32, 8 / shape.span * shape.per_slab);
                let mut offsets: Vec<usize> = chunks.iter().map(|c| c.offset()).collect();
                offsets.sort_unstable();
                for pair in offsets.windows(2) {
                    assert!(pair[1] - pair[0] >= shape.chunk as usize);
                }
                assert!(offsets[offsets.len() - 1] + shape.chunk as usize <= heap.len());
                // In an order that is neither first nor last in first out.
                let (odd, even): (Vec<_>, Vec<_>) =
                    chunks.iter().enumerate().partition(|(i, _)| i % 2 == 1);
                for (_, chunk) in even.into_iter().chain(odd) {
                    slabs.give(heap, *chunk);
                }
                while let Some(page) = slabs.empty_slab() {
                    slabs.release(heap, page);
                }
                assert_eq!((slabs.pages().free(), slabs.slabs(class)), (8, 0));
            }
        });
    }

    #[test]
    fn the_hand_visits_every_chunk_once_a_round() {
        with_slabs(|slabs, heap| {
            let class = slabs.classes().holding(700).unwrap();
            let mut chunks = take_all(slabs, heap, class);
            let mut round: Vec<_> =
                (0..chunks.len()).map(|_| slabs.next_at_hand(class).unwrap()).collect();
            chunks.sort_by_key(|c| c.offset());
            round.sort_by_key(|c| c.offset());
            assert_eq!(chunks, round);
        });
    }
}
