//! Language, verifier, canonical form.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{all_frames, any_atom, domain_steps, example, naive};
use crate::{Atom, Filter, FilterError, MAX_ATOMS, MAX_FRAME, Shift, Step, implies, packet};

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
    assert_eq!(new(&[Atom { mask: 0x1ff, ..high }]), Err(FilterError::StrayBits));
    assert_eq!(new(&[Atom::masked(1, 1, 0xf0, 1)]), Err(FilterError::StrayBits));
    assert_eq!(new(&[Atom { mask: 0, lo: 0, hi: 1, ..high }]), Err(FilterError::StrayBits));
    assert_eq!(new(&[Atom::range(1, 1, 5, 4)]), Err(FilterError::EmptyRange));
    let split = Atom { mask: 0x50, lo: 0x10, hi: 0x50, ..high };
    assert_eq!(new(&[split]), Err(FilterError::SplitMask));
    assert!(new(&[Atom { hi: 0x10, ..split }]).is_ok(), "equality");
    // Nothing is asked of the frame that is not asked of every frame.
    assert_eq!(new(&[Atom::masked(10, 4, 0, 0)]), Err(FilterError::NoAtoms));
    assert_eq!(new(&[Atom::range(10, 4, 0, 0xffff_ffff)]), Err(FilterError::NoAtoms));
    let longer = new(&[Atom::range(11, 4, 0, 0xffff_ffff)]).unwrap();
    assert!(longer.matches(&[3; 15]) && !longer.matches(&[3; 14]));
}

#[test]
fn verifier_names_what_is_wrong_with_ranges() {
    let range = Atom::range;
    let apart: Vec<_> = (0..5).map(|i| range(20 + 2 * i, 2, 5, 9)).collect();
    assert_eq!(new(&apart), Err(FilterError::TooManyRanges));
    assert!(new(&apart[..4]).is_ok());
    let pinned = Atom::exact(28, 2, 5);
    assert!(new(&[&apart[..4], &[pinned, range(20, 2, 6, 7)]].concat()).is_ok());
    assert_eq!(new(&[range(20, 2, 5, 9), range(21, 2, 5, 9)]), Err(FilterError::RangesOverlap));
    assert_eq!(new(&[range(20, 2, 5, 9), range(21, 1, 5, 9)]), Err(FilterError::RangesOverlap));
    assert_eq!(new(&[range(20, 2, 5, 9), range(20, 2, 10, 12)]), Err(FilterError::Contradiction));
    // No value from 0x11 to 0x1e ends in 0.
    let even = Atom::masked(20, 1, 0x0f, 0);
    assert_eq!(new(&[range(20, 1, 0x11, 0x1e), even]), Err(FilterError::Contradiction));
    assert_eq!(new(&[range(20, 1, 0x11, 0x20), even]), new(&[Atom::exact(20, 1, 0x20)]));
}

#[test]
fn verifier_names_what_is_wrong_with_shifts() {
    let new = Filter::of_steps;
    let shift = |offset, mask, scale| Step::Shift(Shift { offset, mask, scale });
    let ihl = shift(14, 0x0f, 2);
    let tcp = shift(26, 0xf0, 2);
    let after = Step::Atom(Atom::exact(16, 2, 80));
    assert!(new(&[ihl, after]).is_ok());
    for mask in [0, 0x1f, 0x05, 0xff, 0x81] {
        assert_eq!(new(&[shift(14, mask, 2), after]), Err(FilterError::ShiftMask));
    }
    assert_eq!(new(&[shift(14, 0x0f, 7), after]), Err(FilterError::ShiftScale));
    assert_eq!(new(&[shift(1514, 0x0f, 1), after]), Err(FilterError::BeyondFrame));
    assert_eq!(new(&[after, ihl]), Err(FilterError::IdleShift));
    assert_eq!(new(&[ihl]), Err(FilterError::IdleShift));
    for header in [Atom::exact(13, 1, 0), Atom::exact(13, 2, 0), Atom::masked(6, 8, 0, 0)] {
        assert_eq!(new(&[ihl, header.into()]), Err(FilterError::EthernetHeader));
    }
    assert!(new(&[ihl, Atom::masked(13, 2, 0xff, 0).into()]).is_ok());
    assert_eq!(new(&[ihl, shift(13, 1, 0), after]), Err(FilterError::EthernetHeader));
    let five = |offset, mask, lo| Step::Atom(Atom::masked(offset, 1, mask, lo));
    assert!(new(&[five(14, 0x0f, 5), ihl, tcp, after]).is_ok());
    assert!(new(&[ihl, five(26, 0xf0, 0x50), tcp, after]).is_ok());
    let bit = |offset| shift(offset, 1, 1);
    assert!(new(&[bit(14), bit(15), after]).is_ok());
    assert_eq!(new(&[bit(14), bit(15), bit(16), after]), Err(FilterError::TooManyShifts));
    // Of the values that the header length can have all but 5 and 6 contradict.
    let few = Step::Atom(Atom { offset: 14, width: 1, mask: 0x0f, lo: 5, hi: 6 });
    assert!(new(&[few, ihl, tcp, after]).is_ok());
    let small = Step::Atom(Atom { offset: 26, width: 1, mask: 0xf0, lo: 0x50, hi: 0xc0 });
    assert!(new(&[few, ihl, small, tcp, after]).is_ok(), "2 times 8 cases");
    // A shift that is pinned is counted in.
    let far = Atom::exact(1514 - 961, 2, 0);
    assert!(new(&[shift(14, 0x0f, 6), far.into()]).is_ok());
    let pinned = five(14, 0x0f, 15);
    assert_eq!(new(&[pinned, shift(14, 0x0f, 6), far.into()]), Err(FilterError::BeyondFrame));
    let furthest = Atom::exact(1512, 2, 0);
    assert_eq!(new(&[pinned, shift(14, 0x0f, 6), furthest.into()]), Err(FilterError::BeyondFrame));
    // A case that cannot be is not at fault: with length 0 the ranges would overlap.
    let sound = Step::Atom(Atom { offset: 14, width: 1, mask: 0x0f, lo: 5, hi: 15 });
    let not_zero = Step::Atom(Atom::range(14, 1, 1, 0xff));
    assert!(new(&[sound, ihl, not_zero]).is_ok());
    let sound = Step::Atom(Atom { offset: 14, width: 1, mask: 0x0f, lo: 0, hi: 5 });
    let exactly = |steps: &[Step]| new(steps).and_then(|filter| crate::exact::sound(&filter));
    assert_eq!(exactly(&[sound, ihl, not_zero]), Err(FilterError::RangesOverlap));
    // Contradictory in every case, and only in some.
    let here = Step::Atom(Atom::exact(14, 1, 0x40));
    let other = Step::Atom(Atom::exact(14, 1, 0x41));
    assert_eq!(exactly(&[here, ihl, other]), Err(FilterError::Contradiction));
    assert!(new(&[ihl, Atom::masked(14, 1, 0x0f, 3).into()]).is_ok());
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
    let longer = Atom::masked(30, 8, 0xffff_ffff << 32, 0x0a00_020f << 32);
    assert_ne!(new(&[longer]), Ok(whole));
    assert!(implies(&new(&[longer]).unwrap(), &whole));
    // Within the Ethernet header it does not: no shorter frame matches anyway.
    let byte = new(&[Atom::exact(8, 1, 3)]).unwrap();
    let window = Atom::masked(6, 8, 0xff << 40, 3 << 40);
    assert_eq!(new(&[window]), Ok(byte));
    assert_eq!(byte.reach(), 14);
    let step = byte.steps().next().unwrap();
    assert_eq!(format!("{byte:?}"), format!("[{step:?}]"));
    // Ranges: as much as their values have in common is pinned, and what may be
    // anything is left out.
    let ports = new(&[Atom::range(36, 2, 0x1f40, 0x1f7f)]).unwrap();
    assert_eq!(new(&[Atom::masked(36, 2, 0xffc0, 0x1f40)]), Ok(ports));
    let high = new(&[Atom::range(36, 1, 0x1d, 0x22), Atom::masked(36, 2, 0, 0)]);
    assert_eq!(new(&[Atom::range(36, 2, 0x1d00, 0x22ff)]), high);
    let both = new(&[Atom::range(36, 2, 7, 900), Atom::range(36, 2, 5, 800)]);
    assert_eq!(new(&[Atom::range(36, 2, 7, 800)]), both);
}

#[test]
fn abutting_atoms_become_one_load() {
    assert_eq!(packet::udp_to(A, 11211).steps().count(), 3);
    assert_eq!(packet::icmp_to(A).steps().count(), 3);
    assert_eq!(packet::arp_for(A).steps().count(), 2);
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
fn every_error_has_its_own_text() {
    use FilterError::*;
    let all = [
        NoAtoms,
        TooManyAtoms,
        Width,
        BeyondFrame,
        StrayBits,
        EmptyRange,
        SplitMask,
        Contradiction,
        RangesOverlap,
        TooManyRanges,
        ShiftMask,
        ShiftScale,
        TooManyShifts,
        IdleShift,
        EthernetHeader,
    ];
    let texts: std::collections::HashSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len());
}

/// `steps` with the atoms between two shifts the other way round.
fn reversed(steps: &[Step]) -> Vec<Step> {
    let parts = steps.split_inclusive(|step| matches!(step, Step::Shift(_)));
    parts
        .flat_map(|part| {
            let atoms = part.iter().rev().filter(|step| matches!(step, Step::Atom(_)));
            let shift = part.iter().filter(|step| matches!(step, Step::Shift(_)));
            atoms.chain(shift).copied()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Canonical form changes neither what a filter takes nor, done twice, itself;
    /// verdicts and canonical form do not depend on the order of the atoms.
    #[test]
    fn canonical_form_means_what_its_steps_say(steps in domain_steps()) {
        let new = Filter::of_steps;
        prop_assert_eq!(new(&steps).ok(), new(&reversed(&steps)).ok());
        match new(&steps) {
            Ok(filter) => {
                for frame in all_frames() {
                    prop_assert_eq!(filter.matches(frame), naive(&steps, frame));
                }
                let again: Vec<_> = filter.steps().collect();
                prop_assert_eq!(new(&again), Ok(filter));
                if crate::exact::sound(&filter).is_err() {
                    return Ok(());
                }
                let frame = example(&filter);
                prop_assert!(filter.matches(&frame) && naive(&steps, &frame));
                prop_assert!(!filter.matches(&frame[..frame.len() - 1]));
            }
            Err(FilterError::Contradiction) => {
                prop_assert!(!all_frames().any(|frame| naive(&steps, frame)));
            }
            Err(FilterError::NoAtoms) => {
                let frames = all_frames().filter(|frame| frame.len() >= 14);
                prop_assert!(frames.into_iter().all(|frame| naive(&steps, frame)));
            }
            Err(_) => {}
        }
    }

    /// Sixteen atoms anywhere: the canonical form keeps every bit and the length.
    #[test]
    fn no_bit_is_lost(mut atoms in vec(any_atom(), 1..=MAX_ATOMS), base in 0u16..1400, near: bool) {
        if near {
            atoms.iter_mut().for_each(|atom| atom.offset = base + atom.offset % 100);
        }
        if let Ok(filter) = Filter::new(&atoms) {
            let steps: Vec<_> = atoms.iter().map(|&atom| Step::Atom(atom)).collect();
            let mut frame = vec![0u8; 1514];
            for atom in &atoms {
                let bytes = (atom.lo << (64 - 8 * u32::from(atom.width))).to_be_bytes();
                for (to, byte) in frame[usize::from(atom.offset)..].iter_mut().zip(bytes) {
                    *to |= byte;
                }
            }
            prop_assert!(naive(&steps, &frame) && filter.matches(&frame));
            for at in 0..frame.len() * 8 {
                frame[at / 8] ^= 1 << (at % 8);
                prop_assert_eq!(filter.matches(&frame), naive(&steps, &frame));
                frame[at / 8] ^= 1 << (at % 8);
            }
            let ends = atoms.iter().map(|a| usize::from(a.offset) + usize::from(a.width));
            let reach = ends.max().unwrap().max(14);
            prop_assert_eq!(filter.reach(), reach);
            prop_assert!(filter.matches(&frame[..reach]) && !filter.matches(&frame[..reach - 1]));
        }
    }
}
