//! How a filter is written for the system-call boundary: the form that [`Filter::decode`] reads.

#[cfg(doc)]
use crate::MAX_WIRE;
use crate::filter::Filter;
use crate::test::Test;
use crate::wire::{WORD, WORDS};

impl Filter {
    /// Writes the wire form to the front of `out` and returns its length, or `None` if `out`
    /// is too short. [`MAX_WIRE`] bytes are always enough.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let length = self.length() * WORDS * WORD;
        let (words, _) = out.get_mut(..length)?.as_chunks_mut::<WORD>();
        for (to, word) in words.iter_mut().zip(self.tests().flat_map(Test::words)) {
            *to = word.to_le_bytes();
        }
        Some(length)
    }
}
