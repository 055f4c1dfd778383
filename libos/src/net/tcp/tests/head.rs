//! A segment read at once is what it is header by header.

use proptest::prelude::*;

use crate::net::tcp::head::Template;
use crate::net::tcp::segment::{Segment, TCP, bit};
use crate::net::tests::frames::{checksum, fix_ipv4, from, ipv4};
use crate::net::tests::{CLIENT, PORT, SERVER};
use crate::net::udp::host::{Taken, take};
use crate::net::udp::ipv4::Own;

fn segment(bits: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(40_001_u16.to_be_bytes());
    tcp.extend(PORT.to_be_bytes());
    tcp.extend([
        1,
        2,
        3,
        4,
        0xfe,
        6,
        7,
        8,
        ((20 + options.len()) << 2) as u8,
        bits,
        2,
        1,
        0,
        0,
        0,
        0,
    ]);
    tcp.extend(options);
    tcp.extend(payload);
    let mut frame = from(CLIENT.mac, CLIENT.address, &ipv4(TCP, &tcp));
    fix_tcp(&mut frame);
    frame
}

/// Makes the checksum of the segment right again.
fn fix_tcp(frame: &mut [u8]) {
    frame[50..52].fill(0);
    let length = ((frame.len() - 34) as u16).to_be_bytes();
    let sum = checksum(&[&frame[26..34], &[0, TCP], &length, &frame[34..]]);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
}

/// What a segment says, if it is one of the usual kind to the server.
type Said = Option<([u8; 6], [u32; 4], [u16; 3], Vec<u8>)>;

fn said(mac: [u8; 6], segment: &Segment<'_>) -> Said {
    let usual = segment.bits & !bit::PSH == bit::ACK && segment.options.is_empty();
    let (peer, bits) = (segment.peer, u32::from(segment.bits));
    let numbers = [segment.seq.0, segment.ack.0, bits, u32::from_be_bytes(peer.address)];
    let ports = [peer.port, segment.to_port, segment.window];
    let to_us = segment.to_port == PORT && peer.port != 0;
    (usual && to_us).then(|| (mac, numbers, ports, segment.payload.to_vec()))
}

fn both(frame: &[u8]) -> [Said; 2] {
    let own = Own::new(&SERVER);
    let template = Template::new(&own, PORT);
    let at_once = template.usual(&own, frame).and_then(|(mac, segment)| said(mac.0, &segment));
    let by_header = match take(&own, frame, &mut [0; 1514]) {
        Ok(Taken::Packet(mac, packet)) if packet.protocol == TCP => {
            Segment::parse(&own, packet).and_then(|segment| said(mac.0, &segment))
        }
        _ => None,
    };
    [at_once, by_header]
}

/// But for bits that RFC 9293 reserves or ECN uses: they may be anything, header by header.
fn has_odd_bits(frame: &[u8]) -> bool {
    frame.get(46..48).is_some_and(|bytes| bytes[0] & 0xf != 0 || bytes[1] & 0xe0 != 0)
}

#[test]
fn every_single_wrong_byte_comes_to_the_same() {
    let intact = segment(bit::ACK | bit::PSH, &[], b"get a key\r\n");
    let [at_once, by_header] = both(&intact);
    assert!(at_once.is_some() && at_once == by_header);
    for (at, value) in (0..intact.len()).flat_map(|at| (0..=255).map(move |value| (at, value))) {
        for fixed in [false, true] {
            let mut frame = intact.clone();
            frame[at] = value;
            if fixed && frame[14] == 0x45 {
                fix_ipv4(&mut frame);
                fix_tcp(&mut frame);
            }
            if !has_odd_bits(&frame) {
                let [at_once, by_header] = both(&frame);
                assert_eq!(at_once, by_header, "byte {at} is {value}");
            }
        }
    }
}

proptest! {
    /// Damage of any kind, any length, any options.
    #[test]
    fn both_ways_come_to_the_same(
        bits: u8,
        plain: bool,
        options in prop::sample::select(vec![&[][..], &[], &[1, 1, 1, 0]]),
        payload in prop::collection::vec(any::<u8>(), 0..90),
        changes in prop::collection::vec((0_usize..60, any::<u8>()), 0..3),
        cut in 0_usize..200,
        padding in 0_usize..20,
        fix: bool,
    ) {
        let bits = if plain { bit::ACK } else { bits };
        let mut frame = segment(bits, options, &payload);
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if fix && frame[14] == 0x45 {
            fix_ipv4(&mut frame);
            fix_tcp(&mut frame);
        }
        frame.truncate(cut);
        frame.extend(vec![0xaa; padding]);
        if !has_odd_bits(&frame) {
            let [at_once, by_header] = both(&frame);
            prop_assert_eq!(at_once, by_header);
        }
    }
}
