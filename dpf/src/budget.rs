//! How much may be spent on comparing filters.
//!
//! Two filters are compared case by case and bit by bit, which is exact and bounded; but a
//! filter may have to be compared with very many. Whoever must not be kept for
//! long, as a kernel with a lock, gives one budget to all comparisons of a call.

use core::cell::Cell;

/// What is left of a number of steps, each about a hundred instructions.
#[derive(Debug)]
pub struct Budget(Cell<u32>);

impl Budget {
    /// This many steps.
    pub const fn new(steps: u32) -> Self {
        Self(Cell::new(steps))
    }

    /// More than any two filters need.
    pub const fn unlimited() -> Self {
        Self::new(u32::MAX)
    }

    /// Whether more was needed than there was. Then no answer that used it counts.
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Takes some: whether they were there.
    pub(crate) fn spend(&self, steps: u32) -> bool {
        let left = self.0.get().saturating_sub(steps);
        self.0.set(left);
        left > 0
    }
}
