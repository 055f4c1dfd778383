//! Keys: the boundary between environments' packets is made of pinned bits only.
//!
//! A [`Key`] pins bits of the first [`KEY_BYTES`] bytes of a packet, and says nothing else: no
//! range, no shift, no length. Bytes behind the end of a packet count as zero. It is kept as
//! eight words of mask and value, so it has one form, and the questions about authority are
//! a few instructions for each word: two keys share no packet if some bit that both pin
//! differs, and one is within another if it pins all that the other pins, alike.
//!
//! What the holder of a key installs lies behind the key ([`Filter::behind`]): it sorts
//! packets that are the holder's already, so it need not be compared with anything.

use crate::filter::Filter;
use crate::test::{Bits, Test, WINDOW};

/// How much of a packet keys look at, from the Ethernet header on.
pub const KEY_BYTES: usize = 64;
/// The same in words of eight bytes.
pub(crate) const KEY_WORDS: usize = KEY_BYTES / WINDOW;
/// Bytes of a key where it crosses the system-call boundary: the bits that it pins of the first
/// [`KEY_BYTES`] bytes of a packet, and then what they are.
pub const KEY_WIRE: usize = 2 * KEY_BYTES;

/// Pinned bits of the first [`KEY_BYTES`] bytes of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Eight bytes each, the first in the low bits.
    mask: [u64; KEY_WORDS],
    /// No bit that is not in the mask.
    value: [u64; KEY_WORDS],
}

impl Key {
    /// Pins nothing: every packet.
    pub const ALL: Self = Self { mask: [0; KEY_WORDS], value: [0; KEY_WORDS] };

    /// Reads a key; `None` if it pins nothing, or says what a bit is that it does not pin.
    pub fn decode(bytes: &[u8; KEY_WIRE]) -> Option<Self> {
        let (words, _) = bytes.as_chunks();
        let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        let value = core::array::from_fn(|at| word(KEY_WORDS + at));
        let key = Self { mask: core::array::from_fn(word), value };
        (key != Self::ALL && key.words().all(|(mask, value)| value & !mask == 0)).then_some(key)
    }

    pub(crate) fn pin(&mut self, bits: Bits) {
        for ((mask, value), at) in self.mask.iter_mut().zip(&mut self.value).zip(Self::places()) {
            let (more, pinned) = bits.seen_at(at);
            *mask |= more;
            *value |= pinned;
        }
    }

    /// Mask and value of each word of the packet's head.
    pub fn words(&self) -> impl Iterator<Item = (u64, u64)> {
        self.mask.into_iter().zip(self.value)
    }

    /// Where the words begin.
    fn places() -> impl Iterator<Item = u16> {
        (0..KEY_BYTES as u16).step_by(WINDOW)
    }

    /// The words that pin anything.
    fn bits(&self) -> impl Iterator<Item = Bits> {
        let words = self.mask.into_iter().zip(self.value).zip(Self::places());
        words.map(|((mask, value), at)| Bits { at, mask, value }).filter(|bits| bits.mask != 0)
    }

    /// Whether no packet has both: some bit that both pin differs.
    pub fn contradicts(&self, other: &Self) -> bool {
        let masks = self.mask.iter().zip(&other.mask);
        let values = self.value.iter().zip(&other.value);
        masks.zip(values).fold(0, |differ, ((m, n), (v, w))| differ | m & n & (v ^ w)) != 0
    }

    /// Whether every packet that has this key has `outer`, too: it pins the same and maybe more.
    pub fn is_within(&self, outer: &Self) -> bool {
        let masks = self.mask.iter().zip(&outer.mask);
        let values = self.value.iter().zip(&outer.value);
        masks.zip(values).all(|((m, n), (v, w))| m & n == *n && v & n == *w)
    }

    /// One past the last byte of which it pins a bit.
    pub fn reach(&self) -> usize {
        self.bits().filter_map(|bits| bits.pinned_end()).max().unwrap_or(0)
    }

    /// Whether a packet that begins so has the key.
    #[inline]
    pub fn matches(&self, head: &[u8; KEY_BYTES]) -> bool {
        let mut differ = 0;
        let (words, _) = head.as_chunks::<WINDOW>();
        for ((word, mask), value) in words.iter().zip(&self.mask).zip(&self.value) {
            differ |= u64::from_le_bytes(*word) & mask ^ value;
        }
        differ == 0
    }

    /// The same as a filter; `None` if it pins nothing. What it pins is laid into windows from
    /// the end, each as far as it goes.
    pub fn filter(&self) -> Option<Filter> {
        let mut windows = [Test::VACANT; KEY_WORDS];
        let (mut count, mut rest) = (0, *self);
        while let Some(end) = rest.bits().filter_map(|bits| bits.pinned_end()).max() {
            let at = end.saturating_sub(WINDOW) as u16;
            let (mask, value) = Bits::all_seen_at(rest.bits(), at);
            *windows.get_mut(count)? = Test::Bits { at, mask, value };
            count += 1;
            let words = rest.mask.iter_mut().zip(&mut rest.value).zip(Self::places());
            for ((mask_word, value_word), place) in words {
                *mask_word &= !Bits { at, mask, value }.seen_at(place).0;
                *value_word &= *mask_word;
            }
        }
        let mut filter = Filter::EMPTY;
        windows.iter().take(count).rev().try_for_each(|test| filter.push(*test))?;
        (count > 0).then_some(filter)
    }

    /// The byte at `at`: (mask, value).
    pub(crate) fn byte(&self, at: usize) -> (u8, u8) {
        let of = |words: &[u64; KEY_WORDS]| {
            let word = words.get(at / WINDOW).map_or(0, |word| word >> (8 * (at % WINDOW)));
            word as u8
        };
        (of(&self.mask), of(&self.value))
    }

    /// Pins the bits `mask` of the byte at `at` as well; they must not be pinned yet.
    pub(crate) fn set_byte(&mut self, at: usize, mask: u8, value: u8) {
        let (mask, value) = (u64::from(mask), u64::from(value & mask));
        self.pin(Bits { at: at as u16, mask, value });
    }
}

impl Filter {
    /// What the filter says beside `key`; `None` if it does not pin all that the key pins,
    /// before any shift.
    ///
    /// A packet that has the key matches the one if and only if it matches the other.
    pub fn behind(&self, key: &Key) -> Option<Self> {
        let before = || self.tests().take_while(|test| !matches!(test, Test::Shift { .. }));
        let bits = || {
            before().filter_map(|test| match *test {
                Test::Bits { at, mask, value } => Some(Bits { at, mask, value }),
                _ => None,
            })
        };
        let says = |pinned: Bits| {
            let (mask, value) = Bits::all_seen_at(bits(), pinned.at);
            mask & pinned.mask == pinned.mask && value & pinned.mask == pinned.value
        };
        if !key.bits().all(says) {
            return None;
        }
        let longest = before().map(Test::length).max();
        let mut filter = Self::EMPTY;
        for (number, test) in self.tests().enumerate() {
            let mut test = *test;
            if let (Test::Bits { at, mask, value }, true) = (&mut test, number < before().count()) {
                *mask &= !Bits::all_seen_at(key.bits(), *at).0;
                *value &= *mask;
                // Without a bit it says how long the packet is, if no other does.
                if *mask == 0 && Some(test.length()) != longest {
                    continue;
                }
            }
            filter.push(test)?;
        }
        Some(filter)
    }
}
