//! Language, verifier, wire form, overlap.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{all_frames, any_atom, domain_atom, domain_filter, naive};
use crate::{Atom, Filter, FilterError, MAX_ATOMS, MAX_FRAME, MAX_WIRE, implies, overlap, packet};

const A: [u8; 4] = [10, 0, 2, 15];

fn new(atoms: &[Atom]) -> Result<Filter, FilterError> {
    Filter::new(atoms)
}

#[test]
fn verifier_names_what_is_wrong() {
    let ok = Atom::exact(12, 2, 0x0800);
    let high = Atom::exact(1, 1, 0);
    let many: Vec<_> = (0..17).map(|i| Atom::exact(i * 8, 1, 1)).collect();
    assert_eq!(new(&[]), Err(FilterError::NoAtoms));
    assert_eq!(new(&many), Err(FilterError::TooManyAtoms));
    assert!(new(&many[..MAX_ATOMS]).is_ok());
    for width in (0..=255).filter(|w| ![1, 2, 4, 8].contains(w)) {
        assert_eq!(new(&[ok, Atom { width, ..high }]), Err(FilterError::Width));
    }
    assert_eq!(new(&[Atom::exact(1507, 8, 0)]), Err(FilterError::BeyondFrame));
    assert_eq!(new(&[Atom::exact(u16::MAX, 8, 0)]), Err(FilterError::BeyondFrame));
    assert_eq!(new(&[Atom::exact(1506, 8, 0)]).map(|f| f.reach()), Ok(MAX_FRAME));
    assert_eq!(new(&[Atom { mask: 0, ..high }]), Err(FilterError::EmptyMask));
    assert_eq!(new(&[Atom { mask: 0x1ff, ..high }]), Err(FilterError::StrayBits));
    assert_eq!(new(&[Atom { mask: 0xf0, value: 1, ..high }]), Err(FilterError::StrayBits));
}

#[test]
fn verifier_finds_contradictions_across_different_windows() {
    let wide = Atom::exact(10, 8, 0x0102_0304_0506_0708);
    assert!(new(&[wide, Atom::exact(12, 2, 0x0304)]).is_ok());
    assert_eq!(new(&[wide, Atom::exact(12, 2, 0x0305)]), Err(FilterError::Contradiction));
    assert_eq!(new(&[Atom::exact(17, 2, 0x0900), wide]), Err(FilterError::Contradiction));
    assert!(new(&[Atom::exact(17, 2, 0x0800), wide]).is_ok());
    assert!(new(&[Atom::exact(18, 2, 0x0900), wide]).is_ok());
}

#[test]
fn equal_sets_of_frames_are_equal_values() {
    let whole = new(&[Atom::exact(30, 4, 0x0a00_020f)]).unwrap();
    let bytes: Vec<_> =
        [10, 0, 2, 15].into_iter().zip(30..).map(|(v, at)| Atom::exact(at, 1, v)).collect();
    assert_eq!(new(&bytes), Ok(whole));
    let repeated = [bytes[3], bytes[0], Atom::exact(31, 2, 2), bytes[0]];
    assert_eq!(new(&repeated), Ok(whole));
    // A longer load is another filter: it asks for a longer frame.
    let longer = Atom { offset: 30, width: 8, mask: 0xffff_ffff << 32, value: 0x0a00_020f << 32 };
    assert_ne!(new(&[longer]), Ok(whole));
    assert!(implies(&new(&[longer]).unwrap(), &whole));
    // Within the Ethernet header it does not: no shorter frame matches anyway.
    let byte = new(&[Atom::exact(8, 1, 3)]).unwrap();
    let window = Atom { offset: 6, width: 8, mask: 0xff << 40, value: 3 << 40 };
    assert_eq!(new(&[window]), Ok(byte));
    assert_eq!(byte.reach(), 14);
    let atom = byte.atoms().next().unwrap();
    assert_eq!(format!("{byte:?}"), format!("[{atom:?}]"));
}

#[test]
fn rank_counts_bits_then_bytes() {
    let rank = |atoms: &[Atom]| new(atoms).unwrap().rank();
    let port = Atom::exact(36, 2, 53);
    let near = Atom::exact(12, 2, 0x0800);
    let three = Atom { offset: 12, width: 1, mask: 7, value: 0 };
    assert!(rank(&[near, port]) > rank(&[port]));
    assert!(rank(&[port]) > rank(&[near]));
    assert!(rank(&[near]) > rank(&[three]));
    assert!(rank(&[near]) > rank(&[Atom { offset: 1513, ..three }]));
}

#[test]
fn abutting_atoms_become_one_load() {
    assert_eq!(packet::udp_to(A, 11211).atoms().len(), 3);
    assert_eq!(packet::icmp_to(A).atoms().len(), 3);
    assert_eq!(packet::arp_for(A).atoms().len(), 2);
}

/// A frame with these fields, 42 bytes long.
fn frame(ethertype: u16, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = vec![0xee; 42];
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    for (at, bytes) in fields {
        frame[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    frame
}

#[test]
fn packet_filters_look_at_the_fields_they_name() {
    let ip = |protocol: u8| {
        frame(
            0x0800,
            &[(14, &[0x45]), (20, &[0x40, 0]), (23, &[protocol]), (30, &A), (36, &[0x2b, 0xcb])],
        )
    };
    let arp = frame(0x0806, &[(14, &[0, 1, 8, 0, 6, 4, 0, 1]), (38, &A)]);
    let filters = [packet::udp_to(A, 11211), packet::icmp_to(A), packet::arp_for(A)];
    let taken: Vec<_> = [ip(17), ip(1), arp.clone(), ip(6)]
        .iter()
        .map(|frame| filters.map(|filter| filter.matches(frame)))
        .collect();
    let expected = [[true, false, false], [false, true, false], [false, false, true], [false; 3]];
    assert_eq!(taken, expected);
    // Each pinned byte counts, and no other one does.
    let cases: [(&Filter, Vec<u8>, &[usize]); 3] = [
        (&filters[0], ip(17), &[12, 13, 14, 20, 21, 23, 30, 31, 32, 33, 36, 37]),
        (&filters[1], ip(1), &[12, 13, 14, 20, 21, 23, 30, 31, 32, 33]),
        (&filters[2], arp, &[12, 13, 14, 15, 16, 17, 18, 19, 38, 39, 40, 41]),
    ];
    for (filter, good, pinned) in cases {
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 0x20;
            assert_eq!(filter.matches(&other), !pinned.contains(&at), "byte {at}");
        }
        assert!(!filter.matches(&good[..filter.reach() - 1]));
        assert!(filter.matches(&good[..filter.reach()]));
    }
}

#[test]
fn wire_form_is_what_its_table_says() {
    let filter = new(&[Atom::exact(12, 2, 0x0806)]).unwrap();
    let mut out = [0xaa; MAX_WIRE];
    assert_eq!(MAX_WIRE, 306);
    let len = filter.encode(&mut out).unwrap();
    let expected = [1, 1, 6, 0, 8, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0x06, 0x08, 0, 0, 0, 0, 0, 0];
    assert_eq!(out[..len], expected);
    assert_eq!(filter.encode(&mut out[..len - 1]), None);
    assert_eq!(Filter::decode(&[]), Err(FilterError::Length));
    assert_eq!(Filter::decode(&[2]), Err(FilterError::Version));
    assert_eq!(Filter::decode(&[1, 0]), Err(FilterError::NoAtoms));
    assert_eq!(Filter::decode(&expected[..20]), Err(FilterError::Length));
    let mut many = vec![1, 17];
    for at in 0..17 {
        many.extend_from_slice(&expected[2..]);
        let end = many.len();
        many[end - 19] = at * 8;
    }
    assert_eq!(Filter::decode(&many), Err(FilterError::TooManyAtoms));
}

#[test]
fn every_error_has_its_own_text() {
    use FilterError::*;
    let all = [
        NoAtoms,
        TooManyAtoms,
        Width,
        BeyondFrame,
        EmptyMask,
        StrayBits,
        Contradiction,
        Version,
        Length,
    ];
    let texts: std::collections::HashSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len());
}

proptest! {
    /// Canonical form changes neither what a filter takes nor, done twice, itself;
    /// verdicts and canonical form do not depend on the order of the atoms.
    #[test]
    fn canonical_form_means_what_its_atoms_say(
        (atoms, rotated) in vec(domain_atom(), 1..6).prop_flat_map(|atoms| {
            (Just(atoms.clone()), Just(atoms).prop_shuffle())
        }),
    ) {
        prop_assert_eq!(Filter::new(&atoms), Filter::new(&rotated));
        match Filter::new(&atoms) {
            Ok(filter) => {
                for frame in all_frames() {
                    prop_assert_eq!(filter.matches(&frame), naive(&atoms, &frame));
                }
                let again: Vec<_> = filter.atoms().collect();
                prop_assert!(again.len() <= atoms.len().max(2));
                prop_assert_eq!(Filter::new(&again), Ok(filter));
            }
            Err(error) => {
                prop_assert_eq!(error, FilterError::Contradiction);
                prop_assert!(!all_frames().any(|frame| naive(&atoms, &frame)));
            }
        }
    }

    /// `overlap`, `implies`, `==` and rank against every frame of the domain.
    #[test]
    fn comparisons_are_exact(
        (a_atoms, a) in domain_filter(),
        (mut b_atoms, mut b) in domain_filter(),
        within: bool,
    ) {
        // Half of the pairs by chance, half with one within the other where that can be.
        let joined = [&a_atoms[..], &b_atoms[..]].concat();
        match Filter::new(&joined) {
            Ok(narrower) if within => (b_atoms, b) = (joined, narrower),
            _ => {}
        }
        let (mut both, mut only_a, mut only_b) = (false, false, false);
        for frame in all_frames() {
            let (in_a, in_b) = (naive(&a_atoms, &frame), naive(&b_atoms, &frame));
            both |= in_a && in_b;
            only_a |= in_a && !in_b;
            only_b |= in_b && !in_a;
        }
        prop_assert_eq!(overlap(&a, &b), both);
        prop_assert_eq!(overlap(&b, &a), both);
        prop_assert_eq!(implies(&a, &b), !only_a);
        prop_assert_eq!(implies(&b, &a), !only_b);
        prop_assert_eq!(a == b, !only_a && !only_b);
        if !only_a && only_b {
            prop_assert!(a.rank() > b.rank());
        }
        if !only_b && only_a {
            prop_assert!(b.rank() > a.rank());
        }
    }

    /// Sixteen atoms anywhere: the canonical form keeps every bit and the length.
    #[test]
    fn no_bit_is_lost(mut atoms in vec(any_atom(), 1..=MAX_ATOMS), base in 0u16..1400, near: bool) {
        if near {
            atoms.iter_mut().for_each(|atom| atom.offset = base + atom.offset % 100);
        }
        if let Ok(filter) = Filter::new(&atoms) {
            let mut frame = vec![0u8; 1514];
            for atom in &atoms {
                let bytes = (atom.value << (64 - 8 * u32::from(atom.width))).to_be_bytes();
                for (to, byte) in frame[usize::from(atom.offset)..].iter_mut().zip(bytes) {
                    *to |= byte;
                }
            }
            prop_assert!(naive(&atoms, &frame) && filter.matches(&frame));
            for at in 0..frame.len() * 8 {
                frame[at / 8] ^= 1 << (at % 8);
                prop_assert_eq!(filter.matches(&frame), naive(&atoms, &frame));
                frame[at / 8] ^= 1 << (at % 8);
            }
            let ends = atoms.iter().map(|a| usize::from(a.offset) + usize::from(a.width));
            let reach = ends.max().unwrap().max(14);
            prop_assert_eq!(filter.reach(), reach);
            prop_assert!(filter.matches(&frame[..reach]) && !filter.matches(&frame[..reach - 1]));
        }
    }

    #[test]
    fn wire_form_round_trips(atoms in vec(any_atom(), 1..=MAX_ATOMS)) {
        if let Ok(filter) = Filter::new(&atoms) {
            let mut out = [0xaa; MAX_WIRE];
            let len = filter.encode(&mut out).unwrap();
            prop_assert_eq!(Filter::decode(&out[..len]), Ok(filter));
        }
    }

    /// Arbitrary bytes, half of them with a header that fits: decoding never
    /// panics, and what it accepts is canonical.
    #[test]
    fn decode_survives_anything(mut bytes in vec(any::<u8>(), 0..400), framed: bool) {
        if framed && bytes.len() >= 2 {
            let count = (bytes.len() - 2) / 19;
            bytes.truncate(2 + count * 19);
            bytes[0] = 1;
            bytes[1] = count as u8;
            for atom in bytes[2..].chunks_exact_mut(19) {
                atom[1] %= 6;
                atom[2] = 1 << (atom[2] % 4);
                let width = usize::from(atom[2]);
                let (mask, value) = atom[3..].split_at_mut(8);
                mask.iter_mut().skip(width).for_each(|m| *m = 0);
                value.iter_mut().zip(mask).for_each(|(v, m)| *v &= *m);
            }
        }
        if let Ok(filter) = Filter::decode(&bytes) {
            let atoms: Vec<_> = filter.atoms().collect();
            prop_assert_eq!(Filter::new(&atoms), Ok(filter));
        }
    }
}
