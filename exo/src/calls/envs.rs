//! Calls on environments.

use exo_abi::{EnvStatus, Error, Handle, Pfn, Rights, UserPtr, Word};

use super::Caller;
use crate::capability::{self, CapRef, Kind, Object, Progress};
use crate::env::{self, Parts};
use crate::user::UserSlice;

pub(super) fn env_create(
    caller: Caller<'_>,
    object: Pfn,
    root_table: Pfn,
    cap_table: Pfn,
    u_area: Pfn,
) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    // The creator must be able to hold the result before anything is made.
    caller.check_room()?;
    let parts = Parts { object, root_table, cap_table, u_area };
    let env = env::create(caller.kernel, caller.env.id(), parts)?;
    let named = Object::in_frame(Kind::Env, frames, Pfn(env.id().0));
    let rights = Rights::MEMORY
        .with(Rights::CONTROL)
        .with(Rights::INSPECT)
        .with(Rights::ENDOW)
        .with(Rights::GRANT);
    capability::insert(frames, caller.env, named, rights, CapRef::NONE).map(Word::into_word)
}

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

pub(super) fn env_destroy(caller: Caller<'_>, env: Handle) -> Result<(), Error> {
    let env = caller.env_with(env, Rights::CONTROL)?;
    match env::destroy_step(caller.kernel, env)? {
        Progress::Done => Ok(()),
        Progress::Again => Err(Error::Again),
    }
}

pub(super) fn env_status(caller: Caller<'_>, env: Handle, status: UserPtr) -> Result<(), Error> {
    let bytes = caller.env_with(env, Rights::INSPECT)?.status().to_bytes();
    let root = caller.env.root_table.get();
    UserSlice::new(root, status, EnvStatus::BYTES).copy_out(&caller.kernel.frames, &bytes)
}
