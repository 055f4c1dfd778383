//! The best candidate of a sample.
//!
//! [`SAMPLE`] items of the bucket are looked at, at random, and the one that goes is the one not
//! used for longest, where an item counts as unused for longer the less often it was read. So no
//! order has to be kept: no link for an item, nothing to do for a read but the stamp
//! that is written anyway. Among sixteen the oldest is, in the mean, among the oldest
//! seventeenth of all, which is close to an exact order.
//!
//! How often an item was read, two bits of its state tell: in how many epochs or seconds, up to
//! three. An item that was never read since it was stored leaves soon, as from the short queue of
//! S3-FIFO: what is asked for once does not push out what is asked for again.

use super::super::chance::Chance;
use super::super::classes::ClassId;
use super::super::item::ItemRef;
use super::super::state::State;
use super::{Candidate, Policy, View};

/// How many items are looked at.
pub(in super::super) const SAMPLE: u32 = 16;

/// By how often an item was read: as how many times its age it counts.
const WEIGHTS: [u32; 4] = [8, 4, 2, 1];

/// It keeps where chance stands.
pub(in super::super) struct Sampled {
    chance: Chance,
}

impl Sampled {
    pub(super) fn new() -> Self {
        Self { chance: Chance::new() }
    }

    /// A number below `n`, at random.
    fn below(&mut self, n: u16) -> u16 {
        (((self.chance.next() >> 16) * u32::from(n)) >> 16) as u16
    }
}

impl Policy for Sampled {
    fn victim(&mut self, view: &mut View<'_, '_>, class: ClassId) -> Option<ItemRef> {
        // Slabs in turn, a chunk of each: from another one each time, however many there are.
        if self.below(2) == 0 {
            view.slabs.next_probed(class);
        }
        let mut best: Option<(u32, ItemRef)> = None;
        for _ in 0..SAMPLE {
            let (page, slab) = view.slabs.next_probed(class)?;
            let number = self.below(slab.carved);
            let Some(item) = view.slabs.chunk(page, class, number) else { continue };
            match view.candidate(item) {
                Candidate::Stays => {}
                Candidate::Dead => return Some(item),
                Candidate::Live(state) => {
                    let score = score(state, state.age(view.epoch));
                    if best.is_none_or(|(most, _)| score > most) {
                        best = Some((score, item));
                    }
                }
            }
        }
        // None that can go: where there are few, the hand finds them.
        best.map(|(_, item)| item).or_else(|| view.next_that_can_go(class))
    }
}

/// The item with the highest goes. Of two of no age the one goes that was read less often.
fn score(state: State, age: u16) -> u32 {
    (u32::from(age) + 1) * WEIGHTS[usize::from(state.reads())]
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Epoch;
    use super::*;

    #[test]
    fn what_is_older_or_read_less_goes_first() {
        let mut now = Epoch::FIRST;
        let stored = State::stored(now);
        (0..3).for_each(|_| now = now.next());
        let read = stored.read_again(now);
        let often = (0..5).fold(stored, |state, _| state.read_again(now));
        assert!(score(stored, stored.age(now)) > score(read, read.age(now)));
        assert!(score(read, 5) > score(often, 5));
        assert!(score(read, 7) > score(read, 6));
        assert!(score(often, 100) > score(stored, 5), "in the end everything goes");
    }
}
