//! The first 54 bytes of a segment: Ethernet, IPv4 without options and TCP headers, at once.
//!
//! Nearly every segment that a server gets has no options and no control bit but ACK and PSH: it
//! carries requests, or acknowledges answers. As with datagrams
//! ([`udp::HEADERS`](crate::net::udp::HEADERS)), that is asked with comparisons of words instead
//! of a field at a time. A segment that is not such is not refused here: the other way, header
//! by header, finds out what it is. What is sent, of whatever kind, is written here, from words
//! that are the same in every segment and what is known of the peer.

use smoltcp::wire::EthernetAddress;

use super::segment::{Header, Options, Segment, TCP, bit};
use super::seq::Seq;
use crate::net::checksum::Sum;
use crate::net::udp::ipv4::{Own, TIME_TO_LIVE};
use crate::net::words::{long_number, number, put, word};
use crate::net::{Endpoint, TxBuffer};

/// Bytes of the Ethernet, IPv4 and TCP headers, without options.
const HEADERS: usize = ETHERNET + IPV4_TCP;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// IPv4 and TCP headers.
const IPV4_TCP: usize = IPV4 + 20;

/// What a server's segments have in common.
pub(super) struct Template {
    /// What bytes 0 to 7, 12 to 19, 16 to 23, 30 to 37 and 46 to 53 of a usual segment are.
    usual: [u64; 5],
    /// Bytes 6 to 13, 14 to 21 and 22 to 29 of a segment to be sent, without length and checksum.
    sent: [u64; 3],
    /// The sums of what is the same in every IPv4 header, and in every pseudo header, as fields:
    /// adding a few more to them needs no carry.
    ipv4: u64,
    pseudo: u64,
}

/// Which bits [`Template::usual`] is about: the own station and that the other is none of many;
/// IPv4 with a header of 20 bytes; no fragment, and TCP; own address and port; a header of 20
/// bytes, and all control bits but PSH.
const USUAL: [u64; 5] = [
    u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]),
    u64::from_le_bytes([0xff, 0xff, 0xff, 0, 0, 0, 0, 0]),
    u64::from_le_bytes([0, 0, 0, 0, 0x3f, 0xff, 0, 0xff]),
    u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff]),
    u64::from_le_bytes([0xff, !bit::PSH, 0, 0, 0, 0, 0, 0]),
];

/// One end of the wire, and the own port, for a segment to be sent.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) port: u16,
    pub(super) mac: EthernetAddress,
    pub(super) peer: Endpoint,
}

impl Template {
    pub(super) fn new(own: &Own, port: u16) -> Self {
        let [a, b, c, d, e, f] = own.mac.0;
        let [i, j, k, l] = own.address;
        let [p, q] = port.to_be_bytes();
        let sent = [
            u64::from_le_bytes([a, b, c, d, e, f, 8, 0]),
            // Identification stays zero, as RFC 6864 allows with "don't fragment".
            u64::from_le_bytes([0x45, 0, 0, 0, 0, 0, 0x40, 0]),
            u64::from_le_bytes([TIME_TO_LIVE, TCP, 0, 0, i, j, k, l]),
        ];
        Self {
            usual: [
                u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
                u64::from_le_bytes([8, 0, 0x45, 0, 0, 0, 0, 0]),
                u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, TCP]),
                u64::from_le_bytes([i, j, k, l, 0, 0, p, q]),
                u64::from_le_bytes([0x50, bit::ACK, 0, 0, 0, 0, 0, 0]),
            ],
            sent,
            ipv4: Sum::word(sent[1]).and(Sum::word(sent[2])).as_field(),
            pseudo: Sum::address(own.address).and(Sum::field(TCP.into())).as_field(),
        }
    }

    /// The usual segment in `frame`, if it is one and intact, and the station it comes from.
    #[inline(always)]
    pub(super) fn usual<'a>(
        &self,
        own: &Own,
        frame: &'a [u8],
    ) -> Option<(EthernetAddress, Segment<'a>)> {
        let head = frame.first_chunk::<HEADERS>()?;
        let words = [
            word::<0, _>(head),
            word::<12, _>(head),
            word::<16, _>(head),
            word::<30, _>(head),
            word::<46, _>(head),
        ];
        let mut differs = 0;
        for ((word, wanted), bits) in words.into_iter().zip(self.usual).zip(USUAL) {
            differs |= (word ^ wanted) & bits;
        }
        // Not more than is there; Ethernet's padding may follow.
        let end = ETHERNET + usize::from(number::<16, _>(head));
        let payload = frame.get(HEADERS..end)?;
        let from: &[u8; 4] = head[26..30].first_chunk()?;
        let peer = Endpoint { address: *from, port: number::<34, _>(head) };
        if differs != 0 || peer.port == 0 || !own.is_other_host(peer.address) {
            return None;
        }
        let header: &[u8; IPV4] = head[ETHERNET..ETHERNET + IPV4].first_chunk()?;
        // Both addresses stand before the TCP header, so one pass sums them, too.
        let summed = frame.get(26..end)?;
        let length = (end - ETHERNET - IPV4) as u16;
        let pseudo = Sum::field(TCP.into()).and(Sum::field(length));
        let intact = Sum::of_all(header).is_intact() && Sum::of(summed).and(pseudo).is_intact();
        let mac: &[u8; 6] = head[6..12].first_chunk()?;
        intact.then_some((
            EthernetAddress(*mac),
            Segment {
                peer,
                to_port: number::<36, _>(head),
                seq: Seq(long_number::<38, _>(head)),
                ack: Seq(long_number::<42, _>(head)),
                bits: head[47],
                window: number::<48, _>(head),
                payload,
                options: &[],
            },
        ))
    }

    /// Writes the frame of a segment with `payload` into `buffer`. Returns its length, or zero
    /// if it does not fit.
    #[inline(never)]
    pub(super) fn write_any(
        &self,
        buffer: &mut TxBuffer,
        route: Route,
        header: Header,
        options: &Options,
        payload: &[u8],
    ) -> usize {
        self.write(buffer, route, header, options, payload)
    }

    /// The same, where it is called for every request.
    #[inline(always)]
    pub(super) fn write(
        &self,
        buffer: &mut TxBuffer,
        route: Route,
        header: Header,
        options: &Options,
        payload: &[u8],
    ) -> usize {
        let Some((head, room)) = buffer.split_first_chunk_mut::<HEADERS>() else { return 0 };
        let behind = options.len() + payload.len();
        let Some(room) = room.get_mut(..behind) else { return 0 };
        let (place, rest) = room.split_at_mut(options.len());
        place.copy_from_slice(options.bytes());
        rest.copy_from_slice(payload);

        let field = |value: usize| u64::from((value as u16).swap_bytes());
        let long = |number: Seq| u64::from(number.0.swap_bytes());
        let from = u64::from(u32::from_le_bytes(route.peer.address));
        let [port, to_port] = [route.port, route.peer.port].map(|port| field(port.into()));
        let total = field(IPV4_TCP + behind);
        let checksum = Sum::word(self.ipv4 + from + total).checksum();
        let checksum = u64::from(u16::from_le_bytes(checksum));

        let (seq, ack) = (long(header.seq), long(header.ack.unwrap_or_default()));
        let bits = header.bits | if header.ack.is_some() { bit::ACK } else { 0 };
        let offset = ((20 + options.len()) << 2) as u64;
        let fields = offset | u64::from(bits) << 8 | field(header.window.into()) << 16;
        let length = field(20 + behind);
        let sum = Sum::word(self.pseudo + from + port + to_port + seq + ack + fields + length);
        let sum = u64::from(u16::from_le_bytes(sum.and(Sum::of(room)).checksum()));

        let [a, b, c, d, e, f] = route.mac.0;
        let [station, ipv4, addresses] = self.sent;
        // In this order: the first two words overlap.
        put::<0, _>(head, u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        put::<6, _>(head, station);
        put::<14, _>(head, ipv4 | total << 16);
        put::<22, _>(head, addresses | checksum << 16);
        put::<30, _>(head, from | port << 32 | to_port << 48);
        put::<38, _>(head, seq | ack << 32);
        put::<46, _>(head, fields | sum << 32);
        HEADERS + behind
    }
}
