//! Overlap, implication, witnesses: exact, for all kinds of step.

use proptest::prelude::*;

use super::{DOMAIN, LONGEST, all_frames, domain_filter, domain_steps, naive};
use crate::exact::sound;
use crate::{Atom, Filter, FilterError, MAX_FRAME, Shift, Step, implies, overlap, packet, witness};

/// A filter that can be compared.
fn steps(steps: &[Step]) -> Result<Filter, FilterError> {
    let filter = Filter::of_steps(steps)?;
    sound(&filter).map(|()| filter)
}

/// The shift by the IPv4 header length.
const IHL: Step = Step::Shift(Shift { offset: 14, mask: 0x0f, scale: 2 });

/// The header length is not less than the header.
fn sound_ihl() -> Step {
    Step::Atom(Atom { offset: 14, width: 1, mask: 0x0f, lo: 5, hi: 15 })
}

/// UDP to this port, behind a header with or without options.
fn port(port: u16) -> Vec<Step> {
    let exact = |offset, width, value| Step::Atom(Atom::exact(offset, width, value));
    let first_fragment = Step::Atom(Atom::masked(20, 2, 0x1fff, 0));
    vec![
        exact(12, 2, 0x0800),
        sound_ihl(),
        first_fragment,
        exact(23, 1, 17),
        IHL,
        exact(16, 2, port.into()),
    ]
}

#[test]
fn ports_behind_options_are_told_apart() {
    let (one, other) = (steps(&port(53)).unwrap(), steps(&port(54)).unwrap());
    assert!(!overlap(&one, &other) && !implies(&one, &other) && implies(&one, &one));
    let fixed = packet::udp_to([10, 0, 2, 15], 53);
    assert!(overlap(&one, &fixed) && !overlap(&other, &fixed));
    assert!(implies(&fixed, &one) && !implies(&one, &fixed));
    assert!(fixed.pinned() > one.pinned() && one.pinned() == other.pinned());
    assert_eq!(one.reach(), 14 + 60 + 4);
    // Among all protocols' frames the header length is not looked at.
    let ip = steps(&port(53)[..1]).unwrap();
    assert!(implies(&one, &ip) && !implies(&ip, &one));
    // The union of all header lengths is every header length.
    let any_length =
        [port(53)[0], IHL, Step::Atom(Atom { mask: 0, hi: 0, ..Atom::range(14, 1, 0, 0) })];
    let any_length = steps(&any_length).unwrap();
    let long = Filter::new(&[Atom::exact(12, 2, 0x0800), Atom::masked(74, 1, 0, 0)]).unwrap();
    assert!(
        implies(&long, &any_length) && !implies(&any_length, &long) && !implies(&ip, &any_length)
    );
}

#[test]
fn a_pinned_shift_is_no_shift() {
    let mut with = port(53);
    with.insert(0, Step::Atom(Atom::exact(14, 1, 0x45)));
    let without = Filter::new(&[
        Atom::exact(12, 2, 0x0800),
        Atom::exact(14, 1, 0x45),
        Atom::masked(20, 2, 0x1fff, 0),
        Atom::exact(23, 1, 17),
        Atom::exact(36, 2, 53),
    ]);
    assert_eq!(steps(&with), without);
    // A range that leaves one value pins, too.
    with[0] = Step::Atom(Atom { offset: 14, width: 1, mask: 0x0f, lo: 0, hi: 5 });
    let mut version_open = port(53);
    version_open[1] = Step::Atom(Atom::masked(14, 1, 0x0f, 5));
    assert_eq!(steps(&with), steps(&version_open));
    assert!(
        version_open.len() == 6
            && steps(&with).unwrap().steps().all(|s| matches!(s, Step::Atom(_)))
    );
}

#[test]
fn ranges_that_overlap_in_part_are_compared() {
    let range = |offset, width, lo, hi| Filter::new(&[Atom::range(offset, width, lo, hi)]).unwrap();
    let wide = range(36, 2, 0x1ff0, 0x200f);
    // The low byte is 0xf0 to 0xff, or 0 to 0x0f.
    for (lo, hi, shared) in
        [(0x10, 0xef, false), (0x0f, 0x20, true), (0xf0, 0xf1, true), (0x20, 0xf0, true)]
    {
        let low = range(37, 1, lo, hi);
        assert_eq!(
            (overlap(&wide, &low), overlap(&low, &wide)),
            (shared, shared),
            "{lo:x}..={hi:x}"
        );
    }
    assert!(implies(&range(36, 2, 0x1ff3, 0x1ff4), &range(37, 1, 0xf0, 0xff)));
    assert!(!implies(&wide, &range(37, 1, 0xf0, 0xff)));
    assert!(implies(&wide, &range(36, 1, 0x1f, 0x20)));
    // A byte that is in the middle of a range of eight.
    let eight = range(32, 8, 0x01_02_03_04_05_06_07_08, 0x01_02_03_04_05_06_07_0a);
    assert!(!overlap(&eight, &range(36, 2, 0x0507, 0x0606)));
    assert!(implies(&eight, &range(38, 2, 0x0708, 0x070a)));
    assert!(!implies(&eight, &range(38, 2, 0x0708, 0x0709)));
}

/// Every pair of ranges over three bits, two of them shared, with pinned bits: the
/// sets are sets of the values that four bits have.
#[test]
fn small_fields_are_compared_exactly() {
    let mut filters = Vec::new();
    for (low, pins) in [(1, [0b1000, 0b0110]), (0, [0b0001, 0b0101])] {
        for lo in 0..8u64 {
            for hi in lo..8 {
                for (mask, value) in [(0, 0), (pins[0], pins[0]), (pins[1], 0b0100), (15, 0b0110)] {
                    let value = value & mask;
                    let range = (lo << low, hi << low);
                    let set = (0..16u64).filter(|x| {
                        (range.0..=range.1).contains(&(x & (7 << low))) && x & mask == value
                    });
                    let set = set.fold(0u16, |set, x| set | 1 << x);
                    let range =
                        Atom { offset: 30, width: 1, mask: 7 << low, lo: range.0, hi: range.1 };
                    let made = Filter::new(&[Atom::masked(30, 1, mask, value), range]);
                    match made {
                        Ok(filter) => filters.push((filter, set)),
                        Err(error) => {
                            assert_eq!((error, set), (FilterError::Contradiction, 0));
                        }
                    }
                }
            }
        }
    }
    for (a, set_a) in &filters {
        for (b, set_b) in &filters {
            assert_eq!(overlap(a, b), set_a & set_b != 0, "{a:?} {b:?}");
            assert_eq!(implies(a, b), set_a & !set_b == 0, "{a:?} {b:?}");
            assert_eq!(a == b, set_a == set_b, "{a:?} {b:?}");
        }
    }
}

#[test]
fn more_pinned_bits_go_first_and_then_the_older() {
    let filter = |atoms: &[Atom]| Filter::new(atoms).unwrap();
    let (port, bit) = (Atom::exact(36, 2, 53), Atom::masked(12, 1, 7, 0));
    assert!(filter(&[port, bit]).rank(9) > filter(&[port]).rank(0));
    assert!(filter(&[port]).rank(1) > filter(&[bit]).rank(0));
    assert!(filter(&[port]).rank(0) > filter(&[port]).rank(1));
    assert_ne!(filter(&[Atom::range(36, 2, 1, 9)]).rank((1 << 48) - 1), 0);
    // Of a range, what its values share.
    assert_eq!(filter(&[Atom::range(36, 2, 0x0100, 0x01ff)]).pinned(), 8);
    assert_eq!(filter(&[Atom::range(36, 2, 6000, 7000)]).pinned(), 4);
}

/// As many cases and ranges as there can be.
#[test]
fn the_largest_filters_are_compared() {
    let large = |at: u16, lo: u64| {
        let range = |i: u16| Step::Atom(Atom::range(at + 8 * i, 8, lo, u64::MAX - lo));
        steps(&[IHL, range(0), range(1), range(2), range(3)]).unwrap()
    };
    let (a, b) = (large(100, 5), large(104, 1 << 40));
    assert_eq!(a.cases().count(), 16);
    assert!(overlap(&a, &b) && !implies(&a, &b) && implies(&a, &large(100, 4)));
}

/// Non-domain bits of the frame, all zero: with this in it, a filter that looks at no
/// byte before the domain is a set of frames of the domain, of full length.
fn universe() -> Vec<Step> {
    (0..5)
        .map(|i| {
            let offset = 8 + 8 * i;
            let varies = DOMAIN.into_iter().filter(|(at, _)| (offset..offset + 8).contains(at));
            let free = varies
                .fold(0, |mask, (at, bits)| mask | u64::from(bits) << (8 * (offset + 7 - at)));
            Step::Atom(Atom::masked(offset as u16, 8, !free, 0))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A witness proves that two filters overlap; if there is none no frame is found.
    #[test]
    fn overlap_is_proved((a_steps, a) in domain_filter(), (b_steps, b) in domain_filter()) {
        let mut frame = [0xaa; MAX_FRAME];
        let found = witness(&a, &b, &mut frame);
        prop_assert_eq!(found.is_some(), overlap(&a, &b));
        prop_assert_eq!(found.is_some(), overlap(&b, &a));
        match found {
            Some(length) => {
                let frame = &frame[..length];
                prop_assert!(naive(&a_steps, frame) && naive(&b_steps, frame));
                prop_assert!(a.matches(frame) && b.matches(frame));
            }
            None => {
                prop_assert!(!all_frames().any(|f| naive(&a_steps, f) && naive(&b_steps, f)));
            }
        }
    }

    /// What implies another takes none of the domain's frames that the other does not.
    #[test]
    fn implication_holds_at_every_length((a_steps, a) in domain_filter(), (b_steps, b) in domain_filter()) {
        // Each with both of them, which implies it if it is a filter.
        let joined = [&a_steps[..], &b_steps[..]].concat();
        for (steps, inner) in [(&joined, steps(&joined)), (&a_steps, Ok(a))] {
            if let Ok(inner) = inner && implies(&inner, &b) {
                prop_assert!(!all_frames().any(|f| naive(steps, f) && !naive(&b_steps, f)));
            }
        }
    }

    /// `overlap`, `implies` and `==` against every frame of a universe in which
    /// nothing but the domain varies.
    #[test]
    fn comparisons_are_exact(a in domain_steps(), b in domain_steps(), within: bool) {
        let a = [universe(), a].concat();
        let b = if within { [a.clone(), b].concat() } else { [universe(), b].concat() };
        let (Ok(a_filter), Ok(b_filter)) = (steps(&a), steps(&b)) else { return Ok(()) };
        let (mut both, mut only_a, mut only_b) = (false, false, false);
        for frame in all_frames().filter(|frame| frame.len() == LONGEST) {
            let (in_a, in_b) = (naive(&a, frame), naive(&b, frame));
            both |= in_a && in_b;
            only_a |= in_a && !in_b;
            only_b |= in_b && !in_a;
        }
        let (a, b) = (a_filter, b_filter);
        let longest = a.cases().chain(b.cases()).map(|case| case.reach()).max();
        prop_assert!(longest <= Some(LONGEST), "or length would matter");
        prop_assert_eq!(overlap(&a, &b), both);
        prop_assert_eq!(implies(&a, &b), !only_a);
        prop_assert_eq!(implies(&b, &a), !only_b);
        let no_shift = |filter: &Filter| filter.shifts().next().is_none();
        if no_shift(&a) && no_shift(&b) {
            prop_assert_eq!(a == b, !only_a && !only_b);
        }
    }
}
