//! What the owner of a filter may send.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{any_atom, atoms, example as shortest};
use crate::packet::{arp_for, icmp_to, udp_to};
use crate::test::Bits;
use crate::{Atom, Filter, MAX_ATOMS, NoMirror, Shift, Step, mirror, overlap};

const A: [u8; 4] = [10, 0, 2, 15];
const STATION: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// The frame with both roles swapped, field by field.
fn swapped(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    let mut swap = |a: usize, b: usize, len: usize| {
        out[a..a + len].copy_from_slice(&frame[b..b + len]);
        out[b..b + len].copy_from_slice(&frame[a..a + len]);
    };
    swap(0, 6, 6);
    if frame[12..14] == [8, 6] {
        swap(22, 32, 6);
        swap(28, 38, 4);
    } else {
        swap(26, 30, 4);
        if [6, 17, 33, 132, 136].contains(&frame[23]) {
            swap(34, 36, 2);
        }
    }
    out
}

/// `filter` with more atoms.
fn and(filter: &Filter, more: &[Atom]) -> Filter {
    let all: Vec<_> = atoms(filter).into_iter().chain(more.iter().copied()).collect();
    Filter::new(&all).unwrap()
}

/// A filter with exactly these fields: (offset, width, value).
fn of(fields: &[(u16, u8, u64)]) -> Filter {
    let atoms: Vec<_> = fields.iter().map(|&(o, w, v)| Atom::exact(o, w, v)).collect();
    Filter::new(&atoms).unwrap()
}

/// A frame that matches, of at least `len` bytes.
fn example(filter: &Filter, len: usize) -> Vec<u8> {
    let mut frame = shortest(filter);
    frame.resize(frame.len().max(len), 0);
    frame
}

#[test]
fn udp_speaks_from_its_address_and_port_only() {
    let out = mirror(&udp_to(A, 11211), STATION).unwrap();
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
    assert_eq!(Ok(out), expected);
    let frame = example(&out, 60);
    assert!(out.matches(&frame));
    // Source station, ethertype, options, fragments, protocol, address, port.
    for at in [6, 11, 12, 14, 20, 21, 23, 26, 29, 34, 35] {
        let mut forged = frame.clone();
        forged[at] ^= 1;
        assert!(!out.matches(&forged), "byte {at}");
    }
}

#[test]
fn arp_and_icmp_speak_from_their_address() {
    let arp = example(&mirror(&arp_for(A), STATION).unwrap(), 42);
    assert_eq!(arp[6..12], STATION);
    assert_eq!(arp[14..20], [0, 1, 8, 0, 6, 4]);
    assert_eq!(arp[22..28], STATION);
    assert_eq!(arp[28..32], A);
    let icmp = example(&mirror(&icmp_to(A), STATION).unwrap(), 42);
    assert_eq!(icmp[6..12], STATION);
    assert_eq!(icmp[26..30], A);
    assert_eq!(icmp[23], 1);
}

#[test]
fn what_pins_no_identity_has_no_mirror() {
    let ethertype = (12, 2, 0x0800);
    let options = (14, 1, 0x45);
    let fragment = (20, 2, 0);
    let address = (30, 4, 0x0a00_020f);
    let (udp, icmp, port) = ((23, 1, 17), (23, 1, 1), (36, 2, 53));
    let refused = |fields: &[_]| mirror(&of(fields), STATION).unwrap_err();

    assert_eq!(refused(&[options, fragment, udp, address, port]), NoMirror::Ethertype);
    assert_eq!(refused(&[(12, 2, 0x8100), options, fragment, udp, address]), NoMirror::Ethertype);
    assert_eq!(refused(&[ethertype, fragment, udp, address, port]), NoMirror::Format);
    assert_eq!(refused(&[ethertype, (14, 1, 0x46), fragment, icmp, address]), NoMirror::Format);
    assert_eq!(refused(&[ethertype, options, udp, address, port]), NoMirror::Format);
    assert_eq!(refused(&[ethertype, options, (20, 2, 1), udp, address, port]), NoMirror::Format);
    assert_eq!(refused(&[ethertype, options, fragment, address, port]), NoMirror::Protocol);
    assert_eq!(refused(&[ethertype, options, fragment, udp, port]), NoMirror::Address);
    assert_eq!(refused(&[ethertype, options, fragment, icmp, (30, 2, 0x0a00)]), NoMirror::Address);
    assert_eq!(refused(&[ethertype, options, fragment, udp, address]), NoMirror::Port);
    for protocol in [6, 17, 33, 132, 136] {
        let fields = [ethertype, options, fragment, (23, 1, protocol), address, (36, 1, 0)];
        assert_eq!(refused(&fields), NoMirror::Port);
    }
    for address in [0u64, 0x7f00_0001, 0xe000_0001, 0xffff_ffff] {
        let fields = [ethertype, options, fragment, icmp, (30, 4, address)];
        assert_eq!(refused(&fields), NoMirror::NotASource);
    }

    let arp = (12, 2, 0x0806);
    let (types, lengths, target) = ((14, 4, 0x0001_0800), (18, 2, 0x0604), (38, 4, 0x0a00_020f));
    assert_eq!(refused(&[arp, types, target]), NoMirror::Format);
    assert_eq!(refused(&[arp, types, (18, 2, 0x0804), target]), NoMirror::Format);
    assert_eq!(refused(&[arp, (14, 2, 1), lengths, target]), NoMirror::Format);
    assert_eq!(refused(&[arp, types, lengths]), NoMirror::Address);
    assert_eq!(refused(&[arp, types, lengths, (38, 2, 0x0a00)]), NoMirror::Address);
}

/// The usual filters pin nothing but what a mirror needs: without any one of
/// their bits, or with it turned, there is no mirror, or one for the other value.
#[test]
fn every_pinned_bit_is_needed() {
    for filter in [udp_to(A, 11211), icmp_to(A), arp_for(A)] {
        let bits: Vec<Atom> = (0..8 * 42)
            .filter_map(|bit| {
                let mask = 0x80 >> (bit % 8);
                let atom = |value| Atom::masked(bit / 8, 1, mask, value);
                [0, mask].map(atom).into_iter().find(|atom| filter.pins(&Bits::of(atom)))
            })
            .collect();
        let bytes = |bits: &[Atom]| {
            let mut atoms: Vec<Atom> = Vec::new();
            for bit in bits {
                match atoms.last_mut().filter(|last| last.offset == bit.offset) {
                    Some(last) => {
                        let (mask, value) = (last.mask | bit.mask, last.lo | bit.lo);
                        *last = Atom::masked(bit.offset, 1, mask, value);
                    }
                    None => atoms.push(*bit),
                }
            }
            Filter::new(&atoms).unwrap()
        };
        assert_eq!(bytes(&bits), filter);
        for i in 0..bits.len() {
            let mut fewer = bits.clone();
            let removed = fewer.remove(i);
            assert!(mirror(&bytes(&fewer), STATION).is_err(), "without {removed:?}");
            let mut turned = bits.clone();
            turned[i].lo ^= turned[i].mask;
            turned[i].hi = turned[i].lo;
            if let Ok(out) = mirror(&bytes(&turned), STATION) {
                assert!(matches!(removed.offset, 23 | 30..42), "with other {removed:?}");
                assert!(!overlap(&out, &mirror(&filter, STATION).unwrap()));
            }
        }
    }
}

#[test]
fn the_station_is_not_for_the_filter_to_choose() {
    let to_station = [Atom::exact(0, 2, 0x5254), Atom::exact(2, 4, 0x0012_3456)];
    assert!(mirror(&and(&udp_to(A, 1), &to_station), STATION).is_ok());
    let foreign = [Atom::exact(0, 1, 0x53)];
    assert_eq!(mirror(&and(&udp_to(A, 1), &foreign), STATION), Err(NoMirror::Station));
    let foreign = [Atom::exact(34, 1, 0x53)];
    assert_eq!(mirror(&and(&arp_for(A), &foreign), STATION), Err(NoMirror::Station));
}

#[test]
fn ranges_move_with_their_fields() {
    let low_ports = Atom::range(34, 2, 0x0200, 0x0311);
    let ttl = Atom::range(22, 1, 64, 100);
    let behind = Atom::range(60, 4, 7, 9);
    let out = mirror(&and(&udp_to(A, 7), &[low_ports, ttl, behind]), STATION).unwrap();
    let moved = Atom { offset: 36, ..low_ports };
    let expected = and(&mirror(&udp_to(A, 7), STATION).unwrap(), &[moved, ttl, behind]);
    assert_eq!(out, expected);
    // The two bytes around where the source address begins, and where the headers end.
    for offset in [25, 41] {
        let split = and(&udp_to(A, 7), &[Atom::range(offset, 2, 3, 0x0a01)]);
        assert_eq!(mirror(&split, STATION), Err(NoMirror::Range), "{offset}");
    }
    // A range of ports is no identity.
    let ports =
        of(&[(12, 2, 0x0800), (14, 1, 0x45), (20, 2, 0), (23, 1, 17), (30, 4, 0x0a00_020f)]);
    assert_eq!(mirror(&and(&ports, &[Atom::range(36, 2, 7, 8)]), STATION), Err(NoMirror::Port));
}

#[test]
fn a_filter_with_a_shift_has_no_mirror() {
    let with = |shift, atom: Atom| {
        let steps: Vec<_> = udp_to(A, 7).steps().chain([Step::Shift(shift), atom.into()]).collect();
        mirror(&Filter::of_steps(&steps).unwrap(), STATION)
    };
    let first = Atom::exact(42, 1, 5);
    let beyond = Shift { offset: 42, mask: 3, scale: 2 };
    assert_eq!(with(beyond, first), Err(NoMirror::Shift));
    // Twenty bytes of header are no shift.
    let header = Shift { offset: 14, mask: 15, scale: 2 };
    let plain = and(&udp_to(A, 7), &[Atom { offset: 62, ..first }]);
    assert_eq!(with(header, first), mirror(&plain, STATION));
    assert!(with(header, first).is_ok());
}

#[test]
fn a_mirror_that_grows_too_long_is_refused() {
    let far: Vec<_> = (3..MAX_ATOMS as u16).map(|i| Atom::exact(100 + 10 * i, 1, 1)).collect();
    let full = and(&udp_to(A, 1), &far);
    assert_eq!(full.steps().count(), MAX_ATOMS);
    assert_eq!(mirror(&full, STATION), Err(NoMirror::TooManyAtoms));
}

/// Filters that have a mirror more often than not: one of the usual kinds, for few
/// addresses and ports, and more atoms.
fn receive_filter() -> impl Strategy<Value = Filter> {
    let narrow = any_atom().prop_map(|atom| {
        let mask = (atom.mask & 0x0101_0101_0101_0101 & Atom::field(atom.width)).max(1);
        Atom::masked(atom.offset % 50, atom.width, mask, 0)
    });
    (0u8..4, 0u8..2, 0u16..2, vec(narrow, 0..4)).prop_filter_map(
        "contradictory",
        |(kind, host, port, more)| {
            let address = [10, 0, 2, host];
            let base = match kind {
                0 => udp_to(address, port),
                1 => icmp_to(address),
                2 => arp_for(address),
                _ => of(&[
                    (12, 2, 0x0800),
                    (14, 1, 0x45),
                    (20, 2, 0),
                    (23, 1, 132),
                    (30, 4, 0x0a00_0200 + u64::from(host)),
                    (36, 2, port.into()),
                ]),
            };
            Filter::new(&[atoms(&base), more].concat()).ok()
        },
    )
}

proptest! {
    /// The mirror takes exactly the station's frames that the filter takes swapped.
    #[test]
    fn mirror_is_the_swapped_filter(
        receive in receive_filter(),
        from_mirror: bool,
        flips in vec((0usize..50, 0u32..8), 0..3),
    ) {
        // Zero bits beside the station's cannot be pinned, and bits that move apart need more
        // windows: give up only there.
        let out = match mirror(&receive, STATION) {
            Ok(out) => out,
            Err(error) => {
                prop_assert!(matches!(error, NoMirror::Station | NoMirror::TooManyAtoms));
                return Ok(());
            }
        };
        let mut frame = if from_mirror {
            example(&out, 64)
        } else {
            let mut frame = swapped(&example(&receive, 64));
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

    /// What no two filters hear, no two mirrors say.
    #[test]
    fn disjoint_filters_have_disjoint_mirrors(a in receive_filter(), b in receive_filter()) {
        if let (Ok(out_a), Ok(out_b)) = (mirror(&a, STATION), mirror(&b, STATION)) {
            prop_assert!(overlap(&a, &b) || !overlap(&out_a, &out_b));
        }
    }
}
