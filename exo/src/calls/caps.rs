//! Calls on capabilities themselves.

use exo_abi::{Allowance, Error, Handle, Pfn, Rights, Word};

use super::caller::Caller;
use crate::capability::{self, Kind, Object, SLOTS_PER_FRAME};
use crate::disk;
use crate::memory::CLEAR;

#[inline(never)]
pub(super) fn cap_derive(
    caller: Caller<'_>,
    source: Handle,
    rights: Rights,
    first: u64,
    count: u64,
) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, slot) = caller.env.lookup(frames, source, Rights::GRANT)?;
    if !slot.rights().allows(rights) {
        return Err(Error::NoRight);
    }
    let whole = slot.object();
    let object = match whole.kind {
        Kind::Frames | Kind::Slots | Kind::Disk | Kind::Keys => {
            let (first, count) = (u32::from_word(first)?, u32::from_word(count)?);
            if count == 0 || !whole.covers(first, count) {
                return Err(Error::OutOfRange);
            }
            Object::range(whole.kind, first, count)
        }
        Kind::Elevation => {
            let part = Allowance::from_words(first, count);
            if !slot.allowance().covers(part) {
                return Err(Error::OutOfRange);
            }
            Object { badge: part.total, ..Object::range(whole.kind, part.cores, part.stretch) }
        }
        _ if first != 0 || count != 0 => return Err(Error::BadArgument),
        _ => whole,
    };
    caller.put(caller.env, object, rights, place)
}

#[inline(never)]
pub(super) fn cap_grant(caller: Caller<'_>, cap: Handle, env: Handle) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, slot) = caller.env.lookup(frames, cap, Rights::GRANT)?;
    let holder = caller.live_env_with(env, Rights::ENDOW)?;
    caller.put(holder, slot.object(), slot.rights(), place)
}

#[inline(never)]
pub(super) fn cap_revoke(caller: Caller<'_>, cap: Handle) -> Result<(), Error> {
    let frames = &caller.kernel.frames;
    let (place, slot) = caller.env.lookup(frames, cap, Rights::NONE)?;
    capability::revoke_step(frames, place, slot, caller.work())?;
    disk::check_drained(caller.kernel, slot.object())
}

#[inline(never)]
pub(super) fn cap_drop(caller: Caller<'_>, cap: Handle) -> Result<(), Error> {
    let frames = &caller.kernel.frames;
    // A stale capability is dropped too: its slot is the caller's.
    let (place, slot) = capability::occupied(frames, &caller.env.capabilities, cap)?;
    capability::drop_step(frames, place, slot, caller.work())
}

#[inline(never)]
pub(super) fn cap_grow(caller: Caller<'_>, frame: Pfn) -> Result<(), Error> {
    caller.work().spend(CLEAR + SLOTS_PER_FRAME * 16);
    caller.kernel.frames.check_donation(frame, caller.env.id())?;
    capability::donate(&caller.kernel.frames, &caller.env.capabilities, frame)
}
