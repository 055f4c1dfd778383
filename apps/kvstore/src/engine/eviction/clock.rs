//! CLOCK.
//!
//! A hand goes round the chunks of a bucket as they lie, and an item that was read since the hand
//! last passed is spared once. It approximates least-recently-used without a list, and so without
//! a byte for each item. Items that have expired or been flushed go first, whether read or not.

use super::super::classes::ClassId;
use super::super::item::ItemRef;
use super::{Candidate, Policy, STEPS, View};

/// The hands stand with the buckets ([`super::super::slabs`]).
pub(in super::super) struct Clock;

impl Policy for Clock {
    fn victim(&mut self, view: &mut View<'_, '_>, class: ClassId) -> Option<ItemRef> {
        for step in 0..=STEPS {
            let item = view.slabs.next_at_hand(class)?;
            match view.candidate(item) {
                Candidate::Stays => {}
                Candidate::Live(state) if state.is_warm() && step < STEPS => {
                    view.heap.set_state(item, state.cooled());
                }
                _ => return Some(item),
            }
        }
        None
    }
}
