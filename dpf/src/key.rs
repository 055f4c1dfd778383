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

use crate::conjunction::Conjunction;
use crate::language::{Filter, MIN_FRAME};
use crate::test::{Bits, Range, Test, WINDOW};

/// How much of a packet keys look at, from the Ethernet header on.
pub const KEY_BYTES: usize = 64;
/// The same in words of eight bytes.
pub const KEY_WORDS: usize = KEY_BYTES / WINDOW;

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

    /// What `filter` pins; `None` if it says anything else, or looks too far. The shortest
    /// packet that it takes is not part of a key.
    pub fn of(filter: &Filter) -> Option<Self> {
        let mut key = Self::ALL;
        for test in filter.tests() {
            let Test::Bits { at, mask, value } = *test else { return None };
            let bits = Bits { at, mask, value };
            if bits.pinned_end()? > KEY_BYTES {
                return None;
            }
            key.pin(bits);
        }
        Some(key)
    }

    fn pin(&mut self, bits: Bits) {
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

    /// The same as a filter; `None` if it pins nothing.
    pub fn filter(&self) -> Option<Filter> {
        let mut pins = Conjunction::ALL;
        for bits in self.bits() {
            // Read through the window that ends where the word's last pinned byte does.
            let at = bits.pinned_end()?.saturating_sub(WINDOW) as u16;
            let (mask, value) = bits.seen_at(at);
            pins.pin(Bits { at, mask, value }).ok()?;
        }
        let mut filter = Filter::EMPTY;
        pins.write(&mut filter).ok()?;
        (filter.tests().len() > 0).then_some(filter)
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
    /// before any shift, or would have more steps than there may be.
    ///
    /// A packet that has the key matches the one if and only if it matches the other.
    pub fn behind(&self, key: &Key) -> Option<Self> {
        let mut rest = Conjunction::ALL;
        let mut tests = self.tests();
        let mut shift = None;
        for test in tests.by_ref() {
            match *test {
                Test::Bits { at, mask, value } => rest.pin(Bits { at, mask, value }).ok()?,
                Test::Range { field, lo, hi } => rest.limit(Range { field, lo, hi }).ok()?,
                Test::Shift { .. } => {
                    shift = Some(*test);
                    break;
                }
            }
        }
        for bits in key.bits() {
            let (pinned, value) = rest.pinned_at(bits.at);
            if pinned & bits.mask != bits.mask || value & bits.mask != bits.value {
                return None;
            }
            rest.unpin(&bits);
        }
        let mut filter = Self::EMPTY;
        rest.write(&mut filter).ok()?;
        shift.iter().chain(tests).try_for_each(|test| filter.push(*test))?;
        if filter.tests().len() == 0 {
            // It is the key: what is left takes every packet.
            let at = (MIN_FRAME - WINDOW) as u16;
            filter.push(Test::Bits { at, mask: 0, value: 0 })?;
        }
        Some(filter)
    }
}
