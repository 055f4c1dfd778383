//! Keys as filters that pin bits and say nothing else.

use crate::filter::Filter;
use crate::key::{KEY_BYTES, KEY_WIRE, Key};
use crate::test::{Bits, Test, WINDOW};

impl Key {
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

    /// The form in which it crosses the system-call boundary.
    pub fn encode(&self) -> [u8; KEY_WIRE] {
        let mut bytes = [0; KEY_WIRE];
        let (masks, values) = bytes.split_at_mut(KEY_BYTES);
        let places = masks.chunks_mut(WINDOW).zip(values.chunks_mut(WINDOW));
        for ((to_mask, to_value), (mask, value)) in places.zip(self.words()) {
            to_mask.copy_from_slice(&mask.to_le_bytes());
            to_value.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }
}

/// Writes keys to the front of `out`, one after the other, in the form in which they cross the
/// system-call boundary, and returns the length. `None` if a filter is no key, or `out` is too
/// short: each needs [`KEY_WIRE`] bytes.
pub fn encode_keys(filters: &[Filter], out: &mut [u8]) -> Option<usize> {
    let (places, _) = out.as_chunks_mut();
    let keys = places.get_mut(..filters.len())?.iter_mut().zip(filters);
    for (to, filter) in keys {
        *to = Key::of(filter)?.encode();
    }
    Some(filters.len() * KEY_WIRE)
}
