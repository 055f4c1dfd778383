//! The fast path, packet by packet.

use proptest::prelude::*;

use super::frames::{arp_request, checksum, fix_ipv4, ipv4, ping, udp};
use super::{CLIENT, PORT, Reverse, SERVER, Single};
use crate::net::udp::{Dropped, FastUdp};
use crate::net::{Endpoint, UdpStack};

/// What the fast path does with `frame`: the frames sent, the requests seen and
/// the reasons for dropping.
fn run(frame: &[u8]) -> (Vec<Vec<u8>>, Reverse, Vec<Dropped>) {
    let mut device = Single::new(frame);
    let mut stack = FastUdp::new(&SERVER, PORT);
    let mut service = Reverse::default();
    let handled = stack.poll(&mut device, &mut service, 0, 64).unwrap();
    assert_eq!(handled, 1);
    assert!(device.received.is_none(), "every frame is consumed");
    let drops = stack.drops();
    let reasons: Vec<_> = Dropped::ALL.into_iter().filter(|&r| drops.count(r) > 0).collect();
    assert_eq!(drops.total() as usize, reasons.len());
    (device.sent, service, reasons)
}

#[track_caller]
fn is_dropped(frame: &[u8], reason: Dropped) {
    let (sent, service, reasons) = run(frame);
    assert_eq!(reasons, [reason]);
    assert!(sent.is_empty() && service.requests.is_empty());
}

/// Checks everything about an answer from the server, and returns its payload.
#[track_caller]
fn answer(frame: &[u8], protocol: u8) -> &[u8] {
    assert_eq!(frame[..6], CLIENT.mac);
    assert_eq!(frame[6..12], SERVER.mac);
    assert_eq!(frame[12..14], [8, 0]);
    let header = &frame[14..34];
    assert_eq!(checksum(&[header]), 0);
    assert_eq!(header[..2], [0x45, 0]);
    assert_eq!(usize::from(u16::from_be_bytes([header[2], header[3]])), frame.len() - 14);
    assert_eq!(header[4..10], [0, 0, 0x40, 0, 64, protocol]);
    assert_eq!(header[12..16], SERVER.address);
    assert_eq!(header[16..20], CLIENT.address);
    &frame[34..]
}

#[test]
fn udp_request_is_answered() {
    for length in [1, 2, 3, 58, 59, 60, 100, 1000, 1471, 1472] {
        let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let (sent, service, reasons) = run(&udp(&payload));
        assert!(reasons.is_empty());
        let from = Endpoint { address: CLIENT.address, port: 54321 };
        assert_eq!(service.requests, [(payload.clone(), from)]);
        assert_eq!(sent.len(), 1);
        let datagram = answer(&sent[0], 17);
        let udp_length = ((8 + length) as u16).to_be_bytes();
        let pseudo = [&SERVER.address[..], &CLIENT.address, &[0, 17], &udp_length].concat();
        assert_eq!(checksum(&[&pseudo, datagram]), 0);
        assert_eq!(datagram[..2], PORT.to_be_bytes());
        assert_eq!(datagram[2..4], 54321_u16.to_be_bytes());
        assert_eq!(datagram[4..6], udp_length);
        assert!(datagram[8..].iter().rev().eq(&payload));
    }
}

#[test]
fn checksum_that_would_be_zero_is_sent_as_ones() {
    // All sums but one in 65535 are something else; search for that one.
    let found = (0..=u16::MAX).find(|number| {
        let (sent, _, _) = run(&udp(&number.to_be_bytes()));
        assert_ne!(sent[0][40..42], [0, 0], "zero says that there is no checksum");
        sent[0][40..42] == [0xff, 0xff]
    });
    assert!(found.is_some());
}

#[test]
fn service_may_stay_silent_and_padding_is_ignored() {
    let mut frame = udp(b"");
    let (sent, service, reasons) = run(&frame);
    assert!(sent.is_empty() && reasons.is_empty());
    assert_eq!(service.requests.len(), 1);
    frame = udp(b"short");
    frame.resize(60, 0xaa);
    let (sent, service, _) = run(&frame);
    assert_eq!((sent.len(), &service.requests[0].0[..]), (1, &b"short"[..]));
}

#[test]
fn a_datagram_without_checksum_is_taken() {
    let mut frame = udp(b"no checksum");
    frame[40..42].fill(0);
    assert_eq!(run(&frame).0.len(), 1);
}

#[test]
fn options_are_dropped() {
    let plain = udp(b"options");
    // Four bytes of option 1, no operation, between header and datagram.
    let mut frame = [&plain[..34], &[1; 4], &plain[34..]].concat();
    frame[14] = 0x46;
    frame[17] += 4;
    fix_ipv4(&mut frame);
    is_dropped(&frame, Dropped::BadIpv4);
}

#[test]
fn ping_is_answered() {
    for length in [0, 1, 56, 1472] {
        let request = ping(&vec![0x5a; length]);
        let (sent, _, reasons) = run(&request);
        assert!(reasons.is_empty());
        let message = answer(&sent[0], 1);
        assert_eq!(checksum(&[message]), 0);
        assert_eq!(message[..2], [0, 0]);
        assert_eq!(message[4..], request[38..]);
    }
}

#[test]
fn arp_request_is_answered() {
    let (sent, _, reasons) = run(&arp_request());
    assert!(reasons.is_empty());
    let expected = [
        &CLIENT.mac[..],
        &SERVER.mac,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        &SERVER.mac,
        &SERVER.address,
        &CLIENT.mac,
        &CLIENT.address,
    ];
    assert_eq!(sent, [expected.concat()]);
}

#[test]
fn frames_for_others_are_dropped() {
    let mut frame = udp(b"x");
    frame[5] ^= 1;
    is_dropped(&frame, Dropped::OtherMac);
    frame[..6].fill(0xff);
    is_dropped(&frame, Dropped::OtherMac);
    let mut frame = udp(b"x");
    frame[6] |= 1;
    is_dropped(&frame, Dropped::BadMac);
    let mut frame = udp(b"x");
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    is_dropped(&frame, Dropped::EtherType);
    let mut frame = udp(b"x");
    frame[33] = 16;
    fix_ipv4(&mut frame);
    is_dropped(&frame, Dropped::OtherAddress);
    let mut frame = arp_request();
    frame[41] = 16;
    is_dropped(&frame, Dropped::OtherArp);
    let mut reply = arp_request();
    reply[21] = 2;
    is_dropped(&reply, Dropped::OtherArp);
    is_dropped(&ipv4(6, &[0; 20]), Dropped::Protocol);
    let mut frame = udp(b"x");
    frame[37] ^= 1;
    is_dropped(&frame, Dropped::OtherPort);
    let mut pong = ping(b"x");
    pong[34] = 0;
    pong[36] = pong[36].wrapping_add(8);
    is_dropped(&pong, Dropped::OtherIcmp);
}

#[test]
fn lies_about_lengths_are_dropped() {
    let frame = udp(b"twelve bytes");
    for length in 0..14 {
        is_dropped(&frame[..length], Dropped::Truncated);
    }
    for length in 14..frame.len() {
        is_dropped(&frame[..length], Dropped::BadIpv4);
    }
    for (at, value, reason) in [
        (14, 0x44, Dropped::BadIpv4),
        (14, 0x4f, Dropped::BadIpv4),
        (14, 0x65, Dropped::BadIpv4),
        (17, 19, Dropped::BadIpv4),
        (17, 255, Dropped::BadIpv4),
        (16, 255, Dropped::BadIpv4),
        (17, 20, Dropped::BadUdp),
        (17, 27, Dropped::BadUdp),
        (39, 7, Dropped::BadUdp),
        (39, 21, Dropped::BadUdp),
        (38, 255, Dropped::BadUdp),
    ] {
        let mut frame = frame.clone();
        frame[at] = value;
        if frame[14] == 0x45 {
            fix_ipv4(&mut frame);
        }
        is_dropped(&frame, reason);
    }
    for length in 0..8 {
        is_dropped(&ipv4(1, &vec![0; length]), Dropped::BadIcmp);
        is_dropped(&ipv4(17, &vec![0; length]), Dropped::BadUdp);
    }
    for length in 14..42 {
        is_dropped(&arp_request()[..length], Dropped::BadArp);
    }
    let mut frame = arp_request();
    frame[18] = 255;
    is_dropped(&frame, Dropped::BadArp);
}

#[test]
fn wrong_checksums_and_fragments_are_dropped() {
    let intact = udp(b"intact");
    let mut frame = intact.clone();
    frame[22] ^= 1;
    is_dropped(&frame, Dropped::Ipv4Checksum);
    let mut frame = intact.clone();
    frame[44] ^= 1;
    is_dropped(&frame, Dropped::UdpChecksum);
    let mut frame = ping(b"intact");
    frame[44] ^= 1;
    is_dropped(&frame, Dropped::IcmpChecksum);
    for (at, value) in [(20, 0x20), (20, 0x1f), (21, 1)] {
        let mut frame = intact.clone();
        frame[at] = value;
        fix_ipv4(&mut frame);
        is_dropped(&frame, Dropped::Fragment);
    }
}

#[test]
fn nobody_is_answered_who_cannot_have_asked() {
    for source in
        [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [10, 0, 2, 255], [10, 0, 2, 15]]
    {
        let mut frame = udp(b"x");
        frame[26..30].copy_from_slice(&source);
        fix_ipv4(&mut frame);
        is_dropped(&frame, Dropped::BadSource);
    }
    let mut frame = udp(b"x");
    frame[34..36].fill(0);
    is_dropped(&frame, Dropped::BadUdp);
    let mut frame = arp_request();
    frame[22] |= 1;
    is_dropped(&frame, Dropped::BadArp);
}

#[test]
fn budget_bounds_a_batch() {
    let mut rings = crate::net::rings::model::Kernel::rings(3);
    rings.bell().arriving.extend((0..20).map(|i| udp(&[i; 40])));
    let mut stack = FastUdp::new(&SERVER, PORT);
    let mut service = Reverse::default();
    let mut batches = Vec::new();
    use crate::net::NetDevice;
    rings.sync().unwrap();
    loop {
        let handled = stack.poll(&mut rings, &mut service, 0, 5).unwrap();
        rings.sync().unwrap();
        batches.push(handled);
        if handled == 0 {
            break;
        }
    }
    assert_eq!(batches.iter().sum::<u32>(), 20);
    assert!(batches.iter().all(|&handled| handled <= 5));
    assert_eq!(rings.bell().sent.len(), 20);
    assert_eq!(stack.drops().total(), 0);
}

#[test]
fn requests_wait_for_room_to_be_answered() {
    use crate::net::NetDevice;
    let mut rings = crate::net::rings::model::Kernel::rings(1);
    rings.bell().hold_transmit = true;
    let mut stack = FastUdp::new(&SERVER, PORT);
    let mut service = Reverse::default();
    for i in 0..6 {
        rings.bell().arriving.push_back(udp(&[i; 40]));
    }
    let mut handled = 0;
    for _ in 0..6 {
        rings.sync().unwrap();
        handled += stack.poll(&mut rings, &mut service, 0, 64).unwrap();
    }
    assert_eq!((handled, stack.wait_micros()), (2, Some(100)), "there are two buffers");
    // The device has sent them, and nothing that is an event has happened.
    rings.bell().hold_transmit = false;
    for _ in 0..4 {
        rings.sync().unwrap();
        handled += stack.poll(&mut rings, &mut service, 0, 64).unwrap();
    }
    rings.sync().unwrap();
    assert_eq!((handled, rings.bell().sent.len(), stack.wait_micros()), (6, 6, None));
    assert_eq!(stack.drops().total(), 0);
}

proptest! {
    /// Any bytes: nothing panics, and nothing but an intact request is answered.
    #[test]
    fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (sent, _, _) = run(&bytes);
        prop_assert!(sent.is_empty());
    }

    /// An intact frame with a few bytes changed: nothing panics, and what is
    /// sent is well formed.
    #[test]
    fn damage_is_survived(
        kind in 0..3,
        changes in prop::collection::vec((0usize..90, any::<u8>()), 0..4),
        cut in 0usize..200,
    ) {
        let mut frame = match kind {
            0 => udp(&[0x42; 40]),
            1 => ping(&[0x42; 40]),
            _ => arp_request(),
        };
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(cut);
        let (sent, _, _) = run(&frame);
        for frame in sent {
            prop_assert!(frame.len() >= 42 && frame.len() <= 1514);
            if frame[12..14] == [8, 0] {
                prop_assert_eq!(checksum(&[&frame[14..34]]), 0);
            }
        }
    }
}
