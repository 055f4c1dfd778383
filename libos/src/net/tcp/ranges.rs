//! Ranges of sequence numbers apart from each other: what was received out of order, and what
//! the peer says it has so received (selective acknowledgements, RFC 2018).
//!
//! The range changed last stands first, which is the order in which RFC 2018 (section 4) wants
//! them reported. There are few, so that neither memory nor time grows with what a peer sends.

use super::seq::Seq;

/// Ranges remembered; as many as RFC 2018 (section 3) expects peers to report.
pub(super) const RANGES: usize = 3;

/// Up to [`RANGES`] ranges, none empty, none touching another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ranges {
    starts: [Seq; RANGES],
    /// All lie within a buffer.
    lengths: [u16; RANGES],
    count: u8,
}

impl Ranges {
    /// The ranges, the one changed last first; from the first byte to the one behind the last.
    #[inline]
    pub(super) fn all(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let ranges = self.starts.iter().zip(self.lengths).take(self.count.into());
        ranges.map(|(&start, length)| (start, start + u32::from(length)))
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn len(&self) -> u8 {
        self.count
    }

    pub(super) const fn clear(&mut self) {
        self.count = 0;
    }

    fn push(&mut self, start: Seq, end: Seq) -> bool {
        let index = usize::from(self.count);
        let (Some(place), Some(length)) = (self.starts.get_mut(index), self.lengths.get_mut(index))
        else {
            return false;
        };
        let Ok(bytes) = u16::try_from(end - start) else { return false };
        (*place, *length) = (start, bytes);
        self.count += 1;
        true
    }

    /// Adds what lies from `start` to before `end`. Returns whether there was room.
    #[must_use]
    pub(super) fn add(&mut self, start: Seq, end: Seq) -> bool {
        let apart = |&(first, last): &(Seq, Seq)| last.before(start) || end.before(first);
        let (mut all, mut joined) = (Self::default(), (start, end));
        for (first, last) in self.all().filter(|range| !apart(range)) {
            joined = (joined.0.min(first), joined.1.max(last));
        }
        let fits = all.push(joined.0, joined.1)
            && self.all().filter(apart).all(|(first, last)| all.push(first, last));
        if fits {
            *self = all;
        }
        fits
    }

    /// Forgets all that lies before `seq`.
    pub(super) fn pass(&mut self, seq: Seq) {
        if self.is_empty() {
            return;
        }
        let mut left = Self::default();
        for (start, end) in self.all().filter(|range| range.1.after(seq)) {
            left.push(start.max(seq), end);
        }
        *self = left;
    }

    /// The end of the range that holds `seq`.
    pub(super) fn end_of(&self, seq: Seq) -> Option<Seq> {
        let holds = |&(start, end): &(Seq, Seq)| !seq.before(start) && seq.before(end);
        self.all().find(holds).map(|range| range.1)
    }

    /// Where the next range behind `seq` starts.
    pub(super) fn start_after(&self, seq: Seq) -> Option<Seq> {
        let starts = self.all().map(|range| range.0).filter(|start| start.after(seq));
        starts.reduce(Seq::min)
    }

    /// Where the last range ends.
    pub(super) fn last(&self) -> Option<Seq> {
        self.all().map(|range| range.1).reduce(Seq::max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{RANGES, Ranges};
    use crate::net::tcp::seq::Seq;

    #[test]
    fn the_last_changed_stands_first_and_too_many_are_refused() {
        let mut ranges = Ranges::default();
        for n in 0..RANGES as u32 {
            assert!(ranges.add(Seq(n * 10), Seq(n * 10 + 5)));
            assert_eq!(ranges.all().next(), Some((Seq(n * 10), Seq(n * 10 + 5))));
        }
        assert!(!ranges.add(Seq(100), Seq(105)));
        assert!(ranges.add(Seq(5), Seq(12)), "joins two");
        assert_eq!(ranges.all().collect::<Vec<_>>(), [(Seq(0), Seq(15)), (Seq(20), Seq(25))]);
        assert_eq!((ranges.last(), ranges.start_after(Seq(3))), (Some(Seq(25)), Some(Seq(20))));
        ranges.pass(Seq(22));
        assert_eq!(ranges.all().collect::<Vec<_>>(), [(Seq(22), Seq(25))]);
        assert_eq!((ranges.end_of(Seq(24)), ranges.end_of(Seq(25))), (Some(Seq(25)), None));
    }

    proptest! {
        /// As a set of bytes, across the wrap.
        #[test]
        fn is_a_set(adds in prop::collection::vec((0_u32..200, 1_u32..30), 1..40), base: u32) {
            let (mut ranges, mut bytes) = (Ranges::default(), [false; 256]);
            for (start, length) in adds {
                let (from, to) = (Seq(base) + start, Seq(base) + (start + length));
                if ranges.add(from, to) {
                    bytes[start as usize..(start + length) as usize].fill(true);
                }
                for (n, byte) in bytes.iter().enumerate() {
                    let held = ranges.end_of(Seq(base) + n as u32).is_some();
                    prop_assert_eq!(held, *byte);
                }
                for (_, end) in ranges.all() {
                    prop_assert!(ranges.all().all(|(start, _)| start != end), "they touch");
                }
            }
        }
    }
}
