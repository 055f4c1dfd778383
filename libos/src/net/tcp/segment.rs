//! Segments as they lie in packets (RFC 9293, section 3.1): what they are, and how one of any
//! kind is read.

use super::ranges::Ranges;
use super::seq::Seq;
use crate::net::Endpoint;
use crate::net::checksum::Sum;
use crate::net::udp::ipv4::{Own, Packet};

/// TCP's protocol number (RFC 790).
pub(super) const TCP: u8 = 6;
/// Bytes of a TCP header without options.
const HEADER: usize = 20;
/// Bytes before it in a frame.
const BEFORE: usize = 14 + 20;
/// The most that a segment carries without options (RFC 9293, section 3.7.1).
pub(super) const MSS: u16 = (exo_abi::FRAME_MAX - BEFORE - HEADER) as u16;
/// The most that any host takes, if it does not say otherwise.
pub(super) const DEFAULT_MSS: u16 = 536;
/// What is less is taken for this: else a peer could have every byte sent in a packet of its own.
const LEAST_MSS: u16 = 64;
/// The largest window scale (RFC 7323, section 2.3).
const MAX_SCALE: u8 = 14;

/// Control bits.
pub(super) mod bit {
    pub(in crate::net::tcp) const FIN: u8 = 1;
    pub(in crate::net::tcp) const SYN: u8 = 2;
    pub(in crate::net::tcp) const RST: u8 = 4;
    pub(in crate::net::tcp) const PSH: u8 = 8;
    pub(in crate::net::tcp) const ACK: u8 = 16;
}

mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NOTHING: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
}

/// A segment that was received, with a right checksum.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) peer: Endpoint,
    pub(super) to_port: u16,
    pub(super) seq: Seq,
    pub(super) ack: Seq,
    pub(super) bits: u8,
    /// As sent: not scaled.
    pub(super) window: u16,
    pub(super) payload: &'a [u8],
    pub(super) options: &'a [u8],
}

/// What a SYN may say.
#[derive(Clone, Copy, Debug)]
pub(super) struct SynOptions {
    pub(super) mss: u16,
    pub(super) scale: Option<u8>,
    pub(super) sack: bool,
}

impl<'a> Segment<'a> {
    /// The segment in `packet`, if lengths agree and the checksum is right.
    #[inline]
    pub(super) fn parse(own: &Own, packet: Packet<'a>) -> Option<Self> {
        let bytes = packet.payload;
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let options_len = (usize::from(header[12] >> 4) * 4).checked_sub(HEADER)?;
        let (options, payload) = rest.split_at_checked(options_len)?;
        let sum = pseudo_header(own, packet.source, bytes.len()).and(Sum::of(bytes));
        let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let long = |at: usize| Seq(u32::from(short(at)) << 16 | u32::from(short(at + 2)));
        sum.is_intact().then(|| Self {
            peer: Endpoint { address: packet.source, port: short(0) },
            to_port: short(2),
            seq: long(4),
            ack: long(8),
            bits: header[13] & 0x3f,
            window: short(14),
            payload,
            options,
        })
    }

    #[inline(always)]
    pub(super) const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Sequence numbers that it takes up.
    #[inline(always)]
    pub(super) const fn len(&self) -> u32 {
        let control = self.has(bit::SYN) as u32 + self.has(bit::FIN) as u32;
        self.payload.len() as u32 + control
    }

    /// The options of a SYN.
    pub(super) fn syn_options(&self) -> SynOptions {
        let mut options = SynOptions { mss: DEFAULT_MSS, scale: None, sack: false };
        self.each_option(|kind, value| match (kind, value) {
            (option::MSS, &[high, low]) => {
                options.mss = u16::from_be_bytes([high, low]).clamp(LEAST_MSS, MSS);
            }
            (option::SCALE, &[scale]) => options.scale = Some(scale.min(MAX_SCALE)),
            (option::SACK_PERMITTED, []) => options.sack = true,
            _ => {}
        });
        options
    }

    /// Has `each` take every range that is acknowledged selectively.
    #[inline]
    pub(super) fn each_sack(&self, mut each: impl FnMut(Seq, Seq)) {
        if self.options.is_empty() {
            return;
        }
        self.each_option(|kind, value| {
            if kind == option::SACK {
                for &[a, b, c, d, e, f, g, h] in value.as_chunks::<8>().0 {
                    each(
                        Seq(u32::from_be_bytes([a, b, c, d])),
                        Seq(u32::from_be_bytes([e, f, g, h])),
                    );
                }
            }
        });
    }

    fn each_option(&self, mut each: impl FnMut(u8, &[u8])) {
        let mut rest = self.options;
        while let [kind, behind @ ..] = rest {
            match *kind {
                option::END => return,
                option::NOTHING => rest = behind,
                kind => {
                    let Some(length) = behind.first().map(|length| usize::from(*length)) else {
                        return;
                    };
                    let Some(value) = rest.get(2..length) else { return };
                    each(kind, value);
                    rest = rest.get(length..).unwrap_or_default();
                }
            }
        }
    }
}

/// A segment to be sent, without its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) seq: Seq,
    pub(super) ack: Option<Seq>,
    /// Without [`bit::ACK`].
    pub(super) bits: u8,
    pub(super) window: u16,
}

/// Options of a segment to be sent: a whole number of words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    bytes: [u8; 40],
    len: u8,
}

impl Options {
    pub(super) const NONE: Self = Self { bytes: [0; 40], len: 0 };

    /// Those of a SYN: our segment size; and a window scale of zero, which permits the peer's,
    /// and selective acknowledgements, if the peer's SYN had them.
    pub(super) fn syn(scale: bool, sack: bool) -> Self {
        let mut options = Self::NONE;
        let [high, low] = MSS.to_be_bytes();
        options.put(&[option::MSS, 4, high, low]);
        if scale {
            options.put(&[option::NOTHING, option::SCALE, 3, 0]);
        }
        if sack {
            options.put(&[option::NOTHING, option::NOTHING, option::SACK_PERMITTED, 2]);
        }
        options
    }

    /// Reports `ranges`, of which there is at least one.
    pub(super) fn sack(ranges: &Ranges) -> Self {
        let mut options = Self::NONE;
        let length = 2 + 8 * ranges.len();
        options.put(&[option::NOTHING, option::NOTHING, option::SACK, length]);
        for (start, end) in ranges.all() {
            options.put(&start.0.to_be_bytes());
            options.put(&end.0.to_be_bytes());
        }
        options
    }

    #[inline(always)]
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    fn put(&mut self, bytes: &[u8]) {
        let at = self.len();
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len() as u8;
        }
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }
}

#[inline(always)]
fn pseudo_header(own: &Own, peer: [u8; 4], length: usize) -> Sum {
    Sum::address(own.address)
        .and(Sum::address(peer))
        .and(Sum::field(TCP.into()))
        .and(Sum::field(length as u16))
}
