//! The parts of a canonical filter, and where they look.
//!
//! Everything is looked at through *windows* of eight bytes. A field is read through
//! the window that *ends* where the field ends, so it asks for no longer a frame than
//! the field itself. This is why a frame shorter than an Ethernet header matches
//! nothing: it lets the windows of fields that end before byte 8 start at byte 0. And
//! it is why nothing behind a shift may look at the Ethernet header: a window there
//! never starts before its base.

/// Bytes in a window.
pub(crate) const WINDOW: usize = 8;

/// One canonical test. `at` and [`Field::first`] count from the base.
///
/// The derived order (kind, then position) is the order of tests with one base and
/// of siblings in the trie. All zero bits are [`Test::VACANT`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Test {
    /// The window at `at`, masked, has `value`. Bytes in the window are little-endian,
    /// its first in the low bits: on x86-64 the load needs no byte swap. With an empty
    /// mask this says how long the frame is.
    Bits { at: u16, mask: u64, value: u64 },
    /// `lo <= field <= hi`.
    Range { field: Field, lo: u64, hi: u64 },
    /// `lo <= field <= hi`, and then `base += field << scale`.
    Shift { field: Field, scale: u8, lo: u8, hi: u8 },
}

impl Test {
    /// Pins nothing.
    pub(crate) const VACANT: Self = Self::Bits { at: 0, mask: 0, value: 0 };

    /// How long a frame it needs, from the base on.
    pub(crate) fn length(&self) -> u16 {
        let at = match self {
            Self::Bits { at, .. } => *at,
            Self::Range { field, .. } | Self::Shift { field, .. } => field.at(),
        };
        at + WINDOW as u16
    }

    /// One past the last byte it looks at.
    pub(crate) fn end(&self) -> usize {
        match self {
            Self::Bits { at, .. } => usize::from(*at) + WINDOW,
            Self::Range { field, .. } | Self::Shift { field, .. } => usize::from(field.end()),
        }
    }
}

/// A run of one to 64 bits of the frame, in network order, within one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Field {
    /// The most significant bit: eight times its byte, plus its place from the left.
    pub(crate) first: u16,
    pub(crate) bits: u8,
}

impl Field {
    /// One past the last bit.
    pub(crate) fn end_bit(self) -> u16 {
        self.first + u16::from(self.bits)
    }

    /// One past the last byte.
    pub(crate) fn end(self) -> u16 {
        self.end_bit().div_ceil(8)
    }

    /// Where the window starts that it is read through.
    pub(crate) fn at(self) -> u16 {
        self.end().saturating_sub(WINDOW as u16)
    }

    /// How many bits of the window, read in network order, are below it.
    pub(crate) fn low(self) -> u16 {
        8 * (self.at() + WINDOW as u16) - self.end_bit()
    }
}

/// Bits of one window that are pinned: the fields of [`Test::Bits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) at: u16,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

impl Bits {
    /// One past the last byte that has a pinned bit.
    pub(crate) fn pinned_end(&self) -> Option<usize> {
        let unpinned = self.mask.leading_zeros() as usize / 8;
        (self.mask != 0).then(|| usize::from(self.at) + WINDOW - unpinned)
    }

    /// Mask and value as seen in the window at `at`; what is outside of it is cut off.
    #[inline]
    pub(crate) fn seen_at(&self, at: u16) -> (u64, u64) {
        let bits = 8 * u32::from(self.at.abs_diff(at));
        let shift = |x: u64| {
            if self.at >= at { x.checked_shl(bits) } else { x.checked_shr(bits) }.unwrap_or(0)
        };
        (shift(self.mask), shift(self.value))
    }

    /// What all of these pin of the window at `at`: (mask, value).
    pub(crate) fn all_seen_at(these: impl Iterator<Item = Self>, at: u16) -> (u64, u64) {
        these.fold((0, 0), |(mask, value), bits| {
            let (m, v) = bits.seen_at(at);
            (mask | m, value | v)
        })
    }

    /// Whether no frame has both.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        let (mask, value) = other.seen_at(self.at);
        self.mask & mask & (self.value ^ value) != 0
    }
}

/// How wide a part of a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Byte = 1,
    Word = 2,
    Double = 4,
    Quad = 8,
}

/// The narrowest part of a window that holds what a mask picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// First byte, counted from the window.
    pub(crate) first: u8,
    pub(crate) width: Width,
}

impl Part {
    /// All of it.
    pub(crate) const WHOLE: Self = Self { first: 0, width: Width::Quad };

    /// Of the bytes from `first` to before `end`.
    pub(crate) fn between(first: u32, end: u32) -> Self {
        let width = match end.saturating_sub(first) {
            0 | 1 => Width::Byte,
            2 => Width::Word,
            3 | 4 => Width::Double,
            _ => Width::Quad,
        };
        Self { first: first.min(WINDOW as u32 - width as u32) as u8, width }
    }

    #[inline]
    pub(crate) fn of(mask: u64) -> Self {
        Self::between(mask.trailing_zeros() / 8, 8 - mask.leading_zeros() / 8)
    }

    /// These bits of the window, as they are in the part.
    #[inline]
    pub(crate) fn of_window(self, bits: u64) -> u64 {
        bits >> (8 * self.first)
    }
}

/// The lowest `bits` bits, 0 to 64.
pub(crate) fn ones(bits: u8) -> u64 {
    u64::MAX.checked_shr(64 - u32::from(bits)).unwrap_or(0)
}
