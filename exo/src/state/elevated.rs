//! What an environment has to do with elevation ([`crate::elevation`]).

use core::cell::Cell;

use crate::capability::CapRef;

/// Whether an environment's code runs in ring 0, and by what right.
#[repr(C)]
pub struct Elevated {
    /// When the stretch ends; zero: the environment is in ring 3.
    pub(crate) until: Cell<u64>,
    pub(crate) since: Cell<u64>,
    /// The capability, in the environment's own table, and its slot's generation then.
    pub(crate) place: Cell<CapRef>,
    pub(crate) generation: Cell<u32>,
}

impl Elevated {
    /// Whether the environment's code runs in ring 0.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.until.get() != 0
    }
}
