//! Bytes as decisions. Every byte means something, and what is missing is zero, so that a
//! changed byte is a changed decision and a piece of one input has a meaning in another.

use dpf::{Atom, MAX_FRAME, Shift, Step};

/// Bytes that have not been read yet.
pub(crate) struct Input<'b>(pub(crate) &'b [u8]);

/// Where fields of Ethernet, IPv4, UDP and ARP are, and bytes beside each other.
const OFFSETS: [u16; 15] = [0, 6, 9, 12, 14, 15, 16, 20, 23, 26, 28, 30, 34, 36, 38];
/// Fields that shift, the last of them not allowed.
const SHIFTS: [u8; 8] = [0x0f, 0xf0, 0x03, 0xc0, 0x10, 0x3c, 0x80, 0x1f];

impl Input<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// A number of this many bytes, in network order.
    fn number(&mut self, bytes: u8) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Any place in a frame: one byte for the first 240.
    fn place(&mut self) -> u16 {
        match self.byte() {
            far @ 240.. => u16::from(far - 240) << 8 | u16::from(self.byte()),
            near => near.into(),
        }
    }

    /// The first byte says the kind, the width and, in its upper half, the offset.
    pub(crate) fn step(&mut self) -> Step {
        let first = self.byte();
        let (kind, width) = (first & 3, 1 << (first >> 2 & 3));
        let offset = OFFSETS.get(usize::from(first >> 4)).copied();
        let offset = offset.unwrap_or_else(|| self.place());
        match kind {
            0 => Atom::exact(offset, width, self.number(width)).into(),
            1 => {
                let mask = self.mask(width);
                Atom::masked(offset, width, mask, self.number(width) & mask).into()
            }
            2 => {
                let mask = self.mask(width);
                let [a, b] = [self.number(width) & mask, self.number(width) & mask];
                Atom { offset, width, mask, lo: a.min(b), hi: a.max(b) }.into()
            }
            _ => {
                let field = self.byte();
                let mask = SHIFTS[usize::from(field & 7)];
                Step::Shift(Shift { offset, mask, scale: field >> 3 & 7 })
            }
        }
    }

    /// A run of bits from below or from above, or each byte of its own.
    fn mask(&mut self, width: u8) -> u64 {
        let (kind, bits) = (self.byte(), 8 * width);
        let length = kind & 0x3f;
        let whole = u64::MAX >> (64 - bits);
        match kind >> 6 {
            0 => whole >> (length % bits),
            1 => whole & whole << (length % bits),
            2 => whole >> (length % bits) & !(whole >> (length.wrapping_add(self.byte()) % bits)),
            _ => self.number(width),
        }
    }

    /// A frame that is `original` but for some bytes, and perhaps its length.
    pub(crate) fn edited(&mut self, mut original: Vec<u8>) -> Vec<u8> {
        let first = self.byte();
        let length = match first >> 5 {
            0..=2 => original.len(),
            3 => original.len() - 1,
            4 => original.len() + 1,
            5 => original.len().saturating_sub(self.byte().into()),
            6 => original.len() + usize::from(self.byte()),
            _ => self.place().into(),
        };
        original.resize(length.min(MAX_FRAME + 9), 0);
        for _ in 0..first & 0x1f {
            if self.is_empty() {
                break;
            }
            let (at, change) = (self.place(), self.byte());
            if let Some(byte) = original.get_mut(usize::from(at)) {
                *byte ^= change;
            }
        }
        original
    }
}
