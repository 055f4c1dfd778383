//! Which descriptions become a [`Filter`], and how they are made canonical.
//!
//! Everything an application can get wrong is found here. A filter with atoms that plainly
//! contradict each other is refused, too: its author meant something else.
//!
//! If the atoms before a shift pin its field, the shift moves the base by a constant, so it
//! is taken out and what follows is written at its place. A range over the field of another
//! shift becomes part of the shift.

use super::conjunction::Conjunction;
use super::error::errors;
use super::{Atom, Shift, Step};
use crate::filter::{Filter, MAX_ATOMS, MAX_FRAME, MAX_SHIFTS, MIN_FRAME};
use crate::language::fields::Range;
use crate::test::{Bits, Field, Test, ones};

errors! {
    /// Why a description is not a filter.
    pub enum FilterError {
        NoAtoms = 1: "filter has no atoms, or they say nothing: it would take every frame",
        TooManyAtoms = 2: "filter has more than 12 atoms and shifts, as written or in canonical form",
        Width = 3: "atom width is not 1, 2, 4 or 8 bytes",
        BeyondFrame = 4: "atom ends beyond the longest frame, 1514 bytes",
        StrayBits = 5: "atom has mask bits outside its field or bounds with bits outside its mask",
        EmptyRange = 6: "atom has a lower bound above its upper bound",
        SplitMask = 7: "mask of a range is not one run of bits",
        Contradiction = 8: "atoms contradict each other: no frame matches",
        RangesOverlap = 9: "two ranges are over fields that overlap without being equal",
        TooManyRanges = 10: "filter has ranges over more than 4 fields",
        ShiftMask = 11: "mask of a shift is not one run of 1 to 4 bits",
        ShiftScale = 12: "scale of a shift is greater than 6",
        TooManyShifts = 13: "filter has more than 2 shifts by an amount that is not pinned",
        IdleShift = 15: "nothing follows a shift",
        EthernetHeader = 16: "what follows a shift looks at the Ethernet header",
    }
}

impl Filter {
    /// Verifies `atoms`, in any order, and brings them to canonical form.
    ///
    /// Atoms that say the same thing twice are merged. Errors: those of
    /// [`FilterError`] that are not about shifts. **Cost**: bounded by [`MAX_ATOMS`] squared.
    pub fn new(atoms: &[Atom]) -> Result<Self, FilterError> {
        Self::verify(atoms.iter().map(|&atom| atom.into()))
    }

    /// [`Filter::new`] with shifts. The order of atoms between two shifts does not
    /// matter. Some that no frame matches are not found, if that depends on a shift.
    pub fn of_steps(steps: &[Step]) -> Result<Self, FilterError> {
        Self::verify(steps.iter().copied())
    }

    fn verify(steps: impl Iterator<Item = Step>) -> Result<Self, FilterError> {
        let mut filter = Self::EMPTY;
        let mut part = Conjunction::ALL;
        // How far shifts that were taken out move what is being read.
        let mut by = 0;
        let (mut shifted, mut idle) = (false, false);
        for (number, step) in steps.enumerate() {
            if number >= MAX_ATOMS {
                return Err(FilterError::TooManyAtoms);
            }
            match step {
                Step::Atom(atom) => {
                    check(&atom, shifted)?;
                    add(&mut part, &atom, by)?;
                }
                Step::Shift(shift) => {
                    let mut field = check_shift(&shift, shifted)?;
                    field.first += 8 * by;
                    part.tighten()?;
                    let (pinned, value) = part.pinned_in(field);
                    if pinned == ones(field.bits) {
                        by += (value as u16) << shift.scale;
                    } else {
                        let (lo, hi) = part.take_range(field);
                        part.write(&mut filter)?;
                        part = Conjunction::ALL;
                        if filter.shifts().count() == MAX_SHIFTS {
                            return Err(FilterError::TooManyShifts);
                        }
                        let (lo, hi) = (lo as u8, hi as u8);
                        let test = Test::Shift { field, scale: shift.scale, lo, hi };
                        filter.push(test).ok_or(FilterError::TooManyAtoms)?;
                    }
                    shifted = true;
                }
            }
            idle = matches!(step, Step::Shift(_));
            if usize::from(by) > MAX_FRAME {
                return Err(FilterError::BeyondFrame);
            }
        }
        if idle {
            return Err(FilterError::IdleShift);
        }
        part.tighten()?;
        if part.reach() > MAX_FRAME {
            return Err(FilterError::BeyondFrame);
        }
        part.write(&mut filter)?;
        match filter.steps().count() {
            0 => Err(FilterError::NoAtoms),
            1..=MAX_ATOMS => Ok(filter),
            _ => Err(FilterError::TooManyAtoms),
        }
    }
}

/// One atom on its own.
fn check(atom: &Atom, shifted: bool) -> Result<(), FilterError> {
    let Atom { offset, width, mask, lo, hi } = *atom;
    if !matches!(width, 1 | 2 | 4 | 8) {
        return Err(FilterError::Width);
    }
    if usize::from(offset) + usize::from(width) > MAX_FRAME {
        return Err(FilterError::BeyondFrame);
    }
    if mask & !Atom::field(width) != 0 || (lo | hi) & !mask != 0 {
        return Err(FilterError::StrayBits);
    }
    if lo > hi {
        return Err(FilterError::EmptyRange);
    }
    let run = mask >> mask.trailing_zeros().min(63);
    if lo < hi && run & run.wrapping_add(1) != 0 {
        return Err(FilterError::SplitMask);
    }
    let behind = (offset + u16::from(width)).saturating_sub(MIN_FRAME as u16);
    if shifted && (behind == 0 || mask & !Atom::field(behind.min(8) as u8) != 0) {
        return Err(FilterError::EthernetHeader);
    }
    Ok(())
}

/// One shift on its own: its field.
fn check_shift(shift: &Shift, shifted: bool) -> Result<Field, FilterError> {
    let Shift { offset, mask, scale } = *shift;
    if usize::from(offset) >= MAX_FRAME {
        return Err(FilterError::BeyondFrame);
    }
    if !matches!(mask >> mask.trailing_zeros().min(7), 1 | 3 | 7 | 15) {
        return Err(FilterError::ShiftMask);
    }
    if scale > 6 {
        return Err(FilterError::ShiftScale);
    }
    if shifted && usize::from(offset) < MIN_FRAME {
        return Err(FilterError::EthernetHeader);
    }
    Ok(Field::of(offset, 1, mask.into()))
}

/// Adds a checked atom, `by` bytes further on.
fn add(part: &mut Conjunction, atom: &Atom, by: u16) -> Result<(), FilterError> {
    let Atom { offset, width, mask, lo, hi } = *atom;
    let atom = Atom { offset: offset + by, ..*atom };
    if lo == hi {
        return part.pin(Bits::of(&atom));
    }
    // The whole atom says how long the frame is; the range may be over less.
    part.pin(Bits::of(&Atom { mask: 0, lo: 0, ..atom }))?;
    let low = mask.trailing_zeros();
    part.limit(Range { field: Field::of(offset + by, width, mask), lo: lo >> low, hi: hi >> low })
}
