//! The pages that one client has in common with the store.
//!
//! ```text
//! words 0..8  the post: a request that is left for the store, and its reply
//! bytes 0..   the key; of GetMany's reply, what was found
//! bytes 256.. the value; of GetMany, a list of keys
//! ```
//!
//! A list of keys is, for each, a byte with its length and its bytes. What was found is, for each
//! key in turn, a [`FoundHead`], the value, and bytes up to the next multiple of eight. If not all
//! fits, or there are more than [`MOST_KEYS`], the reply says how many keys were answered.
//!
//! **Post.** A client that finds the store busy leaves its request here, and the store's main
//! activity carries it out before it looks at the network again. So a client gets on whatever the
//! network brings, on the same processor and on another; the word that says which side has the
//! post changes from one to the other by compare and exchange.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use libos::memory::shared::SharedBytes;

use crate::request::Message;

/// Words of the post.
const POST: usize = 8;
/// Where the value begins.
pub const VALUE_AT: usize = 256;
/// Keys that are looked up in one call at most, however large the window is.
pub const MOST_KEYS: usize = 256;
/// Bytes of the list of so many.
pub const LONGEST_LIST: usize = MOST_KEYS * 251;
/// The fewest words of a window: post, key, and a value of some bytes.
pub const LEAST_WORDS: usize = POST + VALUE_AT / 8 + 32;

/// Both parts.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// The request that is left.
    pub post: Post<'a>,
    /// Key and value.
    pub bytes: SharedBytes<'a>,
}

impl<'a> Window<'a> {
    /// The window in `words`; `None` if they are fewer than [`LEAST_WORDS`].
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        if words.len() < LEAST_WORDS {
            return None;
        }
        let (post, bytes) = words.split_first_chunk()?;
        Some(Self { post: Post(post), bytes: SharedBytes::new(bytes) })
    }
}

/// A request that is left for the store.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a>(&'a [AtomicU64; POST]);

/// What word 0 says: there is nothing, a request, one that is carried out, a reply.
const EMPTY: u64 = 0;
const LEFT: u64 = 1;
const TAKEN: u64 = 2;
const ANSWERED: u64 = 3;

impl Post<'_> {
    fn state(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn put(&self, message: &Message, state: u64) {
        for (word, value) in self.0[1..].iter().zip(message) {
            word.store(*value, Relaxed);
        }
        self.state().store(state, Release);
    }

    fn message(&self) -> Message {
        core::array::from_fn(|index| self.0[1 + index].load(Relaxed))
    }

    /// The client leaves a request.
    pub fn leave(&self, request: &Message) {
        self.put(request, LEFT);
    }

    /// The client takes its request back. False if the store has it, or has answered.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.state().compare_exchange(LEFT, EMPTY, Acquire, Relaxed).is_ok()
    }

    /// The client looks for the reply.
    #[must_use]
    pub fn collect(&self) -> Option<Message> {
        if self.state().load(Acquire) != ANSWERED {
            return None;
        }
        let reply = self.message();
        self.state().store(EMPTY, Relaxed);
        Some(reply)
    }

    /// The store looks for a request. **Cost** a load, if there is none.
    #[must_use]
    #[inline]
    pub fn take(&self) -> Option<Message> {
        if self.state().load(Relaxed) != LEFT
            || self.state().compare_exchange(LEFT, TAKEN, Acquire, Relaxed).is_err()
        {
            return None;
        }
        Some(self.message())
    }

    /// The store answers.
    pub fn answer(&self, reply: &Message) {
        self.put(reply, ANSWERED);
    }
}

/// What stands before a value that was found, in 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundHead {
    /// Bytes of the value; `None` if there is no such item.
    pub value_len: Option<u32>,
    /// Flags of the item.
    pub flags: u32,
    /// Its CAS id.
    pub cas: u64,
}

impl FoundHead {
    /// How many bytes it takes.
    pub const BYTES: usize = 24;

    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.value_len.is_some().into();
        bytes[4..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.cas.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.value_len.unwrap_or(0).to_le_bytes());
        bytes
    }

    /// Out of bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word =
            |at: usize| u32::from_le_bytes(bytes[at..].first_chunk().copied().unwrap_or_default());
        Self {
            value_len: (bytes[0] != 0).then(|| word(16)),
            flags: word(4),
            cas: u64::from(word(8)) | u64::from(word(12)) << 32,
        }
    }

    /// Where what follows begins, if this begins at `at`.
    #[must_use]
    pub fn end(self, at: usize) -> usize {
        at + Self::BYTES + (self.value_len.unwrap_or(0) as usize).next_multiple_of(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..LEAST_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_request_is_with_one_side_at_a_time() {
        let words = words();
        let post = Window::new(&words).unwrap().post;
        assert_eq!(post.take(), None);
        assert!(!post.withdraw());
        post.leave(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(post.collect(), None);
        assert!(post.withdraw() && !post.withdraw());
        assert_eq!(post.take(), None);
        post.leave(&[6, 5, 4, 3, 2, 1]);
        assert_eq!(post.take(), Some([6, 5, 4, 3, 2, 1]));
        assert!(post.take().is_none() && !post.withdraw() && post.collect().is_none());
        post.answer(&[9; 6]);
        assert!(post.take().is_none() && !post.withdraw());
        assert_eq!(post.collect(), Some([9; 6]));
        assert_eq!(post.collect(), None);
    }

    #[test]
    fn a_window_is_not_too_small() {
        let words = words();
        assert!(Window::new(&words[1..]).is_none());
        assert_eq!(Window::new(&words).unwrap().bytes.len(), 8 * (LEAST_WORDS - POST));
    }

    #[test]
    fn heads_are_what_they_were() {
        for value_len in [None, Some(0), Some(u32::MAX)] {
            let head = FoundHead { value_len, flags: 0x1234_5678, cas: u64::MAX - 5 };
            assert_eq!(FoundHead::from_bytes(&head.to_bytes()), head);
        }
        let head = FoundHead { value_len: Some(9), flags: 0, cas: 0 };
        assert_eq!(head.end(8), 8 + 24 + 16);
    }
}
