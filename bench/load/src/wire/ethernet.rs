//! Datagrams as Ethernet frames: the far end of the wire, by hand.
//!
//! Ethernet II, ARP (RFC 826), IPv4 without options (RFC 791), UDP (RFC 768). What
//! comes back is checked to the last byte: a figure for wrong answers is none.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Bytes of the headers before a UDP payload.
pub const HEADERS: usize = 14 + 20 + 8;

const BROADCAST: Mac = [0xff; 6];
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const UDP: u8 = 17;
/// Ethernet and IPv4, with addresses of 6 and 4 bytes; a request, and an answer.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ARP_ANSWER: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];

/// One end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Ethernet address.
    pub mac: Mac,
    /// IPv4 address.
    pub address: Ipv4Addr,
    /// UDP port.
    pub port: u16,
}

/// Broadcast question: what is the MAC address of `target`?
#[must_use]
pub fn arp_request(from: Station, target: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, ARP_REQUEST, from, [0; 6], target)
}

/// The answer to the question in `frame`, if it is about the address of `own`.
#[must_use]
pub fn answer_arp(frame: &[u8], own: Station) -> Option<Vec<u8>> {
    let body = frame.get(12..)?.strip_prefix(&ARP.to_be_bytes())?.strip_prefix(&ARP_REQUEST)?;
    let (mac, body) = body.split_first_chunk::<6>()?;
    let (address, body) = body.split_first_chunk::<4>()?;
    let asked = body.get(6..10)? == own.address.octets();
    asked.then(|| arp(*mac, ARP_ANSWER, own, *mac, Ipv4Addr::from(*address)))
}

/// The MAC address in the answer to [`arp_request`]; none if `frame` is not it.
#[must_use]
pub fn arp_answer(frame: &[u8], to: Station, target: Ipv4Addr) -> Option<Mac> {
    let body = frame.strip_prefix(&to.mac)?.get(6..)?;
    let body = body.strip_prefix(&ARP.to_be_bytes())?.strip_prefix(&ARP_ANSWER)?;
    let (mac, body) = body.split_first_chunk()?;
    let body = body.strip_prefix(&target.octets())?.strip_prefix(&to.mac)?;
    body.starts_with(&to.address.octets()).then_some(*mac)
}

fn arp(to: Mac, kind: [u8; 8], from: Station, target: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    ethernet(&mut frame, to, from.mac, ARP);
    frame.extend(kind);
    frame.extend(from.mac);
    frame.extend(from.address.octets());
    frame.extend(target);
    frame.extend(address.octets());
    frame
}

/// A UDP datagram.
#[must_use]
pub fn datagram(from: Station, to: Station, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADERS + payload.len());
    append_datagram(&mut frame, from, to, payload);
    frame
}

/// Appends the frame of a UDP datagram to `frame`.
pub fn append_datagram(frame: &mut Vec<u8>, from: Station, to: Station, payload: &[u8]) {
    ethernet(frame, to.mac, from.mac, IPV4);
    let length = (20 + 8 + payload.len()) as u16;
    let ip = frame.len();
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    // No identification, not to be fragmented, 64 hops.
    frame.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    frame.extend(from.address.octets());
    frame.extend(to.address.octets());
    let sum = checksum(&[&frame[ip..]]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());

    let udp = frame.len();
    for field in [from.port, to.port, length - 20, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(payload);
    let sum = match udp_checksum(from.address, to.address, &frame[udp..]) {
        // Zero would mean that there is none.
        0 => 0xffff,
        sum => sum,
    };
    frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

/// The payload of a UDP datagram from `from` to `to`. An error if `frame` is anything
/// else, or a checksum is wrong.
pub fn payload(frame: &[u8], from: Station, to: Station) -> Result<&[u8]> {
    ensure!(frame.len() >= HEADERS, "a frame of {} bytes is too short", frame.len());
    let (headers, rest) = frame.split_at(14);
    let ours = headers[..6] == to.mac && headers[6..12] == from.mac;
    ensure!(ours && headers[12..] == IPV4.to_be_bytes(), "a frame not meant for this end");
    ensure!(rest[0] == 0x45 && rest[9] == UDP, "a packet that is not UDP, or has options");
    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
    let packet = rest.get(..length).context("a packet longer than its frame")?;
    let (ip, udp) = packet.split_at_checked(20).context("a packet shorter than its header")?;
    ensure!(checksum(&[ip]) == 0, "a wrong IPv4 checksum");
    let between = ip[12..16] == from.address.octets() && ip[16..] == to.address.octets();
    ensure!(between, "a packet between strangers");
    let (header, payload) = udp.split_first_chunk::<8>().context("a datagram too short")?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    ensure!((field(0), field(2)) == (from.port, to.port), "a datagram between other ports");
    ensure!(usize::from(field(4)) == udp.len(), "a datagram of the wrong length");
    let right = field(6) == 0 || udp_checksum(from.address, to.address, udp) == 0;
    ensure!(right, "a wrong UDP checksum");
    Ok(payload)
}

fn ethernet(frame: &mut Vec<u8>, to: Mac, from: Mac, kind: u16) {
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
}

fn udp_checksum(from: Ipv4Addr, to: Ipv4Addr, udp: &[u8]) -> u16 {
    let length = (udp.len() as u16).to_be_bytes();
    checksum(&[&from.octets(), &to.octets(), &[0, UDP], &length, udp])
}

/// The internet checksum (RFC 1071) of parts of which all but the last are of even
/// length. Zero over data that holds its right checksum.
fn checksum(parts: &[&[u8]]) -> u16 {
    let sum: u64 = parts
        .iter()
        .map(|part| {
            let words = part.chunks_exact(2);
            let last = words.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
            last + words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>()
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: Station =
        Station { mac: [2, 0, 0, 0, 0, 1], address: Ipv4Addr::new(10, 0, 2, 2), port: 4000 };
    const GUEST: Station = Station {
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        address: Ipv4Addr::new(10, 0, 2, 15),
        port: 11211,
    };

    /// The example of RFC 1071, section 3.
    #[test]
    fn checksum_of_the_standard() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn asks_and_reads_arp() {
        let question = arp_request(HOST, GUEST.address);
        assert_eq!(question.len(), 42);
        assert_eq!(arp_answer(&question, HOST, GUEST.address), None);
        assert_eq!(answer_arp(&question, HOST), None, "it is about another");
        let mut answer = answer_arp(&question, GUEST).unwrap();
        assert_eq!(answer_arp(&answer, GUEST), None, "an answer is no question");
        assert_eq!(arp_answer(&answer, HOST, GUEST.address), Some(GUEST.mac));
        assert_eq!(arp_answer(&answer, HOST, HOST.address), None);
        for len in 0..answer.len() {
            assert_eq!(arp_answer(&answer[..len], HOST, GUEST.address), None);
        }
        // Padded to the shortest frame there is.
        answer.resize(60, 0);
        assert_eq!(arp_answer(&answer, HOST, GUEST.address), Some(GUEST.mac));
    }

    proptest! {
        #[test]
        fn datagrams_round_trip(
            bytes in prop::collection::vec(any::<u8>(), 0..1400),
            padding in 0_usize..8,
        ) {
            let mut frame = datagram(GUEST, HOST, &bytes);
            prop_assert_eq!(frame.len(), HEADERS + bytes.len());
            frame.resize(frame.len() + padding, 0);
            prop_assert_eq!(payload(&frame, GUEST, HOST).unwrap(), &bytes[..]);
            prop_assert!(payload(&frame, HOST, GUEST).is_err());
        }

        /// One changed bit anywhere but in what nothing covers: type of service and
        /// the like are under a checksum, too.
        #[test]
        fn damage_is_noticed(
            bytes in prop::collection::vec(any::<u8>(), 1..100),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut frame = datagram(GUEST, HOST, &bytes);
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            // A checksum that becomes zero says that there is none.
            prop_assume!(frame[40..42] != [0, 0]);
            prop_assert!(payload(&frame, GUEST, HOST).is_err());
        }

        #[test]
        fn garbage_is_no_datagram(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(payload(&bytes, GUEST, HOST).is_err());
        }
    }
}
