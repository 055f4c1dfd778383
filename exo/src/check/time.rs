//! Slots, processors, sleepers and protected calls: S1 to S6, T1 to T3.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, EnvState, Pfn, SLOT_COUNT};

use super::{Outcome, ensure, environments, same};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::schedule;
use crate::state::env::stage;
use crate::state::transfer::CHAIN;

pub(super) fn check(kernel: &Kernel) -> Outcome {
    for slot in 0..kernel.info.slots.owners.len() {
        owner_word(kernel, slot)?;
    }
    for env in environments(kernel) {
        masks(kernel, env)?;
        sleep(kernel, env)?;
        transfers(kernel, env)?;
    }
    processors(kernel)
}

fn published(kernel: &Kernel, slot: usize) -> EnvId {
    EnvId(kernel.info.slots.owners[slot].load(Relaxed))
}

/// S1, S2: from a slot to its owner.
fn owner_word(kernel: &Kernel, slot: usize) -> Outcome {
    let (number, bit) = (slot / SLOT_COUNT, slot % SLOT_COUNT);
    let owner = published(kernel, slot);
    let frame = Pfn(owner.0);
    let env = kernel.env(owner);
    ensure(owner == EnvId(0) || env.is_some(), "S1", "a slot's owner does not exist", frame)?;
    let masked = env.is_none_or(|env| env.slots[number].get() >> bit & 1 == 1);
    ensure(masked, "S1", "an environment does not know its slot", frame)?;
    let ready = kernel.cores[number].schedule.ready.get() >> bit & 1;
    let wanted = u64::from(env.is_some_and(Env::may_run));
    same("S2", "a slot's ready bit disagrees with its owner", frame, (ready, wanted))
}

/// S1: from an environment to its slots.
fn masks(kernel: &Kernel, env: &Env) -> Outcome {
    for slot in 0..kernel.info.slots.owners.len() {
        let mine = env.slots[slot / SLOT_COUNT].get() >> (slot % SLOT_COUNT) & 1 == 1;
        let fits = !mine || published(kernel, slot) == env.id();
        ensure(fits, "S1", "an environment takes another's slot for its own", Pfn(env.id().0))?;
    }
    Ok(())
}

/// S5, S6.
fn sleep(kernel: &Kernel, env: &'static Env) -> Outcome {
    let frame = Pfn(env.id().0);
    let may = matches!(env.state(), EnvState::Waiting | EnvState::Dying);
    ensure(may || !env.predicate.is_set(), "S6", "one that is awake has a predicate", frame)?;
    let has_slots = env.slots.iter().any(|slots| slots.get() != 0);
    let Some((_, deadline)) = schedule::sleeper(kernel, env).filter(|_| has_slots) else {
        return Ok(());
    };
    let expected = kernel.started().any(|(_, core)| core.schedule.nearest.get() <= deadline);
    ensure(expected, "S5", "no processor expects a sleeper's deadline", frame)
}

/// T1 to T3.
fn transfers(kernel: &Kernel, env: &Env) -> Outcome {
    let frame = Pfn(env.id().0);
    let own = &env.transfer;
    if env.state() == EnvState::Calling {
        let callee = kernel.env(own.callee.get());
        let serves = callee.is_some_and(|callee| {
            callee.transfer.serving() && callee.transfer.caller.get() == env.id()
        });
        ensure(serves, "T1", "an environment's callee does not serve it", frame)?;
    }
    if own.caller.get() != EnvId(0) {
        let caller = kernel.env(own.caller.get());
        let calls = caller.is_some_and(|caller| {
            caller.state() == EnvState::Calling && caller.transfer.callee.get() == env.id()
        });
        ensure(own.serving() && calls, "T2", "an environment's caller does not call it", frame)?;
    }
    let orphan = own.serving() && own.caller.get() == EnvId(0);
    ensure(
        orphan || !own.orphaned.get(),
        "T3",
        "an orphan has a caller, or does not serve",
        frame,
    )?;
    let bounded = (1..CHAIN).contains(&own.depth.get());
    ensure(bounded || !own.serving(), "T3", "a chain of calls has no bound", frame)
}

/// S3, S4.
fn processors(kernel: &Kernel) -> Outcome {
    for (number, core) in kernel.cores.iter().enumerate() {
        let loaded = core.current.get();
        if loaded != EnvId(0) {
            let whole =
                kernel.env(loaded).is_some_and(|env| env.destruction.get().0 < stage::PAGE_TABLES);
            ensure(whole, "S4", "loaded page tables are not whole", Pfn(loaded.0))?;
        }
        let Some(env) = core.running.get() else { continue };
        let frame = Pfn(env.id().0);
        ensure(env.id() == loaded, "S3", "one runs in another's page tables", frame)?;
        let counts = (u64::from(env.core.get()), number as u64);
        same("S3", "one that runs was last on another processor", frame, counts)?;
        let runs = matches!(env.state(), EnvState::Ready | EnvState::Dying);
        ensure(runs, "S3", "one that runs is not ready", frame)?;
    }
    Ok(())
}
