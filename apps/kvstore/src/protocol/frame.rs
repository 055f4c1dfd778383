//! The frame of the UDP protocol (`protocol.txt`, "UDP protocol").
//!
//! ```text
//! 0          2          4       6          8
//! | request id | sequence | total | reserved | text ...
//! ```
//!
//! All big-endian. A request or a reply takes one datagram or several, `total` of them, numbered by
//! `sequence`.

/// The frame of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the client, returned in the reply.
    request_id: [u8; 2],
}

impl Frame {
    /// Bytes of a frame.
    pub const LEN: usize = 8;

    /// Reads the frame of a datagram that is a whole request. `None` if there is nothing behind
    /// the frame, or if it is part of a request in several datagrams.
    #[must_use]
    #[inline(always)]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let (frame, text) = datagram.split_first_chunk::<{ Self::LEN }>()?;
        let [id0, id1, _, _, total0, total1, _, _] = *frame;
        ([total0, total1] == [0, 1] && !text.is_empty()).then_some(Self { request_id: [id0, id1] })
    }

    /// Reads the frame of a datagram that is a request or part of one, and the datagram's number
    /// and how many there are. `None` if it is not to be answered: a reply to a datagram that is
    /// no request would only serve the sender that forged its source address.
    #[must_use]
    pub fn part(datagram: &[u8]) -> Option<(Self, u16, u16)> {
        let (frame, text) = datagram.split_first_chunk::<{ Self::LEN }>()?;
        let [id0, id1, sequence @ .., _, _, _, _] = *frame;
        let [_, _, _, _, total @ .., _, _] = *frame;
        let (sequence, total) = (u16::from_be_bytes(sequence), u16::from_be_bytes(total));
        // Of a whole request memcached does not look at the number.
        let is_part = total == 1 || sequence < total;
        (is_part && !text.is_empty()).then_some((Self { request_id: [id0, id1] }, sequence, total))
    }

    /// The frame of datagram `sequence` out of `total` that answer this request.
    #[must_use]
    #[inline(always)]
    pub fn reply(self, sequence: u16, total: u16) -> [u8; Self::LEN] {
        let ([id0, id1], [s0, s1], [t0, t1]) =
            (self.request_id, sequence.to_be_bytes(), total.to_be_bytes());
        [id0, id1, s0, s1, t0, t1, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_requests_with_text_are_taken() {
        let frame = Frame::parse(&[0x12, 0x34, 9, 9, 0, 1, 7, 7, b'x']).unwrap();
        assert_eq!(frame.reply(0, 1), [0x12, 0x34, 0, 0, 0, 1, 0, 0]);
        assert_eq!(frame.reply(2, 0x103), [0x12, 0x34, 0, 2, 1, 3, 0, 0]);
        for len in 0..=8 {
            assert_eq!(Frame::parse(&[0, 0, 0, 0, 0, 1, 0, 0][..len]), None);
        }
        for total in [0u16, 2, 256, 257, 65535] {
            let [t0, t1] = total.to_be_bytes();
            assert_eq!(Frame::parse(&[0, 0, 0, 0, t0, t1, 0, 0, b'x']), None);
        }
    }

    #[test]
    fn a_part_is_one_of_its_total() {
        let part = |sequence: u16, total: u16| {
            let ([s0, s1], [t0, t1]) = (sequence.to_be_bytes(), total.to_be_bytes());
            Frame::part(&[1, 2, s0, s1, t0, t1, 0, 0, b'x'])
        };
        let frame = Frame { request_id: [1, 2] };
        for (sequence, total) in [(0, 1), (9, 1), (0, 2), (1, 2), (0x102, 0x103), (65534, 65535)] {
            assert_eq!(part(sequence, total), Some((frame, sequence, total)));
        }
        for (sequence, total) in [(0, 0), (1, 0), (2, 2), (3, 2), (65535, 65535)] {
            assert_eq!(part(sequence, total), None, "{sequence} of {total}");
        }
        assert_eq!(Frame::part(&[1, 2, 0, 0, 0, 2, 0, 0]), None, "nothing in it");
    }
}
