//! The wire form: what its table says, and anything.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{any_atom, domain_steps};
use crate::test::{Field, Test};
use crate::{Atom, Filter, KEY_WIRE, Key, MAX_ATOMS, MAX_WIRE, Shift, Step, encode_keys, packet};

fn encoded(filter: &Filter) -> Vec<u8> {
    let mut out = [0xaa; MAX_WIRE];
    let length = filter.encode(&mut out).unwrap();
    out[..length].to_vec()
}

/// Three words as bytes.
fn words(words: [u64; 3]) -> Vec<u8> {
    words.map(u64::to_le_bytes).concat()
}

/// What the first word says.
fn head(kind: u64, bits: u64, scale: u64, first: u64) -> u64 {
    kind | bits << 8 | scale << 16 | first << 32
}

#[test]
fn wire_form_is_what_its_table_says() {
    assert_eq!(MAX_WIRE, 288);
    let steps = [
        Step::Atom(Atom::masked(200, 8, 0xff80, 0x0100)),
        Step::Shift(Shift { offset: 14, mask: 0x0f, scale: 2 }),
        Step::Atom(Atom { offset: 14, width: 8, mask: 0x7f, lo: 3, hi: 4 }),
    ];
    let filter = Filter::of_steps(&steps).unwrap();
    let expected = [
        words([head(0, 0, 0, 200), 0x80ff << 48, 0x0001 << 48]),
        words([head(2, 4, 2, 8 * 14 + 4), 0, 15]),
        // Pinned are the upper bits of the last byte, the rest is a range.
        words([head(0, 0, 0, 14), 0x78 << 56, 0]),
        words([head(1, 3, 0, 8 * 21 + 5), 3, 4]),
    ]
    .concat();
    assert_eq!(encoded(&filter), expected);
    assert_eq!(Filter::decode(&expected), Some(filter));
    for short in 0..expected.len() {
        assert_eq!(filter.encode(&mut vec![0; short]), None);
        let rest = Filter::decode(&expected[..short]);
        assert_eq!(rest.is_some(), short > 0 && short % 24 == 0, "whole tests, {short}");
    }
}

#[test]
fn decoder_refuses_what_code_cannot_rely_on() {
    let decodes = |test| Filter::decode(&words(test)).is_some();
    // Nothing stands where the table has nothing.
    assert!(decodes([head(0, 0, 0, 12), 5, 4]) && decodes([head(0, 0, 0, 0), 0, 0]));
    for head in [head(3, 0, 0, 12), head(0, 1, 0, 12), head(0, 0, 1, 12), 12 << 32 | 1 << 24] {
        assert!(!decodes([head, 5, 4]), "{head:x}");
    }
    assert!(!decodes([head(0, 0, 0, 12) | 1 << 48, 5, 4]));
    assert!(!decodes([head(0, 0, 0, 12), 5, 2]), "a bit that is not in the mask");
    // Not beyond the longest frame.
    assert!(decodes([head(0, 0, 0, 1506), 0, 0]) && !decodes([head(0, 0, 0, 1507), 0, 0]));
    assert!(!decodes([head(0, 0, 0, 0xffff), 0, 0]));
    assert!(decodes([head(1, 8, 0, 8 * 1513), 0, 9]) && !decodes([head(1, 9, 0, 8 * 1513), 0, 9]));
    assert!(!decodes([head(1, 8, 0, 0xffff), 0, 9]));
    // A field of bits, within one window.
    assert!(decodes([head(1, 64, 0, 160), 0, u64::MAX]) && decodes([head(1, 1, 0, 7), 0, 1]));
    assert!(decodes([head(1, 63, 0, 1), 0, 1]) && decodes([head(1, 62, 0, 161), 0, 1]));
    for (bits, first) in [(0, 160), (64, 161), (58, 167), (65, 160), (255, 0)] {
        assert!(!decodes([head(1, bits, 0, first), 0, 0]), "{bits} bits at {first}");
    }
    // Bounds that are there.
    assert!(!decodes([head(1, 8, 0, 160), 5, 4]) && !decodes([head(1, 8, 0, 160), 5, 256]));
    // A shift by one to four bits of a byte.
    assert!(decodes([head(2, 4, 6, 164), 0, 15]) && decodes([head(2, 1, 0, 167), 1, 1]));
    for (bits, scale, first) in [(0, 0, 160), (5, 0, 160), (4, 7, 160), (4, 0, 165)] {
        assert!(!decodes([head(2, bits, scale, first), 0, 0]), "{bits}, {scale}, {first}");
    }
    for (lo, hi) in [(2, 1), (0, 16), (0, 256), (1 << 32, 1), (0, 1 << 63)] {
        assert!(!decodes([head(2, 4, 0, 160), lo, hi]), "{lo} to {hi}");
    }
    // Not too many.
    let test = words([head(0, 0, 0, 12), 1, 1]);
    let shift = words([head(2, 4, 2, 164), 0, 15]);
    assert!(Filter::decode(&test.repeat(12)).is_some() && Filter::decode(&[]).is_none());
    assert!(Filter::decode(&test.repeat(13)).is_none());
    assert!(Filter::decode(&shift.repeat(2)).is_some());
    assert!(Filter::decode(&shift.repeat(3)).is_none());
}

#[test]
fn keys_are_masks_and_then_values() {
    let key = Key::of(&packet::arp_for([10, 0, 2, 15])).unwrap();
    let bytes = key.encode();
    let (mask, value) = bytes.split_at(KEY_WIRE / 2);
    assert_eq!((&mask[12..14], &value[12..14]), (&[0xff, 0xff][..], &[8, 6][..]));
    assert_eq!((&mask[38..42], &value[38..42]), (&[0xff; 4][..], &[10, 0, 2, 15][..]));
    assert_eq!(Key::decode(&bytes), Some(key));
    assert_eq!(Key::decode(&[0; KEY_WIRE]), None, "it pins nothing");
    let mut stray = bytes;
    stray[KEY_WIRE / 2] = 1;
    assert_eq!(Key::decode(&stray), None);
    let two = [packet::udp_to([10, 0, 2, 15], 7), packet::arp_for([10, 0, 2, 15])];
    let mut out = [0; 2 * KEY_WIRE];
    assert_eq!(encode_keys(&two, &mut out[1..]), None);
    assert_eq!(encode_keys(&two, &mut out), Some(2 * KEY_WIRE));
    assert_eq!(out[KEY_WIRE..], bytes);
}

proptest! {
    #[test]
    fn what_the_language_makes_is_accepted(
        steps in domain_steps(),
        atoms in vec(any_atom(), 1..=MAX_ATOMS),
    ) {
        let atoms = atoms.into_iter().map(Step::Atom).collect();
        for steps in [steps, atoms] {
            if let Ok(filter) = Filter::of_steps(&steps) {
                prop_assert_eq!(Filter::decode(&encoded(&filter)), Some(filter));
            }
        }
    }

    /// Arbitrary bytes, and ones that were a filter: decoding never panics; what it accepts it
    /// writes as the same bytes, and the tests are within a window and the longest frame.
    #[test]
    fn decode_survives_anything(
        mut bytes in vec(any::<u8>(), 0..=MAX_WIRE + 1),
        steps in domain_steps(),
        kind in 0..3,
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        if let (1.., Ok(filter)) = (kind, Filter::of_steps(&steps)) {
            bytes = encoded(&filter);
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = if kind == 1 { byte } else { bytes[at] ^ 1 << (byte % 8) };
            }
        }
        if let Some(filter) = Filter::decode(&bytes) {
            prop_assert_eq!(&encoded(&filter), &bytes);
            for test in filter.tests() {
                let field = match *test {
                    Test::Bits { at, .. } => Field { first: 8 * at, bits: 64 },
                    Test::Range { field, .. } | Test::Shift { field, .. } => field,
                };
                prop_assert!(field.end() <= 1514 && field.at() * 8 <= field.first);
            }
        }
    }
}
