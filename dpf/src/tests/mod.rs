//! Tests of the whole crate: a filter is compared with what its atoms say, read
//! naively, on every frame of a small domain.

mod language;
mod mirror;
mod trie;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Atom, Filter, MIN_FRAME};

/// What the atoms mean, straight from the definition of the language.
fn naive(atoms: &[Atom], frame: &[u8]) -> bool {
    frame.len() >= MIN_FRAME
        && atoms.iter().all(|atom| {
            let (start, width) = (usize::from(atom.offset), usize::from(atom.width));
            let Some(bytes) = frame.get(start..start + width) else { return false };
            let load = bytes.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
            load & atom.mask == atom.value
        })
}

/// The bytes of the small domain, with the one bit that varies in each. They are
/// spread over three windows, two of them overlapping the Ethernet header's end.
const DOMAIN: [(usize, u8); 8] =
    [(2, 0x80), (9, 0x01), (11, 0x10), (13, 0x01), (14, 0x80), (15, 0x08), (19, 0x01), (24, 0x40)];

/// Every frame of the domain that could tell filters of the domain apart.
fn all_frames() -> impl Iterator<Item = Vec<u8>> {
    (13..36).flat_map(|len| {
        (0..1u32 << DOMAIN.len()).map(move |bits| {
            let mut frame = vec![0u8; 36];
            for (i, (at, bit)) in DOMAIN.into_iter().enumerate() {
                if bits >> i & 1 == 1 {
                    frame[at] = bit;
                }
            }
            frame.truncate(len);
            frame
        })
    })
}

/// An atom of any width and place that pins some bits of the domain and no others.
fn domain_atom() -> impl Strategy<Value = Atom> {
    let width = prop::sample::select(vec![1u8, 2, 4, 8]);
    (0u16..26, width, any::<[bool; 8]>(), any::<[bool; 8]>())
        .prop_map(|(offset, width, pinned, set)| {
            let mut atom = Atom { offset, width, mask: 0, value: 0 };
            for (i, (at, bit)) in DOMAIN.into_iter().enumerate() {
                let end = usize::from(offset) + usize::from(width);
                if pinned[i] && (usize::from(offset)..end).contains(&at) {
                    let bit = u64::from(bit) << (8 * (end - 1 - at));
                    atom.mask |= bit;
                    atom.value |= if set[i] { bit } else { 0 };
                }
            }
            atom
        })
        .prop_filter("mask must not be empty", |atom| atom.mask != 0)
}

fn domain_filter() -> impl Strategy<Value = (Vec<Atom>, Filter)> {
    vec(domain_atom(), 1..5).prop_filter_map("contradictory", |atoms| {
        let filter = Filter::new(&atoms).ok()?;
        Some((atoms, filter))
    })
}

/// Any atom the verifier accepts on its own.
fn any_atom() -> impl Strategy<Value = Atom> {
    let width = prop::sample::select(vec![1u8, 2, 4, 8]);
    (width, any::<u64>(), any::<u64>()).prop_flat_map(|(width, mask, value)| {
        (0..=1514 - u16::from(width)).prop_map(move |offset| {
            let mask = (mask & Atom::field(width)).max(1);
            Atom { offset, width, mask, value: value & mask }
        })
    })
}
