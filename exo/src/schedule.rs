//! Processor time: the slice vector, and sleeping.
//!
//! Slots belong to environments by position; the processor goes round them, and each is one
//! slice long. The slot of an owner that sleeps is skipped, so idle time goes to the
//! environments that can use it. That is all the kernel decides: how slots are spread over
//! environments is up to the holders of the capability for them.
//!
//! The owner of a slot is in [`SystemInfo`]; whether it is ready is a bit here, kept current
//! when an environment's state changes, so that finding the next one to run takes constant
//! time on the way of every packet. Each processor has a vector of its own, and slots are
//! numbered through.

use exo_abi::{EnvId, EnvState, MAX_CORES, SLOT_COUNT};

use crate::cores::number;
use crate::env::{events, transfer};
pub use crate::slots::*;
use crate::state::State;
use crate::state::env::Env;
use crate::state::percore::NEVER;

/// The environment to run now: the one that was given the rest of this slice, or else the
/// next slot's owner that is ready, or the environment that this owner waits for in a
/// protected call.
#[inline]
pub fn next_ready(kernel: &State) -> Option<&'static Env> {
    let schedule = &kernel.here().schedule;
    schedule.decisions.set(schedule.decisions.get() + 1);
    if schedule.heir.get() != EnvId::NONE {
        let heir = kernel.env(schedule.heir.replace(EnvId::NONE));
        if let Some(heir) = heir.and_then(|heir| transfer::end_of_line(kernel, heir)) {
            return Some(heir);
        }
    }
    let mut passed_over = None;
    let first = (number() * SLOT_COUNT) as u32;
    let mut ahead = schedule.ready.get().rotate_right(schedule.cursor.get());
    while ahead != 0 {
        let slot = (schedule.cursor.get() + ahead.trailing_zeros()) % SLOT_COUNT as u32;
        ahead &= ahead - 1;
        let Some(env) = owner(kernel, first + slot) else { continue };
        if let Some(runs) = transfer::end_of_line(kernel, env) {
            let debt = env.debt.get();
            if !owes(kernel, env) {
                schedule.cursor.set(slot);
                return Some(runs);
            }
            // An environment that owes a slice loses the next slot, unless no other wants it;
            // either way it is paid for then, or the debt of one that was alone for
            // long would keep it from running when it no longer is.
            env.debt.set(debt - slice(kernel));
            passed_over = passed_over.or(Some((slot, runs)));
        }
    }
    let (slot, runs) = passed_over?;
    schedule.cursor.set(slot);
    Some(runs)
}

/// Whether `env` owes a slice or more, and so loses a turn.
#[inline]
fn owes(kernel: &State, env: &Env) -> bool {
    let debt = env.debt.get();
    debt != 0 && debt >= slice(kernel)
}

/// Whether [`next_ready`] would choose `env`, which sleeps or has woken on this processor,
/// because the current slot is its own; if false, it may choose it all the same.
#[inline]
pub fn is_its_turn(kernel: &State, env: &Env) -> bool {
    let schedule = &kernel.here().schedule;
    let slots = env.slots[number() % MAX_CORES].get();
    env.state() == EnvState::Ready
        && slots >> (schedule.cursor.get() % SLOT_COUNT as u32) & 1 == 1
        && schedule.heir.get() == EnvId::NONE
        && !owes(kernel, env)
}

/// Gives the rest of the current slice to `heir`.
pub fn donate(kernel: &State, heir: &Env) {
    kernel.here().schedule.heir.set(heir.id());
}

/// Wakes the environments with a deadline that has passed. Returns the nearest deadline left.
#[inline]
pub fn wake_expired(kernel: &State, now: u64) -> Option<u64> {
    let nearest = kernel.here().schedule.nearest.get();
    match nearest {
        NEVER => None,
        later if later > now => Some(later),
        _ => look_at_deadlines(kernel, now),
    }
}

#[inline(never)]
fn look_at_deadlines(kernel: &State, now: u64) -> Option<u64> {
    let mut nearest = NEVER;
    let slots = (kernel.started().count() * SLOT_COUNT) as u32;
    for env in (0..slots).filter_map(|slot| owner(kernel, slot)) {
        match sleeper(kernel, env) {
            Some((_, deadline)) if deadline > now => nearest = nearest.min(deadline),
            Some((sleeper, _)) => events::wake(kernel, sleeper),
            None => {}
        }
    }
    kernel.here().schedule.nearest.set(nearest);
    (nearest != NEVER).then_some(nearest)
}
