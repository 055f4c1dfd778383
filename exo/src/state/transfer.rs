//! What an environment has to do with protected control transfers ([`crate::env::transfer`]).

use core::cell::Cell;

use exo_abi::{EnvId, Error};

/// Entry points of an environment.
pub const ENTRIES: usize = 16;
/// Environments in one chain of calls. Bounds the search for the one to run.
pub(crate) const CHAIN: u32 = 8;

/// Where a caller goes on.
#[derive(Clone, Copy, Default)]
pub struct Place {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Flags.
    pub flags: u64,
}

/// An entry point. Each time it is named anew, or taken away, its next life begins, and
/// capabilities for those before name nothing any more.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    address: u64,
    stack: u64,
    /// No capability is for life zero, nor for one in which there is no address.
    life: u32,
}

/// Where an entry point is: address and stack pointer.
pub type At = (u64, u64);

/// What an environment has to do with transfers.
#[repr(C)]
pub struct Transfer {
    entries: [Cell<Entry>; ENTRIES],
    /// Whether an activity is there that a transfer began.
    pub(crate) serving: Cell<bool>,
    /// Links to the end of the chain of calls it is part of.
    pub(crate) depth: Cell<u32>,
    /// The environment that waits for the activity's reply, or none.
    pub(crate) caller: Cell<EnvId>,
    /// The environment that it calls, while its state is `Calling`.
    pub(crate) callee: Cell<EnvId>,
    /// Where it goes on after its call.
    pub(crate) place: Cell<Place>,
    /// Whether it slept when the activity began, having seen so many events.
    pub(crate) slept: Cell<bool>,
    pub(crate) seen: Cell<u64>,
    /// Whether the caller has ended, and that was not told yet.
    pub(crate) orphaned: Cell<bool>,
}

impl Transfer {
    /// Whether an activity is there that a transfer began.
    #[inline]
    pub fn serving(&self) -> bool {
        self.serving.get()
    }

    /// Notes what the environment has seen when it goes to sleep.
    pub fn sleeps(&self, seen: u64) {
        if self.serving() {
            // What it did otherwise is woken when the activity is over: its own
            // sleep is forgotten.
            self.slept.set(false);
        } else {
            self.seen.set(seen);
        }
    }

    /// Names entry point `index`, or takes it away if `address` is zero. Returns the life
    /// that begins.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::BadAddress`]; [`Error::TooMuch`] when there is no
    /// life left: none comes twice.
    pub fn set_entry(&self, index: u32, address: u64, stack: u64) -> Result<u32, Error> {
        let entry = self.entries.get(index as usize).ok_or(Error::OutOfRange)?;
        if address >= exo_abi::USER_TOP || stack > exo_abi::USER_TOP {
            return Err(Error::BadAddress);
        }
        let life = entry.get().life.checked_add(1).ok_or(Error::TooMuch)?;
        entry.set(Entry { address, stack, life });
        Ok(life)
    }

    /// Where entry point `index` is, if it is still in its life `life`, of which there is a
    /// capability.
    #[inline]
    pub fn entry(&self, index: u64, life: u32) -> Option<At> {
        let entry = self.entries.get(index as usize)?.get();
        (entry.life == life).then_some((entry.address, entry.stack))
    }
}
