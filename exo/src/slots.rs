//! Slots of processor time, and which environments could use theirs.
//!
//! The owner of each slot is in [`exo_abi::SystemInfo`]; which slots have an owner that is ready
//! is a bit each in each
//! processor's [`Schedule`], kept current when an environment's state changes.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, EnvState, Pfn, SLOT_COUNT};

pub use crate::console::Payer;
use crate::cores::number;
use crate::object;
use crate::state::State;
use crate::state::env::Env;
use crate::state::percore::Schedule;
use crate::state::transfer::CHAIN;

/// Length of a slice in microseconds.
pub const SLICE_MICROSECONDS: u64 = 1000;

impl Payer {
    /// The environment `env`, if there is one.
    pub fn new(kernel: &State, env: EnvId) -> Self {
        Self { env, generation: kernel.frames.generation(Pfn(env.0)) }
    }

    /// The owner of slot `slot` of this processor.
    pub fn of_slot(kernel: &State, slot: u32) -> Self {
        let number = number() * SLOT_COUNT + slot as usize;
        let owner = kernel.info.slots.owners.get(number).map_or(0, |owner| owner.load(Relaxed));
        Self::new(kernel, EnvId(owner))
    }

    /// It took `ticks` that it was not given.
    pub fn charge(self, kernel: &State, ticks: u64) {
        let env = object::get_live::<Env>(&kernel.frames, Pfn(self.env.0), self.generation);
        if let Some(env) = env {
            env.debt.set(env.debt.get().saturating_add(ticks));
        }
    }
}

/// A slice on the processor's timer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Its slot.
    pub slot: u32,
    /// The owner of that slot when it began.
    pub payer: Payer,
    /// When it is over, by the time-stamp counter.
    pub end: u64,
}

impl Slice {
    /// It ends `now`: what was taken beyond its end is charged, and `least` at least. No
    /// more than a slice, which is longer than anything that ring 0 does: what is later
    /// than that was the machine's doing.
    pub fn charge(self, kernel: &State, now: u64, least: u64) {
        let late = now.saturating_sub(self.end).min(slice(kernel));
        self.payer.charge(kernel, late.max(least));
    }
}

/// Length of a slice in ticks of the time-stamp counter.
#[inline]
pub fn slice(kernel: &State) -> u64 {
    kernel.info.tsc_hz.load(Relaxed) / (1_000_000 / SLICE_MICROSECONDS)
}

/// The owner of a slot.
pub(crate) fn owner(kernel: &State, slot: u32) -> Option<&'static Env> {
    let owner = kernel.info.slots.owners.get(slot as usize)?.load(Relaxed);
    if owner == 0 { None } else { kernel.env(EnvId(owner)) }
}

/// Changes what `env` is doing.
#[inline]
pub fn set_state(kernel: &State, env: &Env, state: EnvState) {
    env.set_state(state);
    let may_run = env.may_run();
    if !kernel.has_others() {
        let [core, ..] = &kernel.cores;
        return core.schedule.set_ready(env.slots[0].get(), may_run);
    }
    for (core, slots) in kernel.cores.iter().zip(&env.slots) {
        core.schedule.set_ready(slots.get(), may_run);
    }
    if may_run {
        kernel.wake_core(env);
    }
}

/// The processor of a slot, and the slot's bit there.
fn place(kernel: &State, slot: u32) -> Option<(usize, &Schedule, u64)> {
    let number = slot as usize / SLOT_COUNT;
    Some((number, &kernel.cores.get(number)?.schedule, 1 << (slot as usize % SLOT_COUNT)))
}

/// What [`assign`] costs.
pub const ASSIGN: u32 = 250;

/// Gives slot `slot` to `heir`, or to no environment.
pub fn assign(kernel: &State, slot: u32, heir: Option<&'static Env>) {
    let Some((number, schedule, bit)) = place(kernel, slot) else { return };
    let Some(entry) = kernel.info.slots.owners.get(slot as usize) else { return };
    if let Some(owner) = owner(kernel, slot) {
        owner.slots[number].set(owner.slots[number].get() & !bit);
    }
    entry.store(heir.map_or(0, |heir| heir.id().0), Relaxed);
    schedule.set_ready(bit, heir.is_some_and(Env::may_run));
    let Some(heir) = heir else { return };
    heir.slots[number].set(heir.slots[number].get() | bit);
    // A deadline that passed while it owned no slot is still to be noticed.
    if let Some((_, deadline)) = sleeper(kernel, heir) {
        kernel.here().schedule.expect(deadline);
    }
    if heir.may_run() {
        kernel.wake_core(heir);
    }
}

/// Whether `env` owns the `count` slots from `first` on.
pub fn owns(env: &Env, first: u32, count: u32) -> bool {
    let has = |slot: u32| {
        let slots = env.slots.get(slot as usize / SLOT_COUNT).map_or(0, Cell::get);
        slots >> (slot as usize % SLOT_COUNT) & 1 == 1
    };
    let end = first.checked_add(count).filter(|_| count as usize <= SLOT_COUNT);
    end.is_some_and(|end| (first..end).all(has))
}

/// Takes all slots of `env` away.
pub fn forget(kernel: &State, env: &Env) {
    for (slots, number) in env.slots.iter().zip(0..) {
        while slots.get() != 0 {
            let first = number * SLOT_COUNT as u32;
            assign(kernel, first + slots.get().trailing_zeros(), None);
        }
    }
}

/// The environment at the end of the chain of calls that `env` waits for, whatever it does.
#[inline]
pub fn last_of_line(kernel: &State, mut env: &'static Env) -> Option<&'static Env> {
    for _ in 0..CHAIN {
        if env.state() != EnvState::Calling {
            return Some(env);
        }
        env = kernel.env(env.transfer.callee.get())?;
    }
    None
}

/// The environment that the slots of `env` are for now, itself or the one that it waits for
/// in a protected call, if it sleeps until a deadline; and that deadline.
pub(crate) fn sleeper(kernel: &State, env: &'static Env) -> Option<(&'static Env, u64)> {
    let sleeper = last_of_line(kernel, env)?;
    let deadline = sleeper.deadline.get();
    (sleeper.state() == EnvState::Waiting && deadline != 0).then_some((sleeper, deadline))
}
