//! What a filter can say.
//!
//! A [`Filter`] is a conjunction of [`Atom`]s, and an atom says that some bits
//! of the frame, counted from the start of the Ethernet header, have a given
//! value. So a filter is nothing but a set of pinned bits and the length of the
//! shortest frame that holds them all, and it has exactly one canonical form:
//!
//! * every test is one 64-bit window of the frame, a mask and a value. An atom
//!   narrower than eight bytes becomes the window that *ends* where the atom
//!   ended, so a window asks for no longer a frame than its atom did. This is
//!   why a frame shorter than an Ethernet header matches nothing: it lets the
//!   windows of atoms that end before byte 8 start at byte 0;
//! * windows are laid greedily from the end of the filter towards the start,
//!   each over all pinned bits it can hold, so abutting atoms merge into one
//!   load (UDP's ethertype, fragment bits, protocol, address and port are three);
//! * tests are sorted by position and no bit is pinned by two of them.
//!
//! Two filters that take the same frames are equal values, however they were
//! written. Within a window bytes are little-endian, byte 0 of the window in
//! the low bits: on x86-64 the interpreter's load needs no byte swap.
//!
//! Later instructions (ordered comparison, variable-length headers) are further
//! kinds of test; they must keep [`overlap`](crate::overlap()) exact.

use core::fmt;

/// The most atoms one filter may have, and the depth of the trie.
pub const MAX_ATOMS: usize = 16;
/// Longest frame in bytes: Ethernet header and 1500 bytes of payload, no FCS.
pub const MAX_FRAME: usize = 1514;
/// Length of the Ethernet header in bytes. A shorter frame matches no filter.
pub const MIN_FRAME: usize = 14;

/// Bytes in a window.
pub(crate) const WINDOW: usize = 8;

/// `load(offset, width) & mask == value`, the load in network byte order.
///
/// This is how a filter is written; [`Filter::new`] says what is refused.
/// A frame that ends before `offset + width` does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atom {
    /// First byte of the field, counted from the start of the Ethernet header.
    pub offset: u16,
    /// Bytes loaded: 1, 2, 4 or 8.
    pub width: u8,
    /// The bits that count. Not zero, and none above `width` bytes.
    pub mask: u64,
    /// What they must be. No bit outside `mask`.
    pub value: u64,
}

impl Atom {
    /// The whole field of `width` bytes at `offset` equals `value`.
    pub const fn exact(offset: u16, width: u8, value: u64) -> Self {
        Self { offset, width, mask: Self::field(width), value }
    }

    /// All ones in a field of `width` bytes.
    pub(crate) const fn field(width: u8) -> u64 {
        match width {
            0..8 => (1 << (8 * width)) - 1,
            _ => u64::MAX,
        }
    }
}

/// A verified filter in canonical form: a plain value of fixed size.
///
/// Made only by [`Filter::new`], [`Filter::decode`] and what builds on them, so
/// whoever holds one need not check it again. `==` is equality of the sets of
/// frames that match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// The first `count`, sorted, with disjoint bits; the rest are vacant.
    tests: [Test; MAX_ATOMS],
    count: u8,
}

impl Filter {
    /// Wraps what the verifier made canonical.
    pub(crate) fn from_canonical(tests: [Test; MAX_ATOMS], count: u8) -> Self {
        Self { tests, count }
    }

    /// The tests, by ascending position: at least one, at most [`MAX_ATOMS`].
    pub(crate) fn tests(&self) -> impl DoubleEndedIterator<Item = &Test> + ExactSizeIterator {
        self.tests.iter().take(usize::from(self.count))
    }

    /// The canonical form as atoms, each eight bytes wide, by ascending offset.
    pub fn atoms(&self) -> impl ExactSizeIterator<Item = Atom> + '_ {
        self.tests().map(|test| Atom {
            offset: test.at,
            width: WINDOW as u8,
            mask: test.mask.swap_bytes(),
            value: test.value.swap_bytes(),
        })
    }

    /// Length in bytes of the shortest frame that can match, which is also how
    /// much of a frame can influence the answer.
    pub fn reach(&self) -> usize {
        self.tests().map(Test::end).fold(MIN_FRAME, usize::max)
    }

    /// How specific the filter is: pinned bits first, then reach. Never zero.
    /// If `a` implies `b` and they differ, `a` ranks higher.
    pub(crate) fn rank(&self) -> u32 {
        let bits: u32 = self.tests().map(|test| test.mask.count_ones()).sum();
        bits << 16 | self.reach() as u32
    }

    /// The bits that the filter pins in the window at `at`: (mask, value).
    pub(crate) fn pinned_at(&self, at: u16) -> (u64, u64) {
        self.tests().fold((0, 0), |(mask, value), test| {
            let (m, v) = test.seen_at(at);
            (mask | m, value | v)
        })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.atoms()).finish()
    }
}

/// One canonical test: the window of eight bytes at `at`, masked, has `value`.
///
/// The derived order (position first) is the order of tests in a filter and of
/// siblings in the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    pub(crate) at: u16,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

impl Test {
    /// Pins nothing.
    pub(crate) const VACANT: Self = Self { at: 0, mask: 0, value: 0 };

    /// The window that ends where `atom` ends. `atom.width` must be 1 to 8.
    pub(crate) fn of(atom: &Atom) -> Self {
        let at = (atom.offset + u16::from(atom.width)).saturating_sub(WINDOW as u16);
        let to_window = |field: u64| {
            let first_byte_low = (field << (64 - 8 * atom.width)).swap_bytes();
            first_byte_low << (8 * (atom.offset - at))
        };
        Self { at, mask: to_window(atom.mask), value: to_window(atom.value) }
    }

    /// One past the last byte of the window.
    pub(crate) fn end(&self) -> usize {
        usize::from(self.at) + WINDOW
    }

    /// One past the last byte that has a pinned bit.
    pub(crate) fn pinned_end(&self) -> Option<usize> {
        (self.mask != 0).then(|| self.end() - self.mask.leading_zeros() as usize / 8)
    }

    /// What this test pins of the window at `at`: (mask, value).
    #[inline]
    pub(crate) fn seen_at(&self, at: u16) -> (u64, u64) {
        let bits = 8 * u32::from(self.at.abs_diff(at));
        let shift = |x: u64| {
            if self.at >= at { x.checked_shl(bits) } else { x.checked_shr(bits) }.unwrap_or(0)
        };
        (shift(self.mask), shift(self.value))
    }

    /// Whether no frame passes both tests.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        let (mask, value) = other.seen_at(self.at);
        self.mask & mask & (self.value ^ value) != 0
    }
}
