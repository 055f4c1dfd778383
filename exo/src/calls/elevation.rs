//! Calls on running in ring 0.

use exo_abi::{Error, Handle, Lowered, Rights};

use super::caller::{Caller, Reply};
use crate::capability::Kind;
use crate::elevation;
use crate::keys;

#[inline(never)]
pub(super) fn elevate(caller: Caller<'_>, elevation: Handle) -> Reply {
    caller.work().spend(4_000);
    // Ring 0 could change the key register.
    if keys::is_guarded(caller.env) {
        return Reply::Done(Err(Error::WrongState));
    }
    let again = caller.env.elevated.is_set();
    let begun = caller.env.lookup(&caller.kernel.frames, elevation, Rights::NONE);
    let begun = begun.and_then(|(place, slot)| match slot.kind() {
        Kind::Elevation if slot.rights().allows(Rights::CONTROL) => {
            elevation::begin(caller.kernel, caller.env, place, slot)
        }
        Kind::Elevation => Err(Error::NoRight),
        _ => Err(Error::BadHandle),
    });
    match begun {
        // Elsewhere: the way back from a call leads to the ring that it came from.
        Ok(until) if !again => Reply::Resume(until),
        result => Reply::Done(result),
    }
}

#[inline(never)]
pub(super) fn lower(caller: Caller<'_>) -> Reply {
    if !caller.env.elevated.is_set() {
        return Reply::Done(Err(Error::WrongState));
    }
    elevation::end(caller.kernel, caller.env, Lowered::Asked);
    Reply::Resume(0)
}
