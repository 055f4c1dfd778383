//! Elevation: environments that run their own code in ring 0, for a time.
//!
//! The capability says on which processors, how long at a stretch and how long in all
//! ([`Allowance`]). That an environment is elevated is a state of it, like being ready, and the
//! selectors in its saved registers mean nothing: every way out of the kernel looks at the
//! state ([`selectors`], `arch::elevated`). So taking ring 0 away is a store, wherever the code is.
//!
//! A stretch is paid for when it begins, by the capability and those it was derived from, and
//! what is left of it comes back when it ends, unless the capability is gone by then: so
//! none is used longer by being dropped or copied in time. Whether a stretch is over is
//! looked at by the timer's interrupt and when the environment is switched to ([`look`]).
//!
//! In ring 0 nothing keeps code from the kernel's memory, and supervisor-mode execution and
//! access prevention are off, because the pages are ring 3's. What remains of protection is against
//! mistakes: see CAVEATS.md.

#[cfg(exo_guest)]
use crate::arch::elevated as processor;
#[cfg(test)]
mod tests;

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Allowance, Error, Lowered, Rights, Upcall};

use crate::capability::{CapRef, Kind, Slot};
use crate::cores::number;
use crate::frames::FrameTable;
use crate::state::State;
use crate::state::context::{Context, KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use crate::state::elevated::Elevated;
use crate::state::env::Env;

impl Elevated {
    /// Whether the stretch is over by `now`, on this processor, and why.
    fn lapsed(&self, frames: &FrameTable, now: u64) -> Option<Lowered> {
        match self.slot(frames) {
            None => Some(Lowered::Revoked),
            Some(_) if now >= self.until.get() => Some(Lowered::Deadline),
            Some(slot) if !is_for_core(slot) => Some(Lowered::Core),
            Some(_) => None,
        }
    }

    /// The capability, while it is there.
    fn slot(&self, frames: &FrameTable) -> Option<&'static Slot> {
        let slot = self.place.get().get(frames)?;
        let same = slot.generation.get() == self.generation.get();
        (same && slot.kind() == Kind::Elevation).then_some(slot)
    }
}

fn is_for_core(slot: &Slot) -> bool {
    slot.allowance().cores >> number() & 1 == 1
}

/// The elevation capability at `place` and those it is derived from: at most as many as may be
/// derived one from another.
fn chain(frames: &FrameTable, place: CapRef) -> impl Iterator<Item = &'static Slot> {
    let slot = |place: CapRef| place.get(frames).filter(|slot| slot.kind() == Kind::Elevation);
    core::iter::successors(slot(place), move |below| slot(below.parent.get()))
}

/// Begins a stretch of `env` by the capability at `place`. Returns when it ends.
///
/// # Errors
/// [`Error::OutOfRange`] on a processor that the capability is not for, and when its time, or
/// that of one it comes from, is used up.
pub fn begin(kernel: &State, env: &Env, place: CapRef, slot: &Slot) -> Result<u64, Error> {
    let frames = &kernel.frames;
    let (now, ticks) = (processor::now(), processor::ticks_per_microsecond());
    let span = || {
        let left = chain(frames, place).map(|slot| slot.allowance().total).min().unwrap_or(0);
        left.min(slot.allowance().stretch.into())
    };
    if span() == 0 || !is_for_core(slot) {
        return Err(Error::OutOfRange);
    }
    if env.elevated.is_set() {
        end(kernel, env, Lowered::Asked);
    }
    let span = span();
    chain(frames, place).for_each(|slot| slot.spend(span));
    let until = now.saturating_add(span.saturating_mul(ticks));
    env.elevated.since.set(now);
    env.elevated.until.set(until);
    env.elevated.place.set(place);
    env.elevated.generation.set(slot.generation.get());
    if let Some(area) = env.area().map(|area| &area.elevation) {
        area.until.store(until, Relaxed);
        area.count.store(area.count.load(Relaxed).wrapping_add(1), Relaxed);
        if slot.rights().allows(Rights::CALL) {
            area.call.store(processor::gate(), Relaxed);
        }
    }
    apply(env);
    Ok(until)
}

/// Ends the stretch of `env`, which is elevated, for the reason `why`.
pub fn end(kernel: &State, env: &Env, why: Lowered) {
    let (now, ticks) = (processor::now(), processor::ticks_per_microsecond());
    let Elevated { until, since, place, .. } = &env.elevated;
    let left = until.replace(0).saturating_sub(now) / ticks;
    let took = now.saturating_sub(since.get());
    if env.elevated.slot(&kernel.frames).is_some() {
        chain(&kernel.frames, place.get()).for_each(|slot| slot.give_back(left));
    }
    State::count(&kernel.info.lowered[why as usize], 1);
    State::count(&kernel.info.elevated, took);
    if let Some(area) = env.area().map(|area| &area.elevation) {
        area.until.store(0, Relaxed);
        area.call.store(area.fallback.load(Relaxed), Relaxed);
        area.ticks.store(area.ticks.load(Relaxed).wrapping_add(took), Relaxed);
        area.why.store(why as u64, Relaxed);
    }
}

/// Takes ring 0 back from `env`, which goes on as `state` says, if its stretch is over.
#[cold]
pub fn look(kernel: &State, env: &Env, state: &mut Context) {
    let lapsed = env.elevated.lapsed(&kernel.frames, processor::now());
    if let Some(why) = lapsed.filter(|_| env.elevated.is_set()) {
        end(kernel, env, why);
        step_back(env, state);
        let wanted = env.area().map_or(0, |area| area.upcall.wanted.load(Relaxed));
        env.pending.set(env.pending.get() | wanted & Upcall::Lowered as u32);
    }
}

/// A direct call that an interrupt found at the gate, and not yet behind it, is made the other way.
pub fn step_back(env: &Env, state: &mut Context) {
    if state.rip == processor::gate()
        && let Some(area) = env.area()
    {
        state.rip = area.elevation.fallback.load(Relaxed);
    }
}

/// Makes this processor ready for `env`, which it runs next: what protects ring 0 from ring
/// 3's pages is off while that is in ring 0, and calls come in another way.
#[inline(always)]
pub fn apply(env: &Env) {
    processor::set(env.elevated.is_set());
}

/// The selectors of code and data with which `env` goes on: those of its ring.
#[inline]
pub fn selectors(env: &Env) -> (u16, u16) {
    if env.elevated.is_set() { (KERNEL_CODE, KERNEL_DATA) } else { (USER_CODE, USER_DATA) }
}

impl Slot {
    /// What a capability for elevation allows.
    pub(crate) fn allowance(&self) -> Allowance {
        let named = self.object();
        Allowance { cores: named.first, stretch: named.extent, total: named.badge }
    }
}

/// The processor of tests on the host: a tick is a microsecond, and time is what a test says.
#[cfg(not(exo_guest))]
mod processor {
    use std::cell::Cell;

    thread_local! {
        pub(super) static NOW: Cell<u64> = const { Cell::new(1) };
    }

    /// Where the gate would be.
    pub(super) const GATE: u64 = exo_boot::layout::KERNEL_BASE + 0x1000;

    pub(super) fn now() -> u64 {
        NOW.get()
    }

    pub(super) fn ticks_per_microsecond() -> u64 {
        1
    }

    pub(super) fn gate() -> u64 {
        GATE
    }

    pub(super) fn set(_elevated: bool) {}
}
