//! Tests of the whole crate: a filter is compared with what its steps say, read
//! naively, on every frame of a small domain.

mod code;
mod comparison;
mod key;
mod language;
mod mirror;
mod trie;
mod wire;

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::exact::sound;
use crate::{Atom, Filter, MAX_FRAME, MIN_FRAME, Shift, Step, witness};

/// What the steps mean, straight from the definition of the language.
fn naive(steps: &[Step], frame: &[u8]) -> bool {
    let load = |start: usize, width: u8| {
        let bytes = frame.get(start..start + usize::from(width))?;
        Some(bytes.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte)))
    };
    let mut base = 0;
    frame.len() >= MIN_FRAME
        && steps.iter().all(|step| match *step {
            Step::Atom(Atom { offset, width, mask, lo, hi }) => {
                let field = load(base + usize::from(offset), width);
                field.is_some_and(|field| lo <= field & mask && field & mask <= hi)
            }
            Step::Shift(Shift { offset, mask, scale }) => {
                let byte = load(base + usize::from(offset), 1);
                let bits = byte.map(|byte| (byte & u64::from(mask)) >> mask.trailing_zeros());
                base += (bits.unwrap_or(0) as usize) << scale;
                bits.is_some()
            }
        })
}

/// The bytes of the small domain, with the bits that vary in each. They are spread
/// over several windows, some of them overlapping the Ethernet header's end.
const DOMAIN: [(usize, u8); 7] =
    [(9, 0x01), (11, 0x10), (13, 0x01), (14, 0xc0), (15, 0x18), (16, 0x03), (20, 0x40)];
/// Bits of the domain.
const BITS: u32 = 10;
/// Longer frames differ in nothing that filters of the domain look at.
const LONGEST: usize = 48;

/// Every packet of the domain that could distinguish filters of the domain.
fn all_frames() -> impl Iterator<Item = &'static [u8]> {
    static FRAMES: LazyLock<Vec<[u8; LONGEST]>> =
        LazyLock::new(|| (0..1u32 << BITS).map(domain_frame).collect());
    (13..=LONGEST).flat_map(|len| FRAMES.iter().map(move |frame| &frame[..len]))
}

/// The frame of the domain with these bits.
fn domain_frame(mut bits: u32) -> [u8; LONGEST] {
    let mut frame = [0; LONGEST];
    for (at, mask) in DOMAIN {
        for bit in (0..8).map(|n| 1 << n).filter(|bit| mask & bit != 0) {
            frame[at] |= if bits & 1 == 1 { bit } else { 0 };
            bits >>= 1;
        }
    }
    frame
}

/// The bits of the domain in the field of `width` bytes at `offset`.
fn domain_mask(offset: u16, width: u8) -> u64 {
    let field = usize::from(offset)..usize::from(offset) + usize::from(width);
    DOMAIN
        .into_iter()
        .filter(|(at, _)| field.contains(at))
        .fold(0, |mask, (at, bits)| mask | u64::from(bits) << (8 * (field.end - 1 - at)))
}

fn width() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![1u8, 2, 4, 8])
}

/// An atom of any width and place that pins some bits of the domain and no others.
fn domain_atom() -> impl Strategy<Value = Atom> {
    (0u16..24, width(), any::<u64>(), any::<u64>()).prop_map(|(offset, width, mask, value)| {
        let mask = domain_mask(offset, width) & mask;
        Atom::masked(offset, width, mask, value & mask)
    })
}

/// A range over a run of bits of the domain: all that a frame of the domain has in
/// whole bytes, or those of one byte.
fn domain_range() -> impl Strategy<Value = Atom> {
    let field = prop::sample::select(vec![
        (13u16, 1u8, 0x01),
        (13, 2, 0x01ff),
        (14, 1, 0xc0),
        (14, 1, 0xff),
        (14, 2, 0xffff),
        (15, 1, 0x18),
        (15, 1, 0x1c),
        (15, 2, 0x1fff),
        (14, 4, 0x3fff_ffff),
        (16, 1, 0x03),
        (16, 1, 0x07),
        (16, 8, u64::MAX),
        (20, 1, 0x7f),
    ]);
    (field, any::<[(u64, u8); 2]>()).prop_map(|((offset, width, mask), bounds)| {
        let domain = domain_mask(offset, width);
        let [a, b] =
            bounds.map(|(bits, near)| (bits & domain).wrapping_add(u64::from(near % 4)) & mask);
        Atom { offset, width, mask, lo: a.min(b), hi: a.max(b) }
    })
}

/// A shift by a field of the domain; two bits of it vary at most.
fn domain_shift() -> impl Strategy<Value = Shift> {
    let field = prop::sample::select(vec![(14u16, 0xc0u8), (15, 0x18), (15, 0x10), (16, 0x03)]);
    (field, 0u8..2).prop_map(|((offset, mask), scale)| Shift { offset, mask, scale })
}

/// Steps of all kinds, that may be no filter.
fn domain_steps() -> impl Strategy<Value = Vec<Step>> {
    let atoms = || {
        let atom = prop_oneof![2 => domain_atom(), 1 => domain_range()];
        vec(atom.prop_map(Step::Atom), 1..4)
    };
    // What follows a shift is written as it is without, where it may not look.
    let behind = |steps: Vec<Step>| {
        steps.into_iter().map(|step| match step {
            Step::Atom(atom) if atom.offset < 14 => {
                Step::Atom(Atom { offset: atom.offset + 14, mask: 0, lo: 0, hi: 0, ..atom })
            }
            step => step,
        })
    };
    let shift = || domain_shift().prop_map(Step::Shift);
    let shifted = move || {
        (atoms(), shift(), atoms()).prop_map(move |(one, shift, other)| {
            [one, vec![shift], behind(other).collect()].concat()
        })
    };
    let twice = (shifted(), shift(), atoms())
        .prop_map(move |(one, shift, other)| [one, vec![shift], behind(other).collect()].concat());
    prop_oneof![3 => atoms(), 2 => shifted(), 1 => twice]
}

fn domain_filter() -> impl Strategy<Value = (Vec<Step>, Filter)> {
    domain_steps().prop_filter_map("no filter", |steps| {
        let filter = Filter::of_steps(&steps).ok().filter(|filter| sound(filter).is_ok())?;
        Some((steps, filter))
    })
}

/// Any equality that the verifier accepts on its own.
fn any_atom() -> impl Strategy<Value = Atom> {
    (width(), any::<u64>(), any::<u64>()).prop_flat_map(|(width, mask, value)| {
        (0..=1514 - u16::from(width)).prop_map(move |offset| {
            let mask = (mask & Atom::field(width)).max(1);
            Atom::masked(offset, width, mask, value & mask)
        })
    })
}

/// The canonical form of a filter without shifts.
fn atoms(filter: &Filter) -> Vec<Atom> {
    let atom = |step| match step {
        Step::Atom(atom) => atom,
        Step::Shift(_) => panic!("a shift"),
    };
    filter.steps().map(atom).collect()
}

/// A frame that matches, of the shortest length.
fn example(filter: &Filter) -> Vec<u8> {
    let mut frame = [0; MAX_FRAME];
    let length = witness(filter, filter, &mut frame).expect("some frame matches");
    frame[..length].to_vec()
}
