//! An answer of several datagrams, of which some are sent.
//!
//! Its text lies in one buffer, in which one long item may be missing: that one is held
//! (`engine/hold.rs`), and copied from where it lies into the datagram that is sent.

use crate::engine::Engine;
use crate::protocol::{Frame, Rest};

/// Where it is, and what is sent of it.
pub(super) struct Answer {
    frame: Frame,
    /// Bytes of the text, with the room for a frame before it.
    len: usize,
    /// The item that is missing in it, and before which byte.
    rest: Option<(Rest, usize)>,
    /// Bytes of each datagram but the last, the frame included.
    piece: usize,
    /// Bytes sent, frames not counted.
    at: usize,
    /// Datagrams sent, and all of them.
    sequence: usize,
    total: usize,
}

impl Answer {
    pub(super) fn new(frame: Frame, len: usize, rest: Option<(Rest, usize)>, piece: usize) -> Self {
        let mut answer = Self { frame, len, rest, piece, at: 0, sequence: 0, total: 0 };
        answer.total = answer.end().div_ceil(piece - Frame::LEN);
        answer
    }

    /// Bytes of all datagrams.
    pub(super) fn bytes(&self) -> usize {
        self.end() + self.total * Frame::LEN
    }

    /// Whether there are as few datagrams as can be counted in a frame.
    pub(super) fn can_be_numbered(&self) -> bool {
        u16::try_from(self.total).is_ok()
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sequence >= self.total
    }

    /// What is to be given back when the answer is dropped.
    pub(super) fn into_rest(self) -> Option<Rest> {
        self.rest.map(|(rest, _)| rest)
    }

    /// Bytes of text and item.
    fn end(&self) -> usize {
        let item = self.rest.as_ref().map_or(0, |(rest, _)| (rest.end - rest.at) as usize);
        self.len - Frame::LEN + item
    }

    /// Writes the next datagram and returns its length. `None` if there is no room for it.
    pub(super) fn write(
        &mut self,
        text: &[u8],
        engine: &Engine<'_>,
        reply: &mut [u8],
    ) -> Option<usize> {
        let (head, place) = reply.get_mut(..self.piece)?.split_first_chunk_mut()?;
        *head = self.frame.reply(self.sequence as u16, self.total as u16);
        let text = text.get(Frame::LEN..self.len)?;
        let (before, item, behind) = match &self.rest {
            None => (text, &[][..], &[][..]),
            Some((rest, before)) => {
                let (before, behind) = text.split_at_checked(before - Frame::LEN)?;
                let range = rest.at as usize..rest.end as usize;
                (before, engine.held(&rest.held).get(range)?, behind)
            }
        };
        let (mut skip, mut written) = (self.at, 0);
        for part in [before, item, behind] {
            let left = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            let room = place.get_mut(written..)?;
            let len = left.len().min(room.len());
            room.get_mut(..len)?.copy_from_slice(left.get(..len)?);
            written += len;
        }
        self.at += written;
        self.sequence += 1;
        Some(Frame::LEN + written)
    }
}
