//! What the kernel keeps of each processor, its slice vector's state included.

use core::cell::Cell;

use exo_abi::{EnvId, MAX_CORES, SLOT_COUNT};

use super::env::Env;
use crate::work::Work;

/// Later than any deadline.
pub const NEVER: u64 = u64::MAX;

/// A processor.
#[derive(Default)]
pub struct Core {
    /// Its slice vector's state.
    pub schedule: Schedule,
    /// The environment of which the page tables are loaded.
    pub current: Cell<EnvId>,
    /// The environment that runs, or for which the kernel does. It exists: while
    /// its page tables are loaded it is not destroyed.
    pub running: Cell<Option<&'static Env>>,
    /// Another processor wants the page tables loaded again: translations may be cached
    /// that are no longer true, or their environment is not to run any more. Looked at
    /// wherever the lock has been taken: only a core that holds the lock sets it.
    pub stale: Cell<bool>,
    /// What the entry that it serves may still do.
    pub work: Work,
    /// Something became ready that another processor could run, and this one may.
    pub(crate) passes_on: Cell<bool>,
    /// It halts, or is about to.
    pub idle: Cell<bool>,
}

/// What goes with the slice vector.
pub struct Schedule {
    pub(crate) cursor: Cell<u32>,
    /// One bit per slot: its owner may be able to run.
    pub(crate) ready: Cell<u64>,
    /// No deadline of a sleeping environment is earlier.
    pub(crate) nearest: Cell<u64>,
    /// The environment that gets the rest of the slice.
    pub(crate) heir: Cell<EnvId>,
    /// Decisions so far about which environment runs; and in the last of which a condition
    /// on memory was looked at.
    pub(crate) decisions: Cell<u64>,
    pub(crate) watched: Cell<u64>,
}

impl Default for Schedule {
    /// A schedule in which no environment is ready.
    fn default() -> Self {
        Self {
            cursor: Cell::new(0),
            ready: Cell::new(0),
            nearest: Cell::new(NEVER),
            heir: Cell::new(EnvId::NONE),
            decisions: Cell::new(0),
            watched: Cell::new(0),
        }
    }
}

impl Schedule {
    /// Ends the slice: the next look starts behind the current slot.
    pub fn end_slice(&self) {
        self.cursor.set((self.cursor.get() + 1) % SLOT_COUNT as u32);
        // There is no rest of it to give away.
        self.heir.set(EnvId::NONE);
    }

    /// The current slot.
    pub fn slot(&self) -> u32 {
        self.cursor.get()
    }

    /// Whether an environment waits for a condition that did not hold in this decision, and
    /// has to be tried now and then.
    pub fn watches(&self) -> bool {
        self.watched.get() == self.decisions.get()
    }

    /// Notes that there is such a one on processor `number`, which has this schedule. Returns
    /// the decision: no other, of whichever processor, has the same number.
    pub(crate) fn watches_in_decision(&self, number: usize) -> u64 {
        self.watched.set(self.decisions.get());
        self.decisions.get() * MAX_CORES as u64 + number as u64
    }

    /// Whether no environment runs before something happens.
    #[inline]
    pub fn rests(&self) -> bool {
        self.ready.get() == 0 && self.heir.get() == EnvId::NONE
    }

    /// Notes that an environment sleeps until `deadline`.
    pub fn expect(&self, deadline: u64) {
        self.nearest.set(self.nearest.get().min(deadline));
    }

    pub(crate) fn set_ready(&self, slots: u64, ready: bool) {
        let others = self.ready.get() & !slots;
        self.ready.set(if ready { others | slots } else { others });
    }
}
