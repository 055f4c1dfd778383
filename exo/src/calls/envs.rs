//! Calls on environments.

use exo_abi::{EnvId, Error, Handle, Pages, Pfn, Rights, UserPtr};

use super::caller::{Caller, Reply};
use crate::capability::{CapRef, Kind, Object, SLOTS_PER_FRAME};
use crate::env::{self, Parts, revocation};
use crate::keys;
use crate::memory::CLEAR;
use crate::user::UserSlice;

#[inline(never)]
pub(super) fn env_create(
    caller: Caller<'_>,
    object: Pfn,
    root_table: Pfn,
    cap_table: Pfn,
    u_area: Pfn,
) -> Result<u64, Error> {
    caller.work().spend(4 * CLEAR + SLOTS_PER_FRAME * 16 + 2_000);
    // The creator must be able to hold the result before anything is made.
    caller.check_room(CapRef::NONE)?;
    let parts = Parts { object, root_table, cap_table, u_area };
    let env = env::create(caller.kernel, caller.env.id(), parts)?;
    let named = Object::in_frame(Kind::Env, &caller.kernel.frames, Pfn(env.id().0));
    let rights = Rights::MEMORY
        .with(Rights::CONTROL)
        .with(Rights::INSPECT)
        .with(Rights::ENDOW)
        .with(Rights::GRANT);
    caller.put(caller.env, named, rights, CapRef::NONE)
}

#[inline(never)]
pub(super) fn env_start(
    caller: Caller<'_>,
    env: Handle,
    entry: UserPtr,
    stack: UserPtr,
    argument: u64,
) -> Result<(), Error> {
    let env = caller.env_with(env, Rights::CONTROL)?;
    env::start(caller.kernel, env, entry.0, stack.0, argument)
}

#[inline(never)]
pub(super) fn env_guard(caller: Caller<'_>, env: Handle) -> Result<(), Error> {
    keys::guard(caller.kernel, caller.env_with(env, Rights::CONTROL)?)
}

#[inline(never)]
pub(super) fn env_destroy(caller: Caller<'_>, env: Handle) -> Reply {
    let env = caller.env_with(env, Rights::CONTROL);
    let step = env.and_then(|env| env::destroy_step(caller.kernel, env, caller.work()));
    let heir = caller.kernel.here().schedule.heir.get();
    match step {
        // (From ring 0 not so much is saved that another could run.)
        Err(error) if heir != EnvId::NONE && !caller.env.elevated.is_set() => Reply::Aside(error),
        step => step.into(),
    }
}

#[inline(never)]
pub(super) fn env_status(caller: Caller<'_>, env: Handle, status: UserPtr) -> Result<(), Error> {
    let bytes = caller.env_with(env, Rights::INSPECT)?.status().to_bytes();
    let root = caller.env.root_table.get();
    UserSlice::new(root, status).copy_out(&caller.kernel.frames, &bytes)
}

#[inline(never)]
pub(super) fn revoke_request(
    caller: Caller<'_>,
    env: Handle,
    frames: Pages,
    slots: u32,
    deadline: u64,
) -> Result<(), Error> {
    let env = caller.live_env_with(env, Rights::CONTROL)?;
    revocation::request(caller.kernel, env, frames, slots, deadline);
    Ok(())
}

#[inline(never)]
pub(super) fn revoke_enforce(caller: Caller<'_>, env: Handle, frame: Pfn) -> Result<(), Error> {
    let env = caller.live_env_with(env, Rights::CONTROL)?;
    revocation::enforce(caller.kernel, env, frame, caller.work())
}
