//! The share of all frames that a filter takes, counted from its steps in floating point: what
//! its rank stands for.

use std::collections::BTreeMap;

use dpf::{Atom, Filter, MAX_FRAME, MIN_FRAME, Shift, Step};

/// The rank says the share, as exactly as it can.
pub(crate) fn is_what_rank_says(filter: &Filter) {
    let steps: Vec<Step> = filter.steps().collect();
    let all = Frames { pins: BTreeMap::new(), ranges: BTreeMap::new(), reach: MIN_FRAME };
    let counted = lengths(&steps, 0, all);
    // Halvings, and the complement of what follows the highest bit.
    let rank = filter.rank();
    let (halvings, below) = ((rank >> 47) as i32, !rank & ((1 << 47) - 1));
    let said = (1.0 + below as f64 / (1_u64 << 47) as f64) * 2_f64.powi((1 << 10) - halvings);
    let wrong = (said / counted - 1.0).abs();
    assert!(wrong < 1e-12, "rank {rank:#x} says {said:e}, counted {counted:e}: {filter:?}");
}

/// Frames that have some bits and numbers in common.
#[derive(Clone)]
struct Frames {
    /// Bits that are pinned, counted in network order.
    pins: BTreeMap<usize, bool>,
    /// Bounds of fields, by first bit and number of bits.
    ranges: BTreeMap<(usize, usize), (u64, u64)>,
    /// Length of the shortest.
    reach: usize,
}

/// The share of those `frames` that the steps take, in frames of one length.
fn lengths(steps: &[Step], base: usize, frames: Frames) -> f64 {
    match steps {
        [] => frames.lengths(),
        [Step::Atom(atom), rest @ ..] => {
            frames.and(atom, base).map_or(0.0, |frames| lengths(rest, base, frames))
        }
        [Step::Shift(Shift { offset, mask, scale }), rest @ ..] => {
            let low = mask.trailing_zeros();
            let cases = (0..=usize::from(mask >> low)).map(|field| {
                let pin = Atom::masked(*offset, 1, (*mask).into(), (field as u64) << low);
                let case = frames.clone().and(&pin, base);
                case.map_or(0.0, |case| lengths(rest, base + (field << scale), case))
            });
            cases.sum()
        }
    }
}

impl Frames {
    fn and(mut self, atom: &Atom, base: usize) -> Option<Self> {
        let Atom { offset, width, mask, lo, hi } = *atom;
        let end = base + usize::from(offset) + usize::from(width);
        self.reach = self.reach.max(end);
        if lo == hi {
            for bit in (0..64).filter(|bit| mask >> bit & 1 == 1) {
                let value = lo >> bit & 1 == 1;
                if self.pins.insert(8 * end - 1 - bit, value).is_some_and(|old| old != value) {
                    return None;
                }
            }
        } else {
            let (low, bits) = (mask.trailing_zeros() as usize, mask.count_ones() as usize);
            let field = (8 * end - low - bits, bits);
            let bounds = self.ranges.entry(field).or_insert((0, u64::MAX));
            *bounds = (bounds.0.max(lo >> low), bounds.1.min(hi >> low));
        }
        Some(self)
    }

    fn lengths(&self) -> f64 {
        let lengths = (MAX_FRAME + 1).saturating_sub(self.reach) as f64;
        let all = lengths * 0.5_f64.powi(self.pins.len() as i32);
        self.ranges.iter().fold(all, |share, (&(first, bits), &(lo, hi))| {
            let pin = |bit: usize| self.pins.get(&(first + bits - 1 - bit)).copied();
            let free = (0..bits).filter(|&bit| pin(bit).is_none()).count();
            let below = |end: u128| numbers_below(end, bits, pin);
            let values = below(u128::from(hi) + 1).saturating_sub(below(lo.into()));
            share * values as f64 * 0.5_f64.powi(free as i32)
        })
    }
}

/// How many numbers of `bits` bits are below `end` and agree with the pinned ones.
fn numbers_below(end: u128, bits: usize, pin: impl Fn(usize) -> Option<bool>) -> u128 {
    let (mut free, mut sum) = (0, 0);
    // From the lowest bit on, as if the number and `end` ended there.
    for bit in 0..bits {
        let one = end >> bit & 1 == 1;
        let smaller = if one && pin(bit) != Some(true) { 1 << free } else { 0 };
        let same = pin(bit).is_none_or(|value| value == one);
        sum = smaller + if same { sum } else { 0 };
        free += u32::from(pin(bit).is_none());
    }
    if end >> bits != 0 { 1 << free } else { sum }
}
