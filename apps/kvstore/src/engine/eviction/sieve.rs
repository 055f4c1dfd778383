//! SIEVE (Zhang and others, NSDI 2024).
//!
//! A queue in the order in which items were stored, and a hand that goes from the oldest to the
//! newest, then begins anew. An item that was read since the hand last passed stays where it is;
//! the first one that was not is the victim. Since what stays is not taken to the front, the hand
//! reaches new items soon, and those that nothing reads leave before they push others out.

use super::super::classes::ClassId;
use super::super::item::{Heap, ItemRef};
use super::lists::{Links, ListId, Lists};
use super::{Candidate, Policy, STEPS, View};

/// Each bucket has one list, with the hand.
pub(in super::super) struct Sieve<'m> {
    lists: Lists<'m>,
}

impl<'m> Sieve<'m> {
    pub(super) fn new(lists: Lists<'m>) -> Self {
        Self { lists }
    }
}

impl Policy for Sieve<'_> {
    fn stored(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef, _: u32) {
        self.lists.push(heap, ListId::first_of(class), item);
    }

    fn replaced(&mut self, heap: &mut Heap<'_>, _: ClassId, item: ItemRef) {
        let state = heap.header(item).state;
        heap.set_state(item, state.warmed());
    }

    fn used(&mut self, _: &mut Heap<'_>, _: ClassId, _: ItemRef) {}

    fn moved(&mut self, heap: &mut Heap<'_>, class: ClassId, from: ItemRef, to: ItemRef) {
        self.lists.moved(heap, class, from, to);
    }

    fn removed(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef, _: u32, _: bool) {
        self.lists.remove(heap, class, item);
    }

    fn victim(&mut self, view: &mut View<'_, '_>, class: ClassId) -> Option<ItemRef> {
        let list = ListId::first_of(class);
        for step in 0..=STEPS {
            let item = self.lists.hand(list).or(self.lists.oldest(list))?;
            match view.candidate(item) {
                Candidate::Stays => {}
                Candidate::Live(state) if state.is_warm() && step < STEPS => {
                    view.heap.set_state(item, state.cooled());
                }
                _ => {
                    self.lists.set_hand(list, Some(item));
                    return Some(item);
                }
            }
            self.lists.set_hand(list, Links::of(view.heap, item).newer);
        }
        None
    }

    #[cfg(test)]
    fn audit(&self, heap: &Heap<'_>, class: ClassId) -> Option<u64> {
        Some(self.lists.audit(heap, class))
    }
}
