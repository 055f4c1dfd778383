//! Processor time: the slice vector, and sleeping.
//!
//! Slots belong to environments by position; the processor goes round them, and
//! each is one slice long. A slot whose owner sleeps is skipped, so idle time
//! goes to whoever can use it. That is all the kernel decides: how slots are
//! spread over environments is the business of whoever holds them.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, EnvState, SLOT_COUNT, SystemInfo};

use crate::env::{self, Env};
use crate::kernel::Kernel;

/// Length of a slice in microseconds.
pub const SLICE_MICROSECONDS: u64 = 1000;

/// The cursor over the slice vector. The vector itself is in [`SystemInfo`].
#[derive(Default)]
pub struct Schedule {
    cursor: Cell<u32>,
    /// One bit per slot that has an owner.
    owned: Cell<u64>,
}

impl Schedule {
    /// A schedule in which nobody owns a slot.
    pub const fn new() -> Self {
        Self { cursor: Cell::new(0), owned: Cell::new(0) }
    }

    /// Gives slot `slot` to `owner` (zero: to nobody).
    pub fn assign(&self, info: &SystemInfo, slot: u32, owner: EnvId) {
        let Some(entry) = info.slots.owners.get(slot as usize) else { return };
        entry.store(owner.0, Relaxed);
        let bit = 1 << slot;
        let others = self.owned.get() & !bit;
        self.owned.set(if owner.0 == 0 { others } else { others | bit });
    }

    /// Whether `env` owns the `count` slots from `first` on.
    pub fn all_owned_by(&self, info: &SystemInfo, first: u32, count: u32, env: EnvId) -> bool {
        let slots = info.slots.owners.get(first as usize..).and_then(|s| s.get(..count as usize));
        slots.is_some_and(|slots| slots.iter().all(|owner| owner.load(Relaxed) == env.0))
    }

    /// Takes all slots of `env` away.
    pub fn forget(&self, info: &SystemInfo, env: EnvId) {
        for slot in self.slots() {
            if info.slots.owners[slot as usize].load(Relaxed) == env.0 {
                self.assign(info, slot, EnvId(0));
            }
        }
    }

    /// Ends the slice: the next look starts behind the current slot.
    pub fn end_slice(&self) {
        self.cursor.set((self.cursor.get() + 1) % SLOT_COUNT as u32);
    }

    /// Owned slots, from the cursor on, once round.
    fn slots(&self) -> impl Iterator<Item = u32> + use<> {
        let cursor = self.cursor.get();
        let mut left = self.owned.get().rotate_right(cursor);
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let distance = left.trailing_zeros();
            left &= left - 1;
            Some((cursor + distance) % SLOT_COUNT as u32)
        })
    }

    fn owners<'a>(
        &self,
        kernel: &'a Kernel,
    ) -> impl Iterator<Item = (u32, &'static Env)> + use<'a> {
        self.slots().filter_map(|slot| {
            let owner = kernel.info.slots.owners.get(slot as usize)?;
            Some((slot, kernel.env(EnvId(owner.load(Relaxed)))?))
        })
    }

    /// The environment to run now: owner of the next slot whose owner is ready.
    pub fn next_ready(&self, kernel: &Kernel) -> Option<&'static Env> {
        let (slot, env) = self.owners(kernel).find(|(_, env)| env.state() == EnvState::Ready)?;
        self.cursor.set(slot);
        Some(env)
    }

    /// Wakes whoever's deadline has passed. Returns the nearest deadline left.
    pub fn wake_expired(&self, kernel: &Kernel, now: u64) -> Option<u64> {
        let mut nearest = None;
        for (_, env) in self.owners(kernel) {
            let deadline = env.deadline.get();
            if env.state() != EnvState::Waiting || deadline == 0 {
                continue;
            }
            if deadline <= now {
                env::wake(env);
            } else {
                nearest = Some(nearest.map_or(deadline, |other: u64| other.min(deadline)));
            }
        }
        nearest
    }
}
