//! The first 42 bytes of a packet: Ethernet, IPv4 without options and UDP headers, at once.
//!
//! Nearly every packet of a server is a whole datagram to its port, from another host. That
//! is a statement about bits at fixed places, so it is asked with four comparisons of words
//! instead of a field at a time; what remains are the lengths, the sums and the sender. A
//! packet that is not such is not refused here: the other way, header by header
//! ([`FastUdp`](super::FastUdp)), finds out what it is and why it is dropped.
//!
//! The headers of an answer are the requester's turned round: own words, and in between what
//! the request says of its sender.

use super::ipv4::Own;
use crate::net::answerers::is_plainly_a_client;
use crate::net::checksum::Sum;
use crate::net::words::{number, put, word};
use crate::net::{Endpoint, TxBuffer};

/// Bytes of the Ethernet, IPv4 and UDP headers in front of a payload.
pub const HEADERS: usize = 14 + 20 + 8;
/// Of these, those of the last two; of the last.
const IPV4_UDP: usize = 20 + 8;
const UDP: usize = 8;
/// The protocol's number (RFC 790).
const PROTOCOL: u8 = 17;

/// The headers as they lie in a packet.
pub(super) type Head = [u8; HEADERS];

/// What a server's packets have in common.
#[derive(Debug)]
pub(super) struct Template {
    port: u16,
    /// What bytes 0 to 7, 12 to 19, 16 to 23 and 30 to 37 of a request are.
    request: [u64; 4],
    /// Bytes 6 to 13, 14 to 21 and 22 to 29 of an answer without length and checksum, and
    /// bytes 34 to 41 without the requester's port, length and checksum.
    answer: [u64; 4],
    /// The sums of what is the same in every IPv4 header, and in every pseudo header with
    /// ports, as fields: adding a few more to them needs no carry.
    ipv4: u64,
    udp: u64,
}

/// Which bits [`Template::request`] is about: the own station and that the other is none of
/// many; IPv4 with a header of 20 bytes; no fragment, and UDP; own address and port.
const REQUEST: [u64; 4] = [
    u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]),
    u64::from_le_bytes([0xff, 0xff, 0xff, 0, 0, 0, 0, 0]),
    u64::from_le_bytes([0, 0, 0, 0, 0x3f, 0xff, 0, 0xff]),
    u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff]),
];

/// Where a packet comes from.
#[inline(always)]
pub(super) fn sender(head: &Head) -> Endpoint {
    Endpoint { address: (word::<26, _>(head) as u32).to_le_bytes(), port: number::<34, _>(head) }
}

impl Template {
    pub(super) fn new(own: &Own, port: u16) -> Self {
        let [a, b, c, d, e, f] = own.mac.0;
        let [i, j, k, l] = own.address;
        let [p, q] = port.to_be_bytes();
        let answer = [
            u64::from_le_bytes([a, b, c, d, e, f, 8, 0]),
            // Identification stays zero, as RFC 6864 allows with "don't fragment".
            u64::from_le_bytes([0x45, 0, 0, 0, 0, 0, 0x40, 0]),
            u64::from_le_bytes([super::ipv4::TIME_TO_LIVE, PROTOCOL, 0, 0, i, j, k, l]),
            u64::from_le_bytes([p, q, 0, 0, 0, 0, 0, 0]),
        ];
        Self {
            port,
            request: [
                u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
                u64::from_le_bytes([8, 0, 0x45, 0, 0, 0, 0, 0]),
                u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, PROTOCOL]),
                u64::from_le_bytes([i, j, k, l, 0, 0, p, q]),
            ],
            answer,
            ipv4: Sum::word(answer[1]).and(Sum::word(answer[2])).as_field(),
            udp: Sum::address(own.address)
                .and(Sum::field(port))
                .and(Sum::field(PROTOCOL.into()))
                .as_field(),
        }
    }

    /// The payload of `packet`, and its headers, if it is an intact datagram that a client
    /// could have sent to this server. Bytes may follow, such as Ethernet's padding.
    #[inline(always)]
    pub(super) fn request<'a>(&self, own: &Own, packet: &'a [u8]) -> Option<(&'a Head, &'a [u8])> {
        let head = packet.first_chunk::<HEADERS>()?;
        let words =
            [word::<0, _>(head), word::<12, _>(head), word::<16, _>(head), word::<30, _>(head)];
        let mut differs = 0;
        for ((word, wanted), bits) in words.into_iter().zip(self.request).zip(REQUEST) {
            differs |= (word ^ wanted) & bits;
        }
        let length = usize::from(number::<38, _>(head));
        // Not more than is there, and as much as the IPv4 header says.
        let payload = packet.get(HEADERS..HEADERS - UDP + length)?;
        let agrees = usize::from(number::<16, _>(head)) == IPV4_UDP - UDP + length;
        let from = sender(head);
        if differs != 0
            || !agrees
            || !own.is_other_host(from.address)
            || !is_plainly_a_client(from.port, self.port)
        {
            return None;
        }
        let header: &[u8; 20] = head[14..34].first_chunk()?;
        // Both addresses stand before the UDP header, so one pass sums them, too; a
        // checksum of zero says that the sender made none.
        let datagram = packet.get(26..HEADERS - UDP + length)?;
        let pseudo = Sum::field(PROTOCOL.into()).and(Sum::field(length as u16));
        let intact = Sum::of_all(header).is_intact()
            && (head[40..] == [0, 0] || Sum::of(datagram).and(pseudo).is_intact());
        intact.then_some((head, payload))
    }

    /// Puts the headers of the answer to `request` before the first `length` bytes of
    /// payload in `buffer`, whose sum is `payload`. Returns the packet's length. A length
    /// beyond the buffer is cut, and the checksum then is wrong.
    #[inline(always)]
    pub(super) fn answer(
        &self,
        request: &Head,
        buffer: &mut TxBuffer,
        (length, payload): (usize, Sum),
    ) -> usize {
        let length = length.min(buffer.len() - HEADERS);
        let Some((head, _)) = buffer.split_first_chunk_mut::<HEADERS>() else { return 0 };
        let field = |value: usize| u64::from((value as u16).swap_bytes());
        let (total, length_field) = (field(IPV4_UDP + length), field(UDP + length));
        let from = word::<26, _>(request) & 0xffff_ffff;
        let port = u64::from(number::<34, _>(request).swap_bytes());

        let checksum = Sum::word(self.ipv4 + from + total).checksum();
        let checksum = u64::from(u16::from_le_bytes(checksum));
        let sum = payload.and(Sum::word(self.udp + from + port + 2 * length_field));
        // Zero would say that there is no checksum; all ones means the same sum.
        let udp = match u16::from_le_bytes(sum.checksum()) {
            0 => 0xffff,
            sum => u64::from(sum),
        };
        let [station, ipv4, addresses, ports] = self.answer;
        // In this order: the first two words overlap the second.
        put::<0, _>(head, word::<6, _>(request));
        put::<6, _>(head, station);
        put::<14, _>(head, ipv4 | total << 16);
        put::<22, _>(head, addresses | checksum << 16);
        put::<30, _>(head, from);
        put::<34, _>(head, ports | port << 16 | length_field << 32 | udp << 48);
        HEADERS + length
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::net::TxBuffer;
    use crate::net::tests::frames::{fix_ipv4, udp};
    use crate::net::tests::{PORT, Reverse, SERVER};
    use crate::net::udp::{Dropped, FastUdp};

    type Outcome = (Result<Vec<u8>, Dropped>, usize);

    impl FastUdp {
        fn at_once(
            &self,
            frame: &[u8],
            buffer: &mut TxBuffer,
            service: &mut Reverse,
        ) -> Result<usize, Dropped> {
            let mut stack = FastUdp::new(&SERVER, PORT);
            let length = stack.handle(frame, buffer, service);
            let dropped = Dropped::ALL.into_iter().find(|&reason| stack.drops.count(reason) > 0);
            dropped.map_or(Ok(length), Err)
        }
    }

    /// What becomes of `frame` at once, and what header by header.
    fn both(frame: &[u8]) -> [Outcome; 2] {
        [FastUdp::at_once, FastUdp::other].map(|way| {
            let (mut buffer, mut service) = ([0xee; 1514], Reverse::default());
            let length = way(&FastUdp::new(&SERVER, PORT), frame, &mut buffer, &mut service);
            (length.map(|length| buffer[..length].to_vec()), service.requests.len())
        })
    }

    #[test]
    fn every_single_wrong_byte_is_judged_as_header_by_header() {
        for sum in [true, false] {
            let mut intact = udp(b"a request");
            if !sum {
                intact[40..42].fill(0);
            }
            for (at, value) in (0..intact.len()).flat_map(|at| (0..=255).map(move |v| (at, v))) {
                for fixed in [false, true] {
                    let mut frame = intact.clone();
                    frame[at] = value;
                    if fixed && frame[14] == 0x45 {
                        fix_ipv4(&mut frame);
                    }
                    let [one, other] = both(&frame);
                    assert_eq!(one, other, "byte {at} is {value}");
                }
            }
            assert!(both(&intact)[0].0.as_ref().is_ok_and(|answer| !answer.is_empty()));
            let stack = FastUdp::new(&SERVER, PORT);
            assert!(stack.template.request(&stack.own, &intact).is_some(), "the usual way");
        }
    }

    #[test]
    fn port_zero_gets_no_answer_even_without_a_checksum() {
        let mut frame = udp(b"x");
        frame[34..36].fill(0);
        frame[40..42].fill(0);
        assert_eq!(both(&frame), [const { (Err(Dropped::BadUdp), 0) }; 2]);
    }

    proptest! {
        /// Damage of any kind, and any length, comes to the same.
        #[test]
        fn both_ways_come_to_the_same(
            payload in prop::collection::vec(any::<u8>(), 0..90),
            changes in prop::collection::vec((0usize..60, any::<u8>()), 0..4),
            cut in 0usize..200,
            padding in 0usize..20,
            fix in any::<bool>(),
        ) {
            let mut frame = udp(&payload);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if fix && frame[14] == 0x45 {
                fix_ipv4(&mut frame);
            }
            frame.truncate(cut);
            frame.extend(vec![0xaa; padding]);
            let [one, other] = both(&frame);
            prop_assert_eq!(one, other);
        }
    }
}
