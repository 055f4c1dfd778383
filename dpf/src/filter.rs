//! A filter as the kernel has it: a few tests in a row, and what they mean.
//!
//! Tests count from a *base*, which is the start of the Ethernet header until a
//! [`Test::Shift`] moves it on by a length that stands in the frame itself, such as the IPv4
//! header's. There is nothing else: no alternatives, no negation, no loops.
//!
//! [`Filter::matches`] is the meaning of a filter, and what a condition on memory is tried with;
//! frames go through code that is made of many filters. How a filter is written, and brought
//! into this form, is for those that write filters: the feature `language`.

use crate::test::{Field, Test, WINDOW, ones};

/// The most tests of a filter, and the depth of the trie.
pub const MAX_ATOMS: usize = 12;
/// The most shifts of a filter.
pub const MAX_SHIFTS: usize = 2;
/// Longest frame in bytes: Ethernet header and 1500 bytes of payload, no FCS.
pub const MAX_FRAME: usize = 1514;
/// Length of the Ethernet header in bytes. A shorter frame matches no filter.
pub const MIN_FRAME: usize = 14;

/// A filter: a plain value of fixed size.
///
/// What one can hold has been checked ([`Filter::decode`]), so code that holds one need not
/// check it again. Equal filters match the same frames; of those made by the language the
/// reverse holds, too, if they have no shifts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// The first `count`; the rest are vacant.
    tests: [Test; MAX_ATOMS],
    count: u8,
}

impl Filter {
    /// Of no tests, to be filled.
    pub(crate) const EMPTY: Self = Self { tests: [Test::VACANT; MAX_ATOMS], count: 0 };

    /// Whether `frame`, from its Ethernet header on, matches this one filter.
    pub fn matches(&self, frame: &[u8]) -> bool {
        frame.len() >= MIN_FRAME
            && self.tests().try_fold(0, |base, test| test.pass(frame, base)).is_some()
    }

    /// How much of a frame, in bytes, can influence the answer at most. Without shifts that
    /// is also the length of the shortest frame that can match.
    pub fn reach(&self) -> usize {
        let mut base = 0;
        self.tests().fold(MIN_FRAME, |reach, test| {
            let reach = reach.max(base + test.end());
            if let Test::Shift { scale, hi, .. } = test {
                base += usize::from(*hi) << scale;
            }
            reach
        })
    }

    /// How many tests it has, at least one.
    pub fn length(&self) -> usize {
        self.count.into()
    }

    /// Appends a test; `None` if there is no room.
    pub(crate) fn push(&mut self, test: Test) -> Option<()> {
        *self.tests.get_mut(usize::from(self.count))? = test;
        self.count += 1;
        Some(())
    }

    /// The tests, in order. The language puts together what is relative to one base: first
    /// [`Test::Bits`] by ascending position, then [`Test::Range`] likewise, then the
    /// [`Test::Shift`] that ends it, which has the bounds of its field.
    pub(crate) fn tests(&self) -> impl DoubleEndedIterator<Item = &Test> + ExactSizeIterator {
        self.tests.iter().take(usize::from(self.count))
    }
}

impl Test {
    /// The base for what follows, if `frame` passes the test at `base`.
    #[inline]
    pub(crate) fn pass(&self, frame: &[u8], base: u16) -> Option<u16> {
        match *self {
            Self::Bits { at, mask, value } => {
                let window = u64::from_le_bytes(window(frame, base, at)?);
                (window & mask == value).then_some(base)
            }
            Self::Range { field, lo, hi } => {
                (lo..=hi).contains(&field.load(frame, base)?).then_some(base)
            }
            Self::Shift { field, scale, lo, hi } => {
                let value = field.load(frame, base)? as u8;
                (lo..=hi).contains(&value).then(|| base + (u16::from(value) << scale))
            }
        }
    }
}

impl Field {
    /// The value of the field in `frame`, or `None` if the frame ends before it does.
    fn load(self, frame: &[u8], base: u16) -> Option<u64> {
        let window = u64::from_be_bytes(window(frame, base, self.at())?);
        Some(window >> self.low() & ones(self.bits))
    }
}

/// The bytes of the window at `at` from `base` on.
#[inline]
pub(crate) fn window(frame: &[u8], base: u16, at: u16) -> Option<[u8; WINDOW]> {
    let at = usize::from(base) + usize::from(at);
    frame.get(at..at + WINDOW)?.first_chunk().copied()
}
