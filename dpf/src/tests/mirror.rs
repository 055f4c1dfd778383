//! What the holder of a key may send.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::packet::{arp_for, icmp_to, ipv4_all, udp_to};
use crate::{Atom, Filter, KEY_BYTES, Key, NoMirror};

const A: [u8; 4] = [10, 0, 2, 15];
const STATION: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// The head of a packet with both roles swapped, field by field.
fn swapped(head: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut out = *head;
    let mut swap = |a: usize, b: usize, len: usize| {
        out[a..a + len].copy_from_slice(&head[b..b + len]);
        out[b..b + len].copy_from_slice(&head[a..a + len]);
    };
    swap(0, 6, 6);
    if head[12..14] == [8, 6] {
        swap(22, 32, 6);
        swap(28, 38, 4);
    } else {
        swap(26, 30, 4);
        if [6, 17, 33, 132, 136].contains(&head[23]) {
            swap(34, 36, 2);
        }
    }
    out
}

fn key(filter: &Filter) -> Key {
    Key::of(filter).expect("pinned bits")
}

/// A key with exactly these fields: (offset, width, value).
fn of(fields: &[(u16, u8, u64)]) -> Key {
    let atoms: Vec<_> = fields.iter().map(|&(o, w, v)| Atom::exact(o, w, v)).collect();
    key(&Filter::new(&atoms).unwrap())
}

/// A packet that has the key, the rest of it zero.
fn example(key: &Key) -> [u8; KEY_BYTES] {
    core::array::from_fn(|at| key.byte(at).1)
}

#[test]
fn udp_speaks_from_its_address_and_port_only() {
    let out = key(&udp_to(A, 11211)).mirror(STATION).unwrap();
    let expected = Filter::new(&[
        Atom::exact(6, 4, 0x5254_0012),
        Atom::exact(10, 2, 0x3456),
        Atom::exact(12, 2, 0x0800),
        Atom::exact(14, 1, 0x45),
        Atom::masked(20, 2, 0x3fff, 0),
        Atom::exact(23, 1, 17),
        Atom::exact(26, 4, 0x0a00_020f),
        Atom::exact(34, 2, 11211),
    ]);
    assert_eq!(out, key(&expected.unwrap()));
    let frame = example(&out);
    assert!(out.matches(&frame));
    // Source station, ethertype, options, fragments, protocol, address, port.
    for at in [6, 11, 12, 14, 20, 21, 23, 26, 29, 34, 35] {
        let mut forged = frame;
        forged[at] ^= 1;
        assert!(!out.matches(&forged), "byte {at}");
    }
}

#[test]
fn an_address_alone_speaks_any_protocol_from_there() {
    let out = key(&ipv4_all(A)).mirror(STATION).unwrap();
    let expected =
        of(&[(6, 4, 0x5254_0012), (10, 2, 0x3456), (12, 2, 0x0800), (26, 4, 0x0a00_020f)]);
    assert_eq!(out, expected);
    let arp = example(&key(&arp_for(A)).mirror(STATION).unwrap());
    assert_eq!((&arp[6..12], &arp[22..28]), (&STATION[..], &STATION[..]));
    assert_eq!((&arp[14..20], &arp[28..32]), (&[0, 1, 8, 0, 6, 4][..], &A[..]));
    let icmp = example(&key(&icmp_to(A)).mirror(STATION).unwrap());
    assert_eq!((&icmp[26..30], icmp[23]), (&A[..], 1));
    assert_eq!(Key::ALL.mirror(STATION), Ok(Key::ALL), "the whole network");
    // Part of the addresses, or of the ports, is an identity, too.
    let half = [Atom::exact(12, 2, 0x0800), Atom::masked(30, 4, 0xffff_ff80, 0x0a00_0200)];
    let out = key(&Filter::new(&half).unwrap()).mirror(STATION).unwrap();
    let mut frame = example(&out);
    assert_eq!(frame[26..30], [10, 0, 2, 0]);
    frame[29] = 0x7f;
    assert!(out.matches(&frame));
    frame[29] = 0x80;
    assert!(!out.matches(&frame));
}

#[test]
fn what_pins_no_identity_has_no_mirror() {
    let ethertype = (12, 2, 0x0800);
    let options = (14, 1, 0x45);
    let fragment = (20, 2, 0);
    let address = (30, 4, 0x0a00_020f);
    let (udp, icmp, port) = ((23, 1, 17), (23, 1, 1), (36, 2, 53));
    let refused = |fields: &[_]| of(fields).mirror(STATION).unwrap_err();

    assert_eq!(refused(&[options, fragment, udp, address, port]), NoMirror::Ethertype);
    assert_eq!(refused(&[(12, 2, 0x8100), options, fragment, udp, address]), NoMirror::Ethertype);
    assert_eq!(refused(&[ethertype, fragment, udp, address, port]), NoMirror::Format);
    assert_eq!(
        refused(&[ethertype, (14, 1, 0x46), fragment, udp, address, port]),
        NoMirror::Format
    );
    assert_eq!(refused(&[ethertype, options, udp, address, port]), NoMirror::Format);
    assert_eq!(refused(&[ethertype, options, (20, 2, 1), udp, address, port]), NoMirror::Format);
    assert_eq!(refused(&[ethertype, options, fragment, address, port]), NoMirror::Protocol);
    assert_eq!(refused(&[ethertype, options, fragment, udp, port]), NoMirror::Address);
    assert_eq!(refused(&[ethertype, options, fragment, icmp]), NoMirror::Address);
    for address in [0u64, 0x7f00_0001, 0xe000_0001, 0xffff_ffff] {
        assert_eq!(refused(&[ethertype, (30, 4, address)]), NoMirror::NotASource);
    }

    let arp = (12, 2, 0x0806);
    let (types, lengths, target) = ((14, 4, 0x0001_0800), (18, 2, 0x0604), (38, 4, 0x0a00_020f));
    assert_eq!(refused(&[arp, types, target]), NoMirror::Format);
    assert_eq!(refused(&[arp, types, (18, 2, 0x0804), target]), NoMirror::Format);
    assert_eq!(refused(&[arp, (14, 2, 1), lengths, target]), NoMirror::Format);
    assert_eq!(refused(&[arp, types, lengths]), NoMirror::Address);
    assert_eq!(refused(&[arp, types, lengths, (38, 2, 0x0a00)]), NoMirror::Address);
}

#[test]
fn the_station_is_not_for_the_key_to_choose() {
    let and = |filter: &Filter, more: Atom| {
        let all: Vec<_> = filter.steps().chain([more.into()]).collect();
        key(&Filter::of_steps(&all).unwrap()).mirror(STATION)
    };
    assert!(and(&udp_to(A, 1), Atom::exact(0, 2, 0x5254)).is_ok());
    assert_eq!(and(&udp_to(A, 1), Atom::exact(0, 1, 0x53)), Err(NoMirror::Station));
    assert_eq!(and(&arp_for(A), Atom::exact(34, 1, 0x53)), Err(NoMirror::Station));
}

/// Keys that have a mirror more often than not: one of the usual kinds, for few
/// addresses and ports, and more atoms.
fn receive_key() -> impl Strategy<Value = Key> {
    let narrow = (0u16..56, any::<u64>()).prop_map(|(offset, mask)| {
        Atom::masked(offset, 8, (mask & 0x0101_0101_0101_0101).max(1), 0)
    });
    (0u8..5, 0u8..2, 0u16..2, vec(narrow, 0..3)).prop_filter_map(
        "contradictory",
        |(kind, host, port, more)| {
            let address = [10, 0, 2, host];
            let base = match kind {
                0 => udp_to(address, port),
                1 => icmp_to(address),
                2 => arp_for(address),
                3 => ipv4_all(address),
                _ => udp_to([10, 0, 2, 0], port),
            };
            let steps: Vec<_> = base.steps().chain(more.into_iter().map(Into::into)).collect();
            Key::of(&Filter::of_steps(&steps).ok()?)
        },
    )
}

proptest! {
    /// The mirror takes exactly the station's packets that the key takes swapped.
    #[test]
    fn mirror_is_the_swapped_key(
        receive in receive_key(),
        from_mirror: bool,
        flips in vec((0usize..KEY_BYTES, 0u32..8), 0..3),
    ) {
        let out = match receive.mirror(STATION) {
            Ok(out) => out,
            Err(error) => {
                prop_assert!(matches!(error, NoMirror::Station | NoMirror::Format | NoMirror::Protocol));
                return Ok(());
            }
        };
        let mut frame = if from_mirror {
            example(&out)
        } else {
            let mut frame = swapped(&example(&receive));
            frame[6..12].copy_from_slice(&STATION);
            frame
        };
        for (at, bit) in flips {
            frame[at] ^= 1 << bit;
        }
        let own = frame[6..12] == STATION
            && (frame[12..14] != [8, 6] || frame[22..28] == STATION);
        prop_assert_eq!(out.matches(&frame), own && receive.matches(&swapped(&frame)));
    }

    /// No two mirrors match a packet that no two keys match.
    #[test]
    fn keys_apart_have_mirrors_apart(a in receive_key(), b in receive_key()) {
        if let (Ok(out_a), Ok(out_b)) = (a.mirror(STATION), b.mirror(STATION)) {
            prop_assert!(!a.contradicts(&b) || out_a.contradicts(&out_b));
        }
    }
}
