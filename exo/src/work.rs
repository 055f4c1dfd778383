//! How much one entry into ring 0 may do.
//!
//! Ring 0 is not interrupted, and holds the lock meanwhile. So what an environment can make
//! it do in one entry is bounded by work, whichever calls it makes and however many of them in
//! a batch: every walk of a length that ring 3 decides draws from what the entry has left. A
//! walk that finds nothing left stops where it is ([`exo_abi::Error::Again`]), a batch makes no
//! further call. What cannot stop in the middle is short, and spends what it costs.
//!
//! The unit is about an instruction; the costs stand beside the loops that they are of, and
//! the machine test of the longest calls (`tests/s85_bounds.rs`) compares them with what QEMU
//! counts.

use core::cell::Cell;

/// What an entry may draw. With what cannot stop, and the way in and out, an entry stays
/// below 100,000 instructions.
pub const BUDGET: u32 = 40_000;

/// From here on an entry is long: some microseconds.
const LONG: u32 = 5_000;

/// What an entry has left.
pub struct Work(Cell<u32>);

impl Default for Work {
    fn default() -> Self {
        Self(Cell::new(BUDGET))
    }
}

impl Work {
    /// An entry begins. Says whether the one before [was long](Self::is_long).
    #[inline]
    pub fn begin(&self) -> bool {
        let was_long = self.is_long();
        self.0.set(BUDGET);
        was_long
    }

    /// How much is left.
    #[inline]
    pub fn left(&self) -> u32 {
        self.0.get()
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Whether the entry has done so much that a timer may have struck unheard meanwhile.
    #[inline]
    pub fn is_long(&self) -> bool {
        self.0.get() <= BUDGET - LONG
    }

    /// Takes `cost` for the next step of a walk. False if nothing was left: then the step is
    /// not to be done. The last one may cost more than there was.
    #[inline]
    pub fn draw(&self, cost: u32) -> bool {
        let may = !self.is_spent();
        self.spend(cost);
        may
    }

    /// Takes `cost` for something that is done in any case.
    #[inline]
    pub fn spend(&self, cost: u32) {
        self.0.set(self.0.get().saturating_sub(cost));
    }
}

#[cfg(test)]
mod tests {
    use super::{BUDGET, Work};

    #[test]
    fn a_walk_ends_when_nothing_is_left_and_an_entry_begins_anew() {
        let work = Work::default();
        let steps = (0..).take_while(|_| work.draw(7)).count();
        assert_eq!(steps, BUDGET.div_ceil(7) as usize);
        assert!(work.is_spent() && !work.draw(1));
        work.begin();
        assert!(!work.is_long());
        work.spend(BUDGET + 1);
        assert!(work.is_spent() && work.is_long());
    }
}
