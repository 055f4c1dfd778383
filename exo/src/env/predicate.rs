//! Wakeup predicates: sleeping until a condition on memory holds.
//!
//! After Xok (SOSP'97, 5.1). The condition is a filter of the language that packets
//! are classified with: verified when it comes, bounded, without loops. It is tried
//! when it would be the sleeper's turn, once each time the kernel decides which environment
//! runs, and what that takes is the sleeper's debt; memory is looked up in the sleeper's own
//! page tables each time, so it can be no other's.

use exo_abi::{Error, UserPtr};

use crate::cores::number;
use crate::slots;
use crate::state::State;
use crate::state::env::Env;
use crate::user::UserSlice;

/// Most bytes a predicate may look at.
const REACH: usize = 256;

/// `env`, which is about to sleep, does so until `filter` matches the bytes at `memory`.
///
/// # Errors
/// [`Error::TooMuch`] for a filter that looks too far; [`Error::BadPointer`].
pub fn set(kernel: &State, env: &Env, filter: dpf::Filter, memory: UserPtr) -> Result<(), Error> {
    if filter.reach() > REACH {
        return Err(Error::TooMuch);
    }
    let mut bytes = [0; REACH];
    let bytes = &mut bytes[..filter.reach()];
    UserSlice::new(env.root_table.get(), memory).copy_in(&kernel.frames, bytes)?;
    env.predicate.filter.set(filter);
    env.predicate.memory.set(memory.0.wrapping_add(1));
    Ok(())
}

/// Whether what `env` sleeps for has come, as far as it is its turn to know: once in each
/// decision, and not while it owes a slice, which this turn pays.
#[inline(never)]
pub fn holds(kernel: &State, env: &Env) -> bool {
    let decision = kernel.here().schedule.watches_in_decision(number());
    if env.predicate.tried.replace(decision) == decision {
        return false;
    }
    let (debt, slice) = (env.debt.get(), slots::slice(kernel));
    if debt >= slice {
        env.debt.set(debt - slice);
        return false;
    }
    let begin = now();
    let holds = try_out(kernel, env);
    env.debt.set(debt.saturating_add((now() - begin).max(1)));
    holds
}

#[cfg(exo_guest)]
fn now() -> u64 {
    crate::arch::cpu::time_stamp()
}

/// On the host trying takes one tick.
#[cfg(not(exo_guest))]
fn now() -> u64 {
    0
}

fn try_out(kernel: &State, env: &Env) -> bool {
    let filter = env.predicate.filter.get();
    let mut bytes = [0; REACH];
    let Some(bytes) = bytes.get_mut(..filter.reach()) else { return true };
    let memory = UserPtr(env.predicate.memory.get().wrapping_sub(1));
    let memory = UserSlice::new(env.root_table.get(), memory);
    memory.copy_in(&kernel.frames, bytes).is_err() || filter.matches(bytes)
}

#[cfg(test)]
mod tests {
    use dpf::{Atom, Filter, MAX_WIRE};
    use exo_abi::{EnvState, Error, Pfn};

    use crate::memory;
    use crate::schedule;
    use crate::testing::{ALL_FRAMES, ALL_SLOTS, Reply, call, child, machine, reply, tables};

    const AT: u64 = 0x40_0000;

    fn write(frame: u32, offset: usize, bytes: &[u8]) {
        let place = memory::frame(Pfn(frame)).wrapping_add(offset);
        // SAFETY: simulated memory of one frame; offsets of this test lie in it.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn encoded(atoms: &[Atom]) -> (Vec<u8>, u64) {
        let mut wire = [0; MAX_WIRE];
        let length = Filter::new(atoms).expect("a filter").encode(&mut wire).expect("room");
        (wire[..length].to_vec(), length as u64)
    }

    #[test]
    fn a_sleeper_runs_when_its_condition_holds() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
        call(kernel, root, "map", &[handle, handle, 620, AT, 2, 1]).expect("mappable");
        call(kernel, root, "slots_assign", &[ALL_SLOTS, 3, 5, handle]).expect("slots");
        call(kernel, root, "env_start", &[handle, AT, AT, 0]).expect("new");
        let (wire, length) = encoded(&[Atom::exact(8, 4, 0xfeed)]);
        write(620, 0, &wire);
        let sleep = |memory| reply(kernel, env, "wait_until", &[AT, length, memory, 0]);
        assert!(matches!(sleep(AT + 0x2000), Reply::Done(Err(Error::BadPointer))));
        assert!(matches!(sleep(AT + 0x1ffc), Reply::Done(Err(Error::BadPointer))), "half");
        assert!(matches!(sleep(AT + 0x1000), Reply::Stop));
        assert_eq!(env.state(), EnvState::Waiting);
        assert!(schedule::next_ready(kernel).is_none());
        crate::env::notify(kernel, env);
        assert!(schedule::next_ready(kernel).is_none(), "an event is not what it waits for");
        write(621, 8, &[0, 0, 0xfe, 0xed]);
        assert_eq!(schedule::next_ready(kernel).map(crate::env::Env::id), Some(env.id()));
        assert_eq!((env.state(), env.context().get().rdx), (EnvState::Ready, 1));
        // A condition that can no longer be tried wakes, too.
        write(621, 8, &[0; 4]);
        assert!(matches!(sleep(AT + 0x1000), Reply::Stop));
        assert!(schedule::next_ready(kernel).is_none());
        call(kernel, root, "unmap", &[handle, AT + 0x1000, 1]).expect("mapped");
        assert!(schedule::next_ready(kernel).is_some());
    }

    /// However many slots it has, and its caller has: each turn looks once.
    #[test]
    fn a_condition_is_tried_once_in_a_decision_and_the_sleeper_pays() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
        call(kernel, root, "map", &[handle, handle, 620, AT, 2, 1]).expect("mappable");
        let (caller, callers) = child(kernel, root, 700);
        for (handle, first) in [(handle, 0), (callers, 30)] {
            call(kernel, root, "env_start", &[handle, AT, AT, 0]).expect("new");
            call(kernel, root, "slots_assign", &[ALL_SLOTS, first, 30, handle]).expect("slots");
        }
        let begun = crate::env::transfer::begin(kernel, caller, env, (AT, AT), 0, true, |_| Ok(0));
        assert!(begun.is_ok());
        let (wire, length) = encoded(&[Atom::exact(0, 2, 0xfeed)]);
        write(620, 0, &wire);
        let slept = reply(kernel, env, "wait_until", &[AT, length, AT + 0x1000, 0]);
        assert!(matches!(slept, Reply::Stop));
        for decision in 1..4 {
            assert!(schedule::next_ready(kernel).is_none());
            assert!(kernel.here().schedule.watches(), "to be tried again");
            // Here trying costs a tick.
            assert_eq!((env.debt.get(), caller.debt.get()), (decision, 0));
        }
        // A turn pays a slice, and is no try.
        let slice = schedule::slice(kernel);
        env.debt.set(slice + 7);
        write(621, 0, &[0xfe, 0xed]);
        assert!(schedule::next_ready(kernel).is_none());
        assert_eq!(env.debt.get(), 7);
        assert!(schedule::next_ready(kernel).is_some());
        assert_eq!(env.debt.get(), 8);
    }

    #[test]
    fn a_condition_can_be_at_address_zero() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, 0, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
        call(kernel, root, "map", &[handle, handle, 620, 0, 2, 1]).expect("mappable");
        call(kernel, root, "slots_assign", &[ALL_SLOTS, 3, 5, handle]).expect("slots");
        call(kernel, root, "env_start", &[handle, AT, AT, 0]).expect("new");
        let (wire, length) = encoded(&[Atom::exact(0, 2, 0xfeed)]);
        write(621, 0, &wire);
        assert!(matches!(reply(kernel, env, "wait_until", &[0x1000, length, 0, 0]), Reply::Stop));
        write(620, 1, &[0xfe, 0xed]);
        assert!(schedule::next_ready(kernel).is_none(), "that is at address 1");
        write(620, 0, &[0xfe, 0xed]);
        assert!(schedule::next_ready(kernel).is_some());
    }

    #[test]
    fn a_condition_looks_at_no_more_than_it_may() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
        call(kernel, root, "map", &[handle, handle, 620, AT, 2, 1]).expect("mappable");
        let (wire, length) = encoded(&[Atom::exact(256, 1, 1)]);
        write(620, 0, &wire);
        let slept = reply(kernel, env, "wait_until", &[AT, length, AT, 0]);
        assert!(matches!(slept, Reply::Done(Err(Error::TooMuch))));
        write(620, 0, &[0xff; 40]);
        let slept = reply(kernel, env, "wait_until", &[AT, 40, AT, 0]);
        assert!(matches!(slept, Reply::Done(Err(Error::BadFilter))));
    }
}
