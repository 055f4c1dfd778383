//! S3-FIFO (Yang and others, SOSP 2023).
//!
//! A new item enters a short queue, a tenth of its bucket. At its end an item that was read goes
//! on to the long queue; one that was not is the victim, and its hash is remembered as a *ghost*:
//! if it is stored again soon it enters the long queue at once. At the end of the long queue an
//! item that was read goes to its front again, as often as it was read, up to twice.
//!
//! Ghosts are 16 bits in a table as long as the index: twelve of the hash, and four of the time,
//! which passes by an eighth of the items in the long queues. After eight of these a ghost is
//! forgotten.

use super::super::classes::ClassId;
use super::super::item::{Heap, ItemRef};
use super::lists::{Links, ListId, Lists};
use super::{Candidate, Policy, STEPS, View};

/// Which part of a bucket's items the short queue has.
const SHORT: u32 = 10;

/// The first list of a bucket is the short queue, the second the long one.
pub(in super::super) struct S3Fifo<'m> {
    lists: Lists<'m>,
    ghosts: Ghosts<'m>,
    /// Items in all long queues.
    long: u32,
}

impl<'m> S3Fifo<'m> {
    pub(super) fn new(lists: Lists<'m>, ghosts: Ghosts<'m>) -> Self {
        Self { lists, ghosts, long: 0 }
    }
}

impl Policy for S3Fifo<'_> {
    fn stored(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef, hash: u32) {
        let second = self.ghosts.take(hash);
        self.long += u32::from(second);
        self.lists.push(heap, ListId { class, second }, item);
    }

    fn replaced(&mut self, heap: &mut Heap<'_>, _: ClassId, item: ItemRef) {
        let state = heap.header(item).state;
        heap.set_state(item, state.warmed());
    }

    fn used(&mut self, heap: &mut Heap<'_>, _: ClassId, item: ItemRef) {
        if heap.header(item).state.is_warm() {
            let links = Links::of(heap, item);
            Links { often: true, ..links }.write(heap, item);
        }
    }

    fn moved(&mut self, heap: &mut Heap<'_>, class: ClassId, from: ItemRef, to: ItemRef) {
        self.lists.moved(heap, class, from, to);
    }

    fn removed(
        &mut self,
        heap: &mut Heap<'_>,
        class: ClassId,
        item: ItemRef,
        hash: u32,
        evicted: bool,
    ) {
        if self.lists.remove(heap, class, item).second {
            self.long -= 1;
        } else if evicted {
            self.ghosts.add(hash, self.long);
        }
    }

    fn victim(&mut self, view: &mut View<'_, '_>, class: ClassId) -> Option<ItemRef> {
        let (short, long) = (ListId::first_of(class), ListId::second_of(class));
        for step in 0..=STEPS {
            let (of_short, of_long) = (self.lists.len(short), self.lists.len(long));
            let second = of_short <= (of_short + of_long) / SHORT && of_long > 0;
            let item = self.lists.oldest(ListId { class, second })?;
            match view.candidate(item) {
                Candidate::Stays => self.lists.take_to(view.heap, ListId { class, second }, item),
                Candidate::Live(state) if state.is_warm() && step < STEPS => {
                    let often = second && Links::of(view.heap, item).often;
                    self.lists.take_to(view.heap, long, item);
                    self.long += u32::from(!second);
                    if !often {
                        view.heap.set_state(item, state.cooled());
                    }
                }
                _ => return Some(item),
            }
        }
        None
    }

    #[cfg(test)]
    fn audit(&self, heap: &Heap<'_>, class: ClassId) -> Option<u64> {
        Some(self.lists.audit(heap, class))
    }
}

/// Hashes of items that left a short queue unread.
pub(super) struct Ghosts<'m> {
    /// Two places for each hash. Zero is none.
    places: &'m mut [[u8; 2]],
    /// The time, of 16.
    time: u16,
    /// How many came since it changed.
    came: u32,
}

/// Times after which a ghost is forgotten.
const AGES: u16 = 8;

impl<'m> Ghosts<'m> {
    /// None. `places` must be a power of two in number.
    pub(super) fn new(places: &'m mut [[u8; 2]]) -> Self {
        places.fill([0; 2]);
        Self { places, time: 0, came: 0 }
    }

    /// Remembers a hash for as long as `span` others come.
    fn add(&mut self, hash: u32, span: u32) {
        self.came += 1;
        if self.came > span / u32::from(AGES) {
            (self.time, self.came) = ((self.time + 1) % 16, 0);
        }
        let [a, b] = self.pair(hash);
        let older = if self.age(a) >= self.age(b) { a } else { b };
        if let Some(place) = self.places.get_mut(older) {
            *place = (Self::mark(hash) | self.time).to_le_bytes();
        }
    }

    /// Whether a hash is remembered. No longer, then.
    fn take(&mut self, hash: u32) -> bool {
        let mark = Self::mark(hash);
        for place in self.pair(hash) {
            if self.word(place) & !15 == mark && self.age(place) <= AGES {
                self.places[place] = [0; 2];
                return true;
            }
        }
        false
    }

    /// Twelve bits of a hash, not all of them zero. The index is looked up by lower ones.
    fn mark(hash: u32) -> u16 {
        ((hash >> 20) as u16).max(1) << 4
    }

    fn pair(&self, hash: u32) -> [usize; 2] {
        let first = hash as usize & (self.places.len() - 1);
        [first, first ^ 1]
    }

    fn word(&self, place: usize) -> u16 {
        self.places.get(place).map_or(0, |word| u16::from_le_bytes(*word))
    }

    fn age(&self, place: usize) -> u16 {
        match self.word(place) {
            0 => u16::MAX,
            word => (self.time + 16 - word % 16) % 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghosts_are_remembered_once_and_for_a_while() {
        let mut places = [[0xff; 2]; 256];
        let mut ghosts = Ghosts::new(&mut places);
        let hash = |n: u32| n.wrapping_mul(0x9e37_79b1);
        assert!(!ghosts.take(hash(0)));
        ghosts.add(hash(0), 80);
        assert!(ghosts.take(hash(0)) && !ghosts.take(hash(0)));
        for n in 0..100 {
            ghosts.add(hash(n), 80);
        }
        // Two of three or so: places are found by hash, and there are as many as items.
        let young = (90..100).filter(|&n| ghosts.take(hash(n))).count();
        let old = (0..10).filter(|&n| ghosts.take(hash(n))).count();
        assert!(young >= 8 && old <= 1, "{young} young, {old} old");
    }
}
