//! A packet on which two filters agree, to show to the author of one of them.
//!
//! Not made as fast as it could be: each bit in turn is set to 0 if a frame is still possible
//! then, and to 1 otherwise.

use super::satisfy::{satisfiable, way_through};
use crate::filter::{Filter, MAX_FRAME};
use crate::language::conjunction::Conjunction;
use crate::test::Field;

/// Writes a frame that matches both filters to the front of `frame` and returns its
/// length, or `None` if there is none. The frame is as short as those of the cases
/// that share it.
pub fn witness(a: &Filter, b: &Filter, frame: &mut [u8; MAX_FRAME]) -> Option<usize> {
    let both = a.cases().find_map(|one| {
        let other = b.cases().find(|other| satisfiable(&one, other))?;
        Some((one, other))
    });
    let (one, other) = both?;
    fill(&one, &other, frame);
    Some(one.reach().max(other.reach()))
}

fn fill(one: &Conjunction, other: &Conjunction, frame: &mut [u8; MAX_FRAME]) {
    frame.fill(0);
    for bits in one.bits().iter().chain(other.bits()) {
        let bytes = frame.iter_mut().skip(bits.at.into());
        bytes.zip(bits.value.to_le_bytes()).for_each(|(to, byte)| *to |= byte);
    }
    let pinned = |bit| one.bits().iter().chain(other.bits()).find_map(|bits| bits.at_bit(bit));
    let fields = one.ranges().iter().chain(other.ranges()).map(|range| range.field);
    let end = fields.clone().map(Field::end_bit).max().unwrap_or(0);
    // Those before it are chosen, and the one at hand is tried with 0.
    for bit in (0..end).filter(|&bit| fields.clone().any(|field| field.contains(bit))) {
        let chosen = |at: u16| match frame.get(usize::from(at / 8)) {
            Some(byte) if at < bit => Some(byte >> (7 - at % 8) & 1 == 1),
            _ => pinned(at).or((at == bit).then_some(false)),
        };
        if pinned(bit).is_none()
            && !way_through(one.ranges(), other.ranges(), chosen)
            && let Some(byte) = frame.get_mut(usize::from(bit / 8))
        {
            *byte |= 0x80 >> (bit % 8);
        }
    }
}
