//! Is there a frame on which two conjunctions agree?
//!
//! Pinned bits agree unless one bit is pinned to both values. What is left are the
//! ranges. Within one conjunction they share no bit, but a range of the other may
//! begin or end in the middle of one, and bits in both may be pinned.
//!
//! So the bits that are in ranges are gone through once, in network order, which is
//! from the most to the least significant of every field. All that must be remembered
//! of the bits chosen so far is whether they equal the beginning of the lower bound,
//! and of the upper bound, of the range that is open on either side: two bits for
//! each, 16 states. A bit chosen above the beginning of the lower bound, or below that
//! of the upper, frees the rest from it. The set of states that can be reached says
//! whether there is a way through, for all choices at once; so the answer is exact.

use crate::language::conjunction::Conjunction;
use crate::language::fields::Range;
use crate::test::{Bits, Field};

/// The bits chosen so far in a range equal the beginning of its lower bound.
const LO: u16 = 1;
/// The same for the upper bound.
const HI: u16 = 2;

/// Whether some frame has both, its length aside.
///
/// Both must have been [tightened](Conjunction::tighten).
pub(crate) fn satisfiable(a: &Conjunction, b: &Conjunction) -> bool {
    !a.bits().iter().any(|one| b.bits().iter().any(|other| one.contradicts(other)))
        && way_through(a.ranges(), b.ranges(), |bit| {
            a.bits().iter().chain(b.bits()).find_map(|bits| bits.at_bit(bit))
        })
}

/// Whether bits can be chosen so that all ranges hold, where `pinned` leaves a choice.
pub(crate) fn way_through(a: &[Range], b: &[Range], pinned: impl Fn(u16) -> Option<bool>) -> bool {
    // Bit n: state n can be reached, two bits of it for either side.
    let mut states = 1_u16;
    let mut bit = 0;
    loop {
        let open = [a, b].map(|side| side.iter().find(|range| range.field.contains(bit)));
        if open == [None, None] {
            let starts = a.iter().chain(b).map(|range| range.field.first);
            match starts.filter(|&first| first > bit).min() {
                Some(first) => bit = first,
                None => return true,
            }
            continue;
        }
        let [open_a, open_b] = open;
        let fixed = pinned(bit);
        let mut reached = 0;
        for state in (0..16).filter(|state| states >> state & 1 == 1) {
            for choice in [false, true] {
                if fixed.is_none_or(|value| value == choice)
                    && let Some(a) = choose(open_a, state & 3, bit, choice)
                    && let Some(b) = choose(open_b, state >> 2, bit, choice)
                {
                    reached |= 1 << (a | b << 2);
                }
            }
        }
        if reached == 0 {
            return false;
        }
        states = reached;
        bit += 1;
    }
}

/// The state of one side after this choice, or `None` if it leaves the range. What is
/// left of a state when its range ends does not matter: the next begins anew.
fn choose(open: Option<&Range>, state: u16, bit: u16, choice: bool) -> Option<u16> {
    let Some(range) = open else { return Some(0) };
    let below = range.field.end_bit() - 1 - bit;
    let (lo, hi) = (range.lo >> below & 1 == 1, range.hi >> below & 1 == 1);
    let state = if bit == range.field.first { LO | HI } else { state };
    if state & LO != 0 && lo && !choice || state & HI != 0 && choice && !hi {
        return None;
    }
    let kept = if choice == lo { LO } else { 0 } | if choice == hi { HI } else { 0 };
    Some(state & kept)
}

impl Field {
    pub(crate) fn contains(self, bit: u16) -> bool {
        (self.first..self.end_bit()).contains(&bit)
    }
}

impl Bits {
    /// What a bit of the frame is pinned to.
    pub(crate) fn at_bit(&self, bit: u16) -> Option<bool> {
        let (byte, place) = (u32::from(bit / 8), 7 - u32::from(bit % 8));
        let byte = byte.checked_sub(self.at.into()).filter(|&byte| byte < 8)?;
        let place = 8 * byte + place;
        (self.mask >> place & 1 == 1).then(|| self.value >> place & 1 == 1)
    }
}
