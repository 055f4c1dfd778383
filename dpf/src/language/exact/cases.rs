//! The cases of a filter: what it says for each assignment of values to its shifts.
//!
//! An assignment has a digit of four bits for each shift, the first lowest.

use crate::filter::{Filter, MAX_FRAME};
use crate::language::FilterError;
use crate::language::conjunction::Conjunction;
use crate::language::fields::Range;
use crate::test::{Bits, Field, Test, ones};

impl Filter {
    /// All assignments, live or not.
    pub(crate) fn assignments(&self) -> core::ops::RangeInclusive<u8> {
        0..=((1_u16 << (4 * self.shifts().count())) - 1) as u8
    }

    /// What the filter says under one assignment. Errors:
    /// [`FilterError::Contradiction`] if no frame matches under it, and what the
    /// verifier refuses a filter for, but then there is no such filter.
    pub(crate) fn case(&self, digits: u8) -> Result<Conjunction, FilterError> {
        let mut case = Conjunction::ALL;
        self.resolve(digits, |test, digit| match test {
            Test::Bits { at, mask, value } => case.pin(Bits { at, mask, value }),
            Test::Range { field, lo, hi } => case.limit(Range { field, lo, hi }),
            // If this digit cannot be, nothing that would follow it is at fault.
            Test::Shift { field, lo, hi, .. } => {
                if !(lo..=hi).contains(&digit) {
                    return Err(FilterError::Contradiction);
                }
                case.set(field, digit.into())?;
                let mut so_far = case;
                so_far.tighten()
            }
        })?;
        case.tighten()?;
        if case.reach() > MAX_FRAME {
            return Err(FilterError::BeyondFrame);
        }
        Ok(case)
    }

    /// The live assignments: those under which some frame matches.
    pub(crate) fn live(&self) -> impl Iterator<Item = u8> {
        self.assignments().filter(|&digits| self.case(digits).is_ok())
    }

    /// The cases under which the filter takes frames. No two share one.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Conjunction> {
        self.assignments().filter_map(|digits| self.case(digits).ok())
    }

    /// The part of `inner` in which the fields that shift this filter have the values
    /// of the assignment. Errors: [`FilterError::Contradiction`] if there is none.
    pub(crate) fn part(&self, inner: &Conjunction, digits: u8) -> Result<Conjunction, FilterError> {
        let mut part = *inner;
        self.resolve(digits, |test, digit| match test {
            Test::Shift { field, .. } => part.set(field, digit.into()),
            _ => Ok(()),
        })?;
        part.tighten()?;
        Ok(part)
    }

    /// Calls `visit` with each test, at its place in the frame under one assignment,
    /// and the digit of the shift that is next, or that the test is.
    fn resolve(
        &self,
        mut digits: u8,
        mut visit: impl FnMut(Test, u8) -> Result<(), FilterError>,
    ) -> Result<(), FilterError> {
        let mut base = 0;
        self.tests().try_for_each(|test| {
            let digit = digits & 15;
            visit(test.moved(base), digit)?;
            if let Test::Shift { scale, .. } = test {
                base += u16::from(digit) << scale;
                digits >>= 4;
            }
            Ok(())
        })
    }
}

impl Conjunction {
    /// And this value of a field.
    fn set(&mut self, field: Field, value: u64) -> Result<(), FilterError> {
        if value > ones(field.bits) {
            return Err(FilterError::Contradiction);
        }
        self.pin(Bits::in_field(field, ones(field.bits), value))
    }
}

impl Test {
    /// The test counted from a base that is `by` bytes before the present one.
    fn moved(mut self, by: u16) -> Self {
        match &mut self {
            Self::Bits { at, .. } => *at += by,
            Self::Range { field, .. } | Self::Shift { field, .. } => field.first += 8 * by,
        }
        self
    }
}
