//! The wire form: what its table says, what postcard says, and anything.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{any_atom, domain_steps};
use crate::{Atom, Filter, FilterError, MAX_ATOMS, MAX_WIRE, Shift, Step};

/// The value that the bytes are postcard's form of.
#[derive(Serialize, Deserialize)]
struct Wire {
    version: u8,
    steps: Vec<WireStep>,
}

#[derive(Serialize, Deserialize)]
enum WireStep {
    Equal { offset: u16, width: u8, mask: u64, value: u64 },
    Range { offset: u16, width: u8, mask: u64, lo: u64, hi: u64 },
    Shift { offset: u16, mask: u8, scale: u8 },
}

impl From<Step> for WireStep {
    fn from(step: Step) -> Self {
        match step {
            Step::Atom(Atom { offset, width, mask, lo, hi }) if lo == hi => {
                Self::Equal { offset, width, mask, value: lo }
            }
            Step::Atom(Atom { offset, width, mask, lo, hi }) => {
                Self::Range { offset, width, mask, lo, hi }
            }
            Step::Shift(Shift { offset, mask, scale }) => Self::Shift { offset, mask, scale },
        }
    }
}

impl From<WireStep> for Step {
    fn from(step: WireStep) -> Self {
        match step {
            WireStep::Equal { offset, width, mask, value } => {
                Self::Atom(Atom::masked(offset, width, mask, value))
            }
            WireStep::Range { offset, width, mask, lo, hi } => {
                Self::Atom(Atom { offset, width, mask, lo, hi })
            }
            WireStep::Shift { offset, mask, scale } => Self::Shift(Shift { offset, mask, scale }),
        }
    }
}

/// What postcard makes of the steps.
fn postcard(steps: impl Iterator<Item = Step>) -> Vec<u8> {
    let wire = Wire { version: 2, steps: steps.map(Into::into).collect() };
    postcard::to_allocvec(&wire).unwrap()
}

fn encoded(filter: &Filter) -> Vec<u8> {
    let mut out = [0xaa; MAX_WIRE];
    let length = filter.encode(&mut out).unwrap();
    out[..length].to_vec()
}

#[test]
fn wire_form_is_what_its_table_says() {
    assert_eq!(MAX_WIRE, 342);
    let steps = [
        Step::Atom(Atom::masked(200, 8, 0xff80, 0x0100)),
        Step::Shift(Shift { offset: 14, mask: 0x0f, scale: 2 }),
        Step::Atom(Atom { offset: 14, width: 8, mask: 0x7f, lo: 3, hi: 4 }),
    ];
    let filter = Filter::of_steps(&steps).unwrap();
    let expected = [
        &[2, 3][..],
        &[0, 0xc8, 0x01, 8, 0x80, 0xff, 0x03, 0x80, 0x02],
        &[2, 14, 0x0f, 2],
        // Pinned are the upper bits, the rest is a range.
        &[0, 14, 8, 0x78, 0x00],
    ]
    .concat();
    assert_eq!(encoded(&filter)[2..13], expected[2..13]);
    assert_eq!(Filter::decode(&encoded(&filter)), Ok(filter));
    let atom = Filter::new(&[Atom::exact(12, 2, 0x0806)]).unwrap();
    let bytes = [2, 1, 0, 6, 8, 0xff, 0xff, 0x03, 0x86, 0x10];
    assert_eq!(encoded(&atom), bytes);
    for short in 0..bytes.len() {
        assert_eq!(atom.encode(&mut vec![0; short]), None);
        assert_eq!(Filter::decode(&bytes[..short]), Err(FilterError::Encoding));
    }
    let mut two = bytes.to_vec();
    two.extend(bytes);
    assert_eq!(Filter::decode(&two), Err(FilterError::Encoding));
    assert_eq!(Filter::decode_first(&two), Ok((atom, &bytes[..])));
}

#[test]
fn decoder_names_what_is_wrong() {
    let decode = Filter::decode;
    assert_eq!(decode(&[1, 1, 12, 0, 2]), Err(FilterError::Version));
    assert_eq!(decode(&[3]), Err(FilterError::Version));
    assert_eq!(decode(&[2, 0]), Err(FilterError::NoAtoms));
    let atom = [0, 12, 1, 1, 1];
    let repeated = |count: u8| [&[2, count][..], &atom.repeat(count.into())].concat();
    assert!(decode(&repeated(12)).is_ok());
    assert_eq!(decode(&repeated(13)), Err(FilterError::TooManyAtoms));
    assert_eq!(decode(&[2, 1, 3, 12, 1, 1, 1]), Err(FilterError::Encoding));
    // Numbers that are longer than they need be, or too large for their type.
    assert_eq!(decode(&[2, 1, 0, 0x8c, 0, 1, 1, 1]), Err(FilterError::Encoding));
    assert_eq!(decode(&[2, 1, 0, 0xff, 0xff, 4, 1, 1, 1]), Err(FilterError::Encoding));
    assert_eq!(decode(&[2, 1, 0, 0xff, 0xff, 3, 1, 1, 1]), Err(FilterError::BeyondFrame));
    let mask = |last: u8| [&[2, 1, 0, 20, 8][..], &[0xff; 9], &[last, 5]].concat();
    assert!(decode(&mask(1)).is_ok());
    assert_eq!(decode(&mask(2)), Err(FilterError::Encoding));
    assert_eq!(decode(&mask(0x81)), Err(FilterError::Encoding));
    // Twelve ranges over the same field say no more than one, but are too long.
    let range = Atom { offset: 1000, width: 8, mask: u64::MAX, lo: 1 << 63, hi: u64::MAX - 1 };
    let many = postcard([range.into(); 12].into_iter());
    assert!(many.len() > MAX_WIRE && decode(&many) == Err(FilterError::Encoding));
    assert_eq!(decode(&postcard([range.into(); 9].into_iter())), Filter::new(&[range]));
}

proptest! {
    #[test]
    fn wire_form_is_postcards(steps in domain_steps(), atoms in vec(any_atom(), 1..=MAX_ATOMS)) {
        let atoms = atoms.into_iter().map(Step::Atom).collect();
        for steps in [steps, atoms] {
            let wire = postcard(steps.iter().copied());
            let filter = Filter::of_steps(&steps);
            if wire.len() <= MAX_WIRE || filter.is_err() {
                prop_assert_eq!(Filter::decode(&wire), filter);
            }
            if let Ok(filter) = filter {
                prop_assert_eq!(encoded(&filter), postcard(filter.steps()));
                prop_assert_eq!(Filter::decode(&encoded(&filter)), Ok(filter));
            }
        }
    }

    /// Arbitrary bytes, and ones that were a filter: decoding never panics; what it
    /// accepts postcard reads as well, and writes as the same bytes.
    #[test]
    fn decode_survives_anything(
        mut bytes in vec(any::<u8>(), 0..500),
        steps in domain_steps(),
        kind in 0..3,
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        if kind > 0 {
            bytes = postcard(steps.into_iter());
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = if kind == 1 { byte } else { bytes[at] ^ 1 << (byte % 8) };
            }
        }
        if let Ok((filter, rest)) = Filter::decode_first(&bytes) {
            let (wire, left): (Wire, _) = postcard::take_from_bytes(&bytes).unwrap();
            prop_assert_eq!(left, rest);
            prop_assert_eq!(postcard::to_allocvec(&wire).unwrap(), &bytes[..bytes.len() - rest.len()]);
            let steps: Vec<Step> = wire.steps.into_iter().map(Into::into).collect();
            prop_assert_eq!(Filter::of_steps(&steps), Ok(filter));
        }
    }
}
