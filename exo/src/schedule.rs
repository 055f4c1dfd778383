//! Processor time: the slice vector, and sleeping.
//!
//! Slots belong to environments by position; the processor goes round them, and
//! each is one slice long. A slot whose owner sleeps is skipped, so idle time
//! goes to whoever can use it. That is all the kernel decides: how slots are
//! spread over environments is the business of whoever holds them.
//!
//! Who owns a slot is in [`SystemInfo`]; whose owner is ready is a bit here, kept
//! current when an environment's state changes, so that finding who runs next
//! takes constant time on the way of every packet.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, EnvState, SLOT_COUNT};

use crate::env::{self, Env, transfer};
use crate::kernel::Kernel;

/// Length of a slice in microseconds.
pub const SLICE_MICROSECONDS: u64 = 1000;

/// Later than any deadline.
const NEVER: u64 = u64::MAX;

/// What goes with the slice vector.
pub struct Schedule {
    cursor: Cell<u32>,
    /// One bit per slot whose owner may be able to run.
    ready: Cell<u64>,
    /// No deadline of a sleeping environment is earlier.
    nearest: Cell<u64>,
    /// Who gets the rest of the slice.
    heir: Cell<EnvId>,
}

const NOBODY: EnvId = EnvId(0);

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}

impl Schedule {
    /// A schedule in which nobody is ready.
    pub const fn new() -> Self {
        Self {
            cursor: Cell::new(0),
            ready: Cell::new(0),
            nearest: Cell::new(NEVER),
            heir: Cell::new(NOBODY),
        }
    }

    /// Ends the slice: the next look starts behind the current slot.
    pub fn end_slice(&self) {
        self.cursor.set((self.cursor.get() + 1) % SLOT_COUNT as u32);
    }

    /// The current slot.
    pub fn slot(&self) -> u32 {
        self.cursor.get()
    }

    /// Whether somebody waits for a condition that has to be tried now and then.
    pub fn watches(&self) -> bool {
        self.ready.get() != 0
    }

    /// Notes that somebody sleeps until `deadline`.
    pub fn expect(&self, deadline: u64) {
        self.nearest.set(self.nearest.get().min(deadline));
    }

    fn set_ready(&self, slots: u64, ready: bool) {
        let others = self.ready.get() & !slots;
        self.ready.set(if ready { others | slots } else { others });
    }
}

/// The owner of a slot.
fn owner(kernel: &Kernel, slot: u32) -> Option<&'static Env> {
    let owner = kernel.info.slots.owners.get(slot as usize)?.load(Relaxed);
    kernel.env(EnvId(owner))
}

/// Changes what `env` is doing.
#[inline]
pub fn set_state(kernel: &Kernel, env: &Env, state: EnvState) {
    env.set_state(state);
    kernel.schedule.set_ready(env.slots.get(), env.may_run());
}

/// Gives slot `slot` to `heir`, or to nobody.
pub fn assign(kernel: &Kernel, slot: u32, heir: Option<&Env>) {
    let Some(entry) = kernel.info.slots.owners.get(slot as usize) else { return };
    let bit = 1 << slot;
    if let Some(owner) = owner(kernel, slot) {
        owner.slots.set(owner.slots.get() & !bit);
    }
    entry.store(heir.map_or(0, |heir| heir.id().0), Relaxed);
    if let Some(heir) = heir {
        heir.slots.set(heir.slots.get() | bit);
        // A deadline that passed while it owned no slot is still to be noticed.
        if heir.state() == EnvState::Waiting && heir.deadline.get() != 0 {
            kernel.schedule.expect(heir.deadline.get());
        }
    }
    kernel.schedule.set_ready(bit, heir.is_some_and(Env::may_run));
}

/// Whether `env` owns the `count` slots from `first` on.
pub fn owns(env: &Env, first: u32, count: u32) -> bool {
    let end = first.checked_add(count).filter(|end| *end <= SLOT_COUNT as u32);
    end.is_some_and(|end| (first..end).all(|slot| env.slots.get() >> slot & 1 == 1))
}

/// Takes all slots of `env` away.
pub fn forget(kernel: &Kernel, env: &Env) {
    while env.slots.get() != 0 {
        assign(kernel, env.slots.get().trailing_zeros(), None);
    }
}

/// The environment to run now: whoever was given the rest of this slice, or the
/// owner of the next slot whose owner is ready, or whom that owner waits for in a
/// protected call.
#[inline]
pub fn next_ready(kernel: &Kernel) -> Option<&'static Env> {
    let schedule = &kernel.schedule;
    if schedule.heir.get() != NOBODY {
        let heir = kernel.env(schedule.heir.replace(NOBODY));
        if let Some(heir) = heir.and_then(|heir| transfer::end_of_line(kernel, heir)) {
            return Some(heir);
        }
    }
    let mut ahead = schedule.ready.get().rotate_right(schedule.cursor.get());
    while ahead != 0 {
        let slot = (schedule.cursor.get() + ahead.trailing_zeros()) % SLOT_COUNT as u32;
        ahead &= ahead - 1;
        let Some(env) = owner(kernel, slot) else { continue };
        if let Some(runs) = transfer::end_of_line(kernel, env) {
            // Who overran a slice's end loses the next, unless nobody else wants it.
            if env.overruns.get() != 0 && ahead != 0 {
                env.overruns.set(env.overruns.get() - 1);
                continue;
            }
            schedule.cursor.set(slot);
            return Some(runs);
        }
    }
    None
}

/// Gives the rest of the current slice to `heir`.
pub fn donate(kernel: &Kernel, heir: &Env) {
    kernel.schedule.heir.set(heir.id());
}

/// Wakes whoever's deadline has passed. Returns the nearest deadline left.
#[inline]
pub fn wake_expired(kernel: &Kernel, now: u64) -> Option<u64> {
    let nearest = kernel.schedule.nearest.get();
    match nearest {
        NEVER => None,
        later if later > now => Some(later),
        _ => look_at_deadlines(kernel, now),
    }
}

fn look_at_deadlines(kernel: &Kernel, now: u64) -> Option<u64> {
    let mut nearest = NEVER;
    for env in (0..SLOT_COUNT as u32).filter_map(|slot| owner(kernel, slot)) {
        let deadline = env.deadline.get();
        if env.state() != EnvState::Waiting || deadline == 0 {
            continue;
        }
        if deadline <= now {
            env::wake(kernel, env);
        } else {
            nearest = nearest.min(deadline);
        }
    }
    kernel.schedule.nearest.set(nearest);
    (nearest != NEVER).then_some(nearest)
}
