//! Upcalls: continuing an environment somewhere else than where it was.
//!
//! All the kernel does is save four registers in the U-area and put the entry's
//! address in their place; the state the others are in is the application's to save.
//! What the application writes into its U-area meanwhile can only lead itself astray.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::Upcall;

use crate::keys;
use crate::state::context::Context;
use crate::state::env::Env;

/// Trap, direction and alignment-check flag: clear in an upcall.
pub(crate) const CLEARED_FLAGS: u64 = 1 << 8 | 1 << 10 | 1 << 18;

/// Makes `state`, in which `env` is to be continued, the beginning of an upcall.
/// False if the environment does not want it, or not now. Exceptions in ring 3 are given back
/// before they come here (`arch::vectors`), in the same way.
pub fn make(env: &Env, state: &mut Context, reason: Upcall) -> bool {
    let Some(area) = env.area() else { return false };
    let area = &area.upcall;
    let entry = area.entry.load(Relaxed);
    let wanted = (area.wanted.load(Relaxed) | Upcall::Exception as u32) & reason as u32 != 0;
    // A return to an address that is not canonical would be ring 0's fault.
    if !wanted
        || keys::is_open(env)
        || entry == 0
        || entry >> 47 != 0
        || area.masked.load(Relaxed) != 0
    {
        return false;
    }
    area.masked.store(1, Relaxed);
    area.reason.store(reason as u64, Relaxed);
    area.rip.store(state.rip, Relaxed);
    area.rsp.store(state.rsp, Relaxed);
    area.flags.store(state.flags, Relaxed);
    area.rdi.store(state.rdi, Relaxed);
    state.rip = entry;
    state.rsp = area.stack.load(Relaxed);
    state.rdi = reason as u64;
    state.flags &= !CLEARED_FLAGS;
    true
}

/// Makes `state` the beginning of the upcall that tells of an exception, which was in ring 0:
/// it has come past the entry that gives others back. False if the environment does not want it.
pub fn tell_exception(env: &Env, state: &mut Context, code: u64, address: u64) -> bool {
    let made = make(env, state, Upcall::Exception);
    if let Some(area) = env.area().map(|area| &area.upcall).filter(|_| made) {
        area.vector.store(state.vector, Relaxed);
        area.code.store(code, Relaxed);
        area.address.store(address, Relaxed);
    }
    made
}

/// Makes the first of the upcalls that wait for `env`, which is about to run.
#[cold]
pub fn make_pending(env: &Env) {
    for reason in [Upcall::Lowered, Upcall::SliceBegin, Upcall::Revoke, Upcall::Event] {
        if env.pending.get() & reason as u32 == 0 {
            continue;
        }
        let mut state = env.context().get();
        if make(env, &mut state, reason) {
            env.pending.set(env.pending.get() & !(reason as u32));
            env.context().set(state);
            return;
        }
    }
}

/// Notes that `env` is to be told when it runs after the end of a slice.
pub fn expect_begin(env: &Env) {
    let wanted = env.area().map_or(0, |area| area.upcall.wanted.load(Relaxed));
    env.pending.set(env.pending.get() | wanted & Upcall::SliceBegin as u32);
}
