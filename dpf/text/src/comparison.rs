//! When is `field & mask < value` one range?
//!
//! A filter has a range over one run of bits. Every comparison with such a mask is one
//! range, but for `!=`, which is two unless it cuts off the least or the greatest value.

use alloc::format;

use dpf::Atom;

use crate::error::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    pub(crate) fn of(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "=" | "==" => Self::Equal,
            "!=" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// The same with its sides exchanged.
    pub(crate) fn turned(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }
}

/// The atom for `load(offset, width) & mask`, related to `value`. `at` is the place of
/// the comparison. The mask must fit the width.
pub(crate) fn atom(
    (offset, width, mask): (u16, u8, u64),
    relation: Relation,
    value: u64,
    at: &core::ops::Range<usize>,
) -> Result<Atom, Problem> {
    let never = || Problem::new(at, "this is never true: the field cannot have such a value");
    let always = || Problem::new(at, "this is always true").instead("leave it out");
    let atom = |lo, hi| Ok(Atom { offset, width, mask, lo, hi });
    let unit = mask & mask.wrapping_neg();
    let one_run = mask != 0 && (mask / unit) & (mask / unit).wrapping_add(1) == 0;
    let possible = value & !mask == 0;
    match relation {
        Relation::Equal if possible => return atom(value, value),
        Relation::Equal => return Err(never()),
        Relation::NotEqual if !possible => return Err(always()),
        Relation::NotEqual if mask.is_power_of_two() => return atom(value ^ mask, value ^ mask),
        Relation::NotEqual if one_run && value == 0 => return atom(unit, mask),
        Relation::NotEqual if one_run && value == mask => return atom(0, mask - unit),
        Relation::NotEqual => {
            let message = "`!=` is two ranges, below and above the value, and a filter has one";
            return Err(Problem::new(at, message).instead("compare with `<` or with `>`"));
        }
        _ if !one_run => {
            let message = format!("{mask:#x} is not one run of bits, which an order needs");
            return Err(Problem::new(at, message).instead("compare with `=`"));
        }
        _ => {}
    }
    // Both bounds included, then rounded to what the masked field can be.
    let (lo, hi) = match relation {
        Relation::Less => (0, value.checked_sub(1).ok_or_else(never)?),
        Relation::LessOrEqual => (0, value),
        Relation::Greater => (value.checked_add(1).ok_or_else(never)?, mask),
        _ => (value, mask),
    };
    let (lo, hi) = (lo.div_ceil(unit).checked_mul(unit), hi.min(mask) / unit * unit);
    match lo {
        Some(lo) if lo <= hi => atom(lo, hi),
        _ => Err(never()),
    }
}
