//! A ring of numbers in memory that two applications have: one puts in, one takes out.
//!
//! Two words count what was put in and taken out; each is written by one side. They are kept in
//! network order (`condition::put`), so that the other side can sleep until they change.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use libos::condition::{get, put};

/// One side's view of the memory.
pub(crate) struct Ring<'a> {
    given: &'a AtomicU64,
    taken: &'a AtomicU64,
    slots: &'a [AtomicU64],
}

impl<'a> Ring<'a> {
    /// A ring in `memory`, of at least three words, zeroed at first.
    pub(crate) fn new(memory: &'a [AtomicU64]) -> Self {
        let (counts, slots) = memory.split_at(2);
        Self { given: &counts[0], taken: &counts[1], slots }
    }

    /// Puts a number in. False if there is no room.
    pub(crate) fn push(&self, value: u64) -> bool {
        let given = get(self.given);
        if given - get(self.taken) >= self.slots.len() as u64 {
            return false;
        }
        self.slot(given).store(value, Relaxed);
        // What is in the slot is seen before this.
        put(self.given, given + 1);
        true
    }

    /// The number that was put in first, if there is one.
    pub(crate) fn first(&self) -> Option<u64> {
        let taken = get(self.taken);
        (taken < get(self.given)).then(|| self.slot(taken).load(Relaxed))
    }

    /// Takes it out: the other side may use its slot again.
    pub(crate) fn remove(&self) {
        put(self.taken, get(self.taken) + 1);
    }

    /// How many were put in: the word to sleep on, and what it says.
    pub(crate) fn given(&self) -> &AtomicU64 {
        self.given
    }

    /// What [`Ring::given`] says now.
    pub(crate) fn count(&self) -> u64 {
        get(self.given)
    }

    /// How many were taken out.
    pub(crate) fn taken(&self) -> &AtomicU64 {
        self.taken
    }

    /// What [`Ring::given`] says when there is another.
    pub(crate) fn next(&self) -> u64 {
        get(self.taken) + 1
    }

    fn slot(&self, count: u64) -> &AtomicU64 {
        &self.slots[(count % self.slots.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_and_no_more_than_fit() {
        let memory = [const { AtomicU64::new(0) }; 5];
        let (producer, consumer) = (Ring::new(&memory), Ring::new(&memory));
        for round in 0..10 {
            assert_eq!(consumer.first(), None);
            assert!((0..3).all(|value| producer.push(10 * round + value)));
            assert!(!producer.push(9), "there is no room");
            for value in 0..3 {
                assert_eq!(consumer.first(), Some(10 * round + value));
                consumer.remove();
            }
        }
        assert_eq!((producer.count(), consumer.next()), (30, 31));
        assert_eq!((get(consumer.given()), get(producer.taken())), (30, 30));
    }
}
