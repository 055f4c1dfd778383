//! Upcalls: continuing an environment somewhere else than where it was.
//!
//! All the kernel does is save four registers in the U-area and put the entry's
//! address in their place; the state the others are in is the application's to save.
//! What the application writes into its U-area meanwhile can only lead itself astray.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{USER_TOP, Upcall, UpcallArea};

use super::{Context, Env};
use crate::frames::FrameTable;

/// Trap, direction and alignment-check flag: clear in an upcall.
const CLEARED_FLAGS: u64 = 1 << 8 | 1 << 10 | 1 << 18;

/// Makes `state`, in which `env` is to be continued, the beginning of an upcall.
/// False if the environment does not want it, or not now. For exceptions, which come
/// unasked, see [`exception`].
pub fn make(frames: &FrameTable, env: &Env, state: &mut Context, reason: Upcall) -> bool {
    let Some(area) = env.area(frames) else { return false };
    let area = &area.upcall;
    area.wanted.load(Relaxed) & reason as u32 != 0 && redirect(area, state, reason)
}

#[inline]
fn redirect(area: &UpcallArea, state: &mut Context, reason: Upcall) -> bool {
    let (entry, stack) = (area.entry.load(Relaxed), area.stack.load(Relaxed));
    if entry == 0 || entry >= USER_TOP || stack > USER_TOP || area.masked.load(Relaxed) != 0 {
        return false;
    }
    area.masked.store(1, Relaxed);
    area.reason.store(reason as u64, Relaxed);
    area.rip.store(state.rip, Relaxed);
    area.rsp.store(state.rsp, Relaxed);
    area.flags.store(state.flags, Relaxed);
    area.rdi.store(state.rdi, Relaxed);
    state.rip = entry;
    state.rsp = stack;
    state.rdi = reason as u64;
    state.flags &= !CLEARED_FLAGS;
    true
}

/// The same for an exception, of which `state` is what it left.
#[inline]
pub fn exception(frames: &FrameTable, env: &Env, state: &mut Context, address: u64) -> bool {
    let Some(area) = env.area(frames) else { return false };
    let made = redirect(&area.upcall, state, Upcall::Exception);
    if made {
        area.upcall.vector.store(state.vector, Relaxed);
        area.upcall.code.store(state.error, Relaxed);
        area.upcall.address.store(address, Relaxed);
    }
    made
}

/// Makes the first of the upcalls that wait for `env`, which is about to run.
#[cold]
pub fn make_pending(frames: &FrameTable, env: &Env) {
    for reason in [Upcall::SliceBegin, Upcall::Revoke, Upcall::Event] {
        if env.pending.get() & reason as u32 == 0 {
            continue;
        }
        let mut state = env.context().get();
        if make(frames, env, &mut state, reason) {
            env.pending.set(env.pending.get() & !(reason as u32));
            env.context().set(state);
            return;
        }
    }
}

/// Notes that `env` is to be told when it runs after the end of a slice.
pub fn expect_begin(frames: &FrameTable, env: &Env) {
    let wanted = env.area(frames).map_or(0, |area| area.upcall.wanted.load(Relaxed));
    env.pending.set(env.pending.get() | wanted & Upcall::SliceBegin as u32);
}
