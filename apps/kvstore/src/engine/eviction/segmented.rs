//! Segmented LRU (Karedla, Love and Wherry, 1994), which memcached's own is a relative of.
//!
//! A new item is on probation. Read again there it is protected. Of each list the least recently
//! used one is at the end; the protected list has at most four in five of a bucket's items, and
//! what falls out of it is on probation again. Victims are taken from probation.

use super::super::classes::ClassId;
use super::super::item::{Heap, ItemRef};
use super::lists::{Links, ListId, Lists};
use super::{Candidate, Policy, STEPS, View};

/// The first list of a bucket is that of items on probation, the second of those protected.
pub(in super::super) struct Segmented<'m> {
    lists: Lists<'m>,
}

impl<'m> Segmented<'m> {
    pub(super) fn new(lists: Lists<'m>) -> Self {
        Self { lists }
    }
}

impl Policy for Segmented<'_> {
    fn stored(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef, _: u32) {
        self.lists.push(heap, ListId::first_of(class), item);
    }

    fn replaced(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef) {
        let second = Links::of(heap, item).second;
        self.lists.take_to(heap, ListId { class, second }, item);
    }

    fn used(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef) {
        let (probation, protected) = (ListId::first_of(class), ListId::second_of(class));
        self.lists.take_to(heap, protected, item);
        let all = self.lists.len(probation) + self.lists.len(protected);
        if self.lists.len(protected) > all / 5 * 4
            && let Some(last) = self.lists.oldest(protected).filter(|&last| last != item)
        {
            self.lists.take_to(heap, probation, last);
        }
    }

    fn moved(&mut self, heap: &mut Heap<'_>, class: ClassId, from: ItemRef, to: ItemRef) {
        self.lists.moved(heap, class, from, to);
    }

    fn removed(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef, _: u32, _: bool) {
        self.lists.remove(heap, class, item);
    }

    fn victim(&mut self, view: &mut View<'_, '_>, class: ClassId) -> Option<ItemRef> {
        for _ in 0..=STEPS {
            let lists = [ListId::first_of(class), ListId::second_of(class)];
            let item = lists.iter().find_map(|&list| self.lists.oldest(list))?;
            if view.candidate(item) != Candidate::Stays {
                return Some(item);
            }
            self.lists.take_to(view.heap, ListId::second_of(class), item);
        }
        None
    }

    #[cfg(test)]
    fn audit(&self, heap: &Heap<'_>, class: ClassId) -> Option<u64> {
        Some(self.lists.audit(heap, class))
    }
}
