//! How pages move between buckets: to where items are given up young.
//!
//! A bucket about to evict an item looks for a slab of a bucket whose items are half as old again
//! as its own, in the mean, and takes the one that looks oldest. So all buckets keep items of
//! about the same age, as if one order went through all of them, and no item that was just stored
//! goes while another bucket holds old ones. Memory follows use: sizes that are stored or
//! read more keep their items younger, and gain pages from the others.
//!
//! How old a bucket's items are, chunks tell that are looked at at random, one of its own and one
//! of any bucket with each eviction. Single items tell little: among equals there is always an
//! older one, and pages that move to and fro between equals take young items with them (hits of a
//! hundred reads with a policy that keeps lists, Zipf with 0.8: 58 when one victim was compared
//! with the oldest of a few chunks, 64 with means).
//!
//! How old a slab is, the oldest of three of its chunks tells; free chunks and dead items
//! are as old as can be. Before it is taken all of its chunks are asked. Its young items
//! move into the places of old ones elsewhere in their bucket; if more than seven in eight
//! are young, it is not worth it. Looked at are the slabs that the hands reach next, and a
//! few at random: a hand may stand before a young slab of a bucket that holds old ones.
//! A bucket that has looked in vain evicts some items of its own before it looks again, so that
//! looking costs little where nothing can be gained.
//!
//! A chunk larger than a page needs contiguous pages, of whatever buckets: the
//! first old ones from a rotating place on. Nothing moves out of these; at most one chunk in
//! eight may be young.
//!
//! **Cost.** To find a slab, three chunks of each bucket (64 at most) and of
//! [`RANDOM_PAGES`] pages, or of each of [`RUN_PAGES`] pages, and all chunks of the slabs it
//! would take, [`LOOKS`] times. To move young items out of a slab, its bytes to copy, and a
//! look at [`RESCUE_STEPS`] times as many chunks as it has. In numbers, for the default
//! [`super::Config`]: `no_set_looks_at_more_than_a_few_slabs`.

use super::Engine;
use super::classes::{Class, ClassId};
use super::item::{HEADER, ItemRef};
use super::pages::{PageId, Slab};
use super::state::{OLDEST, State};
use super::table::{Record, Table};

/// How much older another bucket's items must be, in epochs, besides half as old again: a 64th part
/// of the heap stored in between. Less would move pages to and fro between equals.
const MARGIN: u16 = 4;

/// The age of the oldest item that has not ended, at most.
const MOST_LIVE: u16 = OLDEST - 1;

/// How many slabs one allocation may look into.
pub(super) const LOOKS: u32 = 2;

/// How many slabs are looked at besides those that the hands reach next.
const RANDOM_PAGES: u32 = 8;

/// How many chunks, for each of a slab's, may be looked at to find places for its young items.
pub(super) const RESCUE_STEPS: u32 = 8;

/// How many pages one allocation may look at to find contiguous ones.
pub(super) const RUN_PAGES: u32 = 1024;

/// What is remembered between allocations.
pub(super) struct Pressure<'m> {
    buckets: Table<'m, Aging, AGING>,
    /// The page from which contiguous pages are next looked for.
    next_page: u32,
}

/// The same, of one bucket.
#[derive(Clone, Copy)]
struct Aging {
    /// How old its items are in the mean, in parts of an epoch.
    mean: u32,
    /// For an item of which age it last looked at others' slabs in vain.
    vain: u16,
    /// How many evictions of items as old come before it looks again.
    wait: u8,
}

/// Bytes of that.
const AGING: usize = 7;

/// Bytes of the table.
pub(super) const PRESSURE: usize = Table::<Aging, AGING>::BYTES;

impl Record<AGING> for Aging {
    fn decode(&[a, b, c, d, vain @ .., wait]: &[u8; AGING]) -> Self {
        Self { mean: u32::from_le_bytes([a, b, c, d]), vain: u16::from_le_bytes(vain), wait }
    }

    fn encode(self) -> [u8; AGING] {
        let ([a, b, c, d], [e, f]) = (self.mean.to_le_bytes(), self.vain.to_le_bytes());
        [a, b, c, d, e, f, self.wait]
    }
}

/// Parts of an epoch; and how many items a mean age is that of, at most.
const PARTS: u32 = 64;

impl<'m> Pressure<'m> {
    /// With [`PRESSURE`] bytes of `memory`; and what is left of that.
    pub(super) fn new(memory: &'m mut [u8]) -> (Self, &'m mut [u8]) {
        let (buckets, rest) = Table::new(memory, Aging { mean: 0, vain: OLDEST, wait: 0 });
        (Self { buckets, next_page: 0 }, rest)
    }

    /// The mean age of a bucket's items.
    fn age(&self, class: ClassId) -> u16 {
        (self.buckets.get(class).mean / PARTS) as u16
    }

    /// The mean age of the items of the bucket with the oldest.
    fn oldest(&self) -> u16 {
        (self.buckets.all().map(|aging| aging.mean).max().unwrap_or(0) / PARTS) as u16
    }

    /// One of so many items of a bucket was found to be so old.
    fn saw(&mut self, class: ClassId, age: u16, items: u32) {
        let weight = (items / 32).clamp(2, PARTS);
        self.buckets.update(class, |Aging { mean, .. }| {
            *mean = *mean - *mean / weight + u32::from(age) * (PARTS / weight);
        });
    }
}

impl Engine<'_> {
    /// Frees pages for a chunk of this bucket, which gives up items of this `age`, if another
    /// bucket keeps its own for longer. Whether it did.
    pub(super) fn take_older(&mut self, class: ClassId, keep: Option<ItemRef>) -> bool {
        let age = self.pressure.age(class);
        let limit = age.saturating_add(age / 2 + MARGIN).min(OLDEST);
        let aging = self.pressure.buckets.get(class);
        if aging.wait > 0 && limit >= aging.vain {
            self.pressure.buckets.set(class, Aging { wait: aging.wait - 1, ..aging });
            return false;
        }
        let Class { span, per_slab, .. } = self.slabs.classes().get(class);
        let taken = limit < OLDEST
            && if span == 1 {
                self.take_slab(class, limit, keep)
            } else {
                self.take_run(span, limit, keep)
            };
        if !taken {
            let wait = per_slab.clamp(4, 32) as u8;
            self.pressure.buckets.update(class, |aging| (aging.vain, aging.wait) = (age, wait));
        }
        taken
    }

    /// Looks at a chunk of this bucket and at one of any, at random: how old the items are there.
    pub(super) fn probe(&mut self, class: ClassId) {
        let chance = self.last_cas.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let pages = u64::from(self.slabs.pages().len());
        let any = self.slabs.pages().slab_of(PageId((chance % pages) as u32));
        let own = self.slabs.next_probed(class);
        for (page, slab) in any.into_iter().chain(own) {
            let number = chance / pages % u64::from(slab.carved).max(1);
            let item = self.slabs.chunk(page, slab.class, number as u16);
            if let Some(age) = item.map(|item| self.age(item)).filter(|&age| age < OLDEST) {
                let items =
                    self.slabs.slabs(slab.class) * self.slabs.classes().get(slab.class).per_slab;
                self.pressure.saw(slab.class, age, items);
            }
        }
    }

    /// Frees pages for a chunk of this bucket, which has none, whatever it takes. `None`
    /// if nothing can be taken without `keep`.
    pub(super) fn take_oldest(&mut self, class: ClassId, keep: Option<ItemRef>) -> Option<()> {
        let span = self.slabs.classes().get(class).span;
        if span == 1 {
            // A slab with old items may hold what was stored lately, too, and be its bucket's only one.
            let limit = MARGIN.max(self.pressure.oldest() / 4);
            if !self.take_slab(class, limit, keep) {
                let (_, page, slab) = self.oldest_slab(class, 0, keep, None)?;
                self.empty_slab(page, slab);
            }
        } else if !self.take_run(span, MARGIN, keep) {
            let places = (self.slabs.pages().len() + 1).checked_sub(span).filter(|&n| n > 0)?;
            let start = (0..places)
                .map(|i| (self.pressure.next_page + i) % places)
                .find(|&at| (at..at + span).all(|page| !self.must_stay(PageId(page), keep)))?;
            self.empty_run(start, span);
        }
        Some(())
    }

    /// The same of a store that keeps its items: pages are taken in which everything has ended.
    pub(super) fn take_dead(&mut self, class: ClassId, keep: Option<ItemRef>) -> Option<()> {
        let span = self.slabs.classes().get(class).span;
        let taken = if span == 1 {
            self.take_slab(class, MOST_LIVE, keep)
        } else {
            self.take_run(span, MOST_LIVE, keep)
        };
        taken.then_some(())
    }

    /// Frees the oldest slab of another bucket, if its items are older than `limit`.
    fn take_slab(&mut self, class: ClassId, limit: u16, keep: Option<ItemRef>) -> bool {
        let mut vain = None;
        for _ in 0..LOOKS {
            let oldest = self.oldest_slab(class, limit, keep, vain);
            let Some((_, page, slab)) = oldest.filter(|&(age, ..)| age > limit) else {
                return false;
            };
            // Where else could the young ones go?
            let alone = self.slabs.slabs(slab.class) == 1 || self.keeps();
            let most = if alone { 0 } else { slab.carved - slab.carved.div_ceil(8) };
            // Of what is left, rather the older half goes; where nothing can be moved, all must be
            // of it.
            let ages = self.samples(page, slab).into_iter().filter(|&age| age < OLDEST);
            let spare = limit.midpoint(ages.max().unwrap_or(0).max(limit));
            let young = self.young(page, slab, if alone { spare } else { limit });
            if young <= most {
                if !alone {
                    self.rescue(page, slab, spare, keep);
                }
                self.empty_slab(page, slab);
                return true;
            }
            vain = Some(page);
            if self.slabs.slab_ahead(slab.class).is_some_and(|(ahead, _)| ahead == page) {
                self.slabs.skip_past(page);
            }
        }
        false
    }

    /// The slab that looks oldest, with its age: of those that come next in their buckets,
    /// and of some at random. Not of this bucket, nor, if live items may go, of one whose items are
    /// no older than `limit` in the mean, and neither the one with the item to keep nor that which
    /// was looked at in vain. If all may go whatever their age, its youngest sample tells a slab's.
    fn oldest_slab(
        &self,
        not: ClassId,
        limit: u16,
        keep: Option<ItemRef>,
        vain: Option<PageId>,
    ) -> Option<(u16, PageId, Slab)> {
        let classes = self.slabs.classes().ids();
        let next = classes.filter_map(|class| self.slabs.slab_ahead(class));
        let pages = self.slabs.pages().len();
        let random = (0..RANDOM_PAGES).filter_map(|i| {
            let page = self.chance().wrapping_add(i.wrapping_mul(0x9e37_79b1)) % pages;
            self.slabs.pages().slab_of(PageId(page))
        });
        let others = next
            .chain(random)
            .filter(|&(page, slab)| slab.class != not && vain != Some(page))
            .filter(|&(page, _)| !self.must_stay(page, keep))
            .filter(|&(_, slab)| {
                limit == 0 || limit >= MOST_LIVE || self.pressure.age(slab.class) > limit
            });
        let telling = if limit == 0 { 0 } else { 2 };
        let aged = others.map(|(page, slab)| (self.samples(page, slab)[telling], page, slab));
        aged.max_by_key(|it| it.0)
    }

    /// A number that differs from one SET to the next.
    fn chance(&self) -> u32 {
        (self.last_cas as u32).wrapping_mul(0x9e37_79b1) >> 8
    }

    /// Frees so many contiguous pages with items older than `limit`, if there are such.
    fn take_run(&mut self, span: u32, limit: u16, keep: Option<ItemRef>) -> bool {
        let pages = self.slabs.pages().len();
        let (mut run, mut looks) = (0, 0);
        // Pages next to each other may hold what was stored last, while others hold older items.
        let limit = limit.max(self.pressure.oldest() / 4);
        for i in 0..RUN_PAGES.min(pages + span) {
            let page = (self.pressure.next_page + i) % pages;
            if page == 0 {
                run = 0;
            }
            let old = match self.slabs.pages().slab_of(PageId(page)) {
                None => true,
                Some((first, slab)) => {
                    !self.must_stay(first, keep) && self.samples(first, slab)[1] > limit
                }
            };
            run = if old { run + 1 } else { 0 };
            if run < span {
                continue;
            }
            let start = page + 1 - span;
            let slab = |page| self.slabs.pages().slab_of(PageId(page));
            if (start..=page).filter_map(slab).all(|(first, slab)| {
                let most = if self.keeps() { 0 } else { slab.carved / 8 };
                self.young(first, slab, limit) <= most
            }) {
                self.empty_run(start, span);
                return true;
            }
            (run, looks) = (0, looks + 1);
            if looks == LOOKS {
                self.pressure.next_page = page + 1;
                break;
            }
        }
        false
    }

    /// Evicts everything that lies in these pages.
    fn empty_run(&mut self, start: u32, span: u32) {
        self.pressure.next_page = start + span;
        for page in start..start + span {
            if let Some((first, slab)) = self.slabs.pages().slab_of(PageId(page)) {
                self.empty_slab(first, slab);
            }
        }
    }

    /// The ages of three chunks of a slab, rising. Others each time.
    fn samples(&self, page: PageId, slab: Slab) -> [u16; 3] {
        let from = self.chance();
        let carved = u32::from(slab.carved).max(1);
        let mut ages = [0, 1, 2].map(|third| {
            let number = (from % carved + third * carved / 3) % carved;
            let item = self.slabs.chunk(page, slab.class, number as u16);
            item.map_or(OLDEST, |item| self.age(item))
        });
        ages.sort_unstable();
        ages
    }

    /// How many items of a slab were used within the last `limit` epochs.
    fn young(&self, page: PageId, slab: Slab, limit: u16) -> u16 {
        self.slabs.chunks(page, slab).filter(|&item| self.age(item) <= limit).count() as u16
    }

    /// Moves the young items of a slab to where its bucket's hand finds free chunks or old
    /// items; those go instead.
    fn rescue(&mut self, page: PageId, slab: Slab, limit: u16, keep: Option<ItemRef>) {
        let mut steps = RESCUE_STEPS * u32::from(slab.carved);
        for young in self.slabs.chunks(page, slab) {
            if self.age(young) > limit {
                continue;
            }
            let place = loop {
                let Some(rest) = steps.checked_sub(1) else { return };
                steps = rest;
                let Some(place) = self.slabs.next_at_hand(slab.class) else { return };
                if self.slabs.page_of(place) == page {
                    continue;
                }
                if self.heap.header(place).state == State::FREE {
                    self.slabs.claim(&mut self.heap, place);
                    break place;
                }
                if self.age(place) > limit && Some(place) != keep && !self.is_held(place) {
                    self.evict(place);
                    break place;
                }
            };
            self.relocate(young, place);
        }
    }

    /// Moves an item to a chunk of the same bucket that was taken for it.
    fn relocate(&mut self, item: ItemRef, place: ItemRef) {
        let header = self.heap.header(item);
        let hash = self.hash_of(item);
        self.heap.copy((item, 0), (place, 0), header.size() - HEADER);
        self.heap.set_header(place, &header);
        self.index.relink(&mut self.heap, hash, item, place);
        if let Some(class) = self.listed(item) {
            self.policy.policy().moved(&mut self.heap, class, item, place);
        }
        self.slabs.give(&mut self.heap, item);
    }

    /// Whether the slab that `page` belongs to must stay: for this item, or one that is held.
    fn must_stay(&self, page: PageId, item: Option<ItemRef>) -> bool {
        let slab = self.slabs.pages().slab_of(page);
        let first = |page| self.slabs.pages().slab_of(page).map(|(first, _)| first);
        slab.is_some_and(|(_, slab)| slab.held > 0)
            || item.is_some_and(|item| first(page) == first(self.slabs.page_of(item)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::classes::MAX_CLASSES;
    use super::super::evict::REAPED;
    use super::super::eviction::STEPS;
    use super::super::{Config, Expiry, Key, Mode, Stored};
    use super::*;
    use std::format;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    fn set(engine: &mut Engine<'_>, name: &str, len: usize) {
        let key = Key::new(name.as_bytes()).unwrap();
        let stored = engine.store(Mode::Set, key, 0, Expiry::NEVER, &vec![b'v'; len]);
        assert_eq!(stored, Stored::Stored);
    }

    fn has(engine: &mut Engine<'_>, name: &str) -> bool {
        engine.get(Key::new(name.as_bytes()).unwrap()).is_some()
    }

    #[test]
    fn new_items_stay_while_there_are_older_ones_of_another_size() {
        let mut memory = vec![0; 4 << 20];
        let mut engine = Engine::new(&mut memory, &Config::default()).unwrap();
        for n in 0..4000 {
            set(&mut engine, &format!("old{n}"), 1380);
        }
        let sizes = [1, 10, 60, 100, 200, 400, 700, 1000];
        let names = |len: usize| (0..300).map(move |n| format!("new{len}-{n}"));
        for len in sizes {
            names(len).for_each(|name| set(&mut engine, &name, len));
        }
        engine.audit();
        for len in sizes {
            let kept = names(len).filter(|name| has(&mut engine, name)).count();
            assert_eq!(kept, 300, "of {len} bytes");
        }
    }

    #[test]
    fn what_is_read_between_old_items_is_moved_out_of_the_way() {
        let mut memory = vec![0; 4 << 20];
        let mut engine = Engine::new(&mut memory, &Config::default()).unwrap();
        for n in 0..2000 {
            set(&mut engine, &format!("old{n}"), 1380);
        }
        let read: Vec<String> = (0..2000).step_by(3).map(|n| format!("old{n}")).collect();
        let read: Vec<String> = read.into_iter().filter(|name| has(&mut engine, name)).collect();
        for n in 0..5000 {
            set(&mut engine, &format!("new{n}"), 200);
            if n % 7 == 0 {
                assert!(read.iter().all(|name| has(&mut engine, name)), "after {n}");
            }
        }
        engine.audit();
        let kept = (0..5000).filter(|n| has(&mut engine, &format!("new{n}"))).count();
        // A look in vain costs a few.
        assert!(kept > 4900, "{kept} of 5000");
    }

    #[test]
    fn no_set_looks_at_more_than_a_few_slabs() {
        let mut memory = vec![0; 16 << 20];
        let config = Config::default();
        let mut engine = Engine::new(&mut memory, &config).unwrap();
        // Two for the item itself; each eviction reads a chain, of five at most nearly always.
        let per_slab = u64::from(config.page_size / config.min_chunk);
        let sampled = 3 * u64::from(LOOKS) * (MAX_CLASSES as u64).max(u64::from(RUN_PAGES));
        let bound = u64::from(STEPS + REAPED)
            + sampled
            + per_slab * u64::from(LOOKS + 3 * RESCUE_STEPS + 10);
        let (mut worst, mut total, mut n) = (0, 0, 0_u64);
        // Tiny items, some of them read so that slabs are half young; all sizes; large
        // ones; tiny ones again, over dead ones.
        for (phase, sizes) in
            [&[1][..], &[1, 900], &[1, 30, 200, 3000], &[90_000, 1], &[1]].into_iter().enumerate()
        {
            for i in 0..150_000_usize {
                n += 1;
                let len = sizes[i % sizes.len()];
                if len > 50_000 && i % 100 != 0 {
                    continue;
                }
                let before = engine.heap.reads.get();
                set(&mut engine, &format!("{n}"), len);
                let reads = engine.heap.reads.get() - before;
                (worst, total) = (reads.max(worst), total + reads);
                for back in [100, 5000, 60_000] {
                    if n % 2 == 0 && n > back {
                        has(&mut engine, &format!("{}", n - back));
                    }
                }
            }
            if phase == 3 {
                engine.flush();
            }
        }
        assert!(engine.stats().evictions > 100_000);
        assert!(worst <= bound, "{worst} headers read by one SET, more than {bound}");
        assert!(total / n < 40, "{} headers read by a SET in the middle", total / n);
    }
}
