//! What a chunk holds, and when it was last used.
//!
//! Age is told in *epochs*: one has passed when a 256th part of the heap has been
//! stored. So an item of age 256 has seen as much stored since its last use as the
//! whole heap holds, whatever the sizes, and ages of items in different buckets can be
//! compared. A clock of seconds would say nothing under a burst and too much when
//! no client stores.
//!
//! Sixteen bits hold it all: twelve of the epoch, two of how often the item was read, whether it
//! was read since it was stored, and since the clock hand last passed. The epochs come round after
//! 16 heaps; an item that was neither used nor evicted for so long would look young for a while.

/// Epochs after which they come round.
const ROUND: u16 = 0xfff;

/// The older of two ages is larger. No item is of this age: it stands for what may go at
/// once.
pub(super) const OLDEST: u16 = ROUND;

/// A time, in epochs: from 1 to [`ROUND`], in the upper twelve bits; of the others the lower two
/// are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u16);

impl Epoch {
    pub(super) const FIRST: Self = Self(1 << EPOCH | 3);

    pub(super) fn next(self) -> Self {
        let number = self.0 >> EPOCH;
        Self((number % ROUND + 1) << EPOCH | 3)
    }

    /// Epochs from `before` to this one.
    pub(super) fn since(self, before: Self) -> u16 {
        let (now, before) = (self.0 >> EPOCH, before.0 >> EPOCH);
        if before <= now { now - before } else { now + ROUND - before }
    }
}

/// The bits below an epoch.
const EPOCH: u32 = 4;

/// The bits of how often an item was read.
pub(super) const READS: u16 = 3 << 2;

/// What a chunk holds. Zero is [`State::FREE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub(super) u16);

impl State {
    /// No item.
    pub(super) const FREE: Self = Self(0);

    /// An item that clients do not see: on its way in, or held though it was replaced
    /// ([`super::hold`]). (There is no epoch 0.)
    pub(super) const UNLINKED: Self = Self(1);

    /// An item just stored: cold, until it is read.
    pub(super) fn stored(now: Epoch) -> Self {
        Self(now.0 & !3)
    }

    /// An item just read.
    #[inline(always)]
    pub(super) fn read(now: Epoch) -> Self {
        Self(now.0)
    }

    /// The same item, read now: in one more epoch or second than before.
    pub(super) fn read_again(self, now: Epoch) -> Self {
        let more = (self.0 & READS) + (1 << 2);
        Self(now.0 | more.min(READS))
    }

    /// An item just stored in place of this one, with whose key it was read so often.
    pub(super) fn replaced(self, now: Epoch) -> Self {
        Self(Self::stored(now).0 | self.0 & READS)
    }

    /// In how many epochs or seconds the item, or one that it replaced, was read, up to three.
    pub(super) fn reads(self) -> u16 {
        (self.0 & READS) >> 2
    }

    /// Whether the item was read since the clock hand last passed.
    pub(super) fn is_warm(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the item was ever read.
    pub(super) fn was_read(self) -> bool {
        self.0 & 2 != 0
    }

    /// The same, of an item that was never read.
    pub(super) fn never_read(self) -> Self {
        Self(self.0 & !2)
    }

    /// The same, as if it had been read.
    pub(super) fn warmed(self) -> Self {
        Self(self.0 | 1)
    }

    /// The same, passed by the hand. When it was last used stays.
    pub(super) fn cooled(self) -> Self {
        Self(self.0 & !1)
    }

    /// Epochs since the item was stored or read. [`OLDEST`] if there is no item.
    pub(super) fn age(self, now: Epoch) -> u16 {
        if self == Self::FREE {
            return OLDEST;
        }
        now.since(Epoch(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_count_up_from_any_epoch_and_marks_leave_them_alone() {
        let mut start = Epoch::FIRST;
        for _ in 0..40 {
            let (cold, warm) = (State::stored(start), State::read(start));
            assert!(cold != State::FREE && warm != State::FREE);
            assert!(!cold.is_warm() && warm.is_warm() && !warm.cooled().is_warm());
            assert!(!cold.was_read() && warm.was_read() && warm.cooled().was_read());
            let often = (0..7).fold(cold, |state, _| state.read_again(start));
            assert_eq!([cold, cold.read_again(start), often].map(State::reads), [0, 1, 3]);
            assert!(often.was_read() && !often.replaced(start).was_read());
            assert_eq!(often.replaced(start).reads(), 3);
            let mut now = start;
            for age in 0..ROUND {
                assert_eq!((cold.age(now), warm.age(now)), (age, age));
                now = now.next();
            }
            assert_eq!(now, start);
            for _ in 0..1021 {
                start = start.next();
            }
        }
        assert_eq!(State::FREE.age(start), OLDEST);
    }
}
