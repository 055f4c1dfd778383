//! Calls that cross into another environment, or tell it something.

use exo_abi::{EnvState, Error, Handle, Pfn, Rights, UserPtr, Word};

use super::{Caller, Leaving, Reply};
use crate::capability::{self, BADGE_END, CapRef, Kind, Object};
use crate::env::transfer::{self, End};
use crate::env::{self, Env};
use crate::object;
use crate::schedule;

impl Caller<'_> {
    /// The environment behind an entry or doorbell, and what the capability says.
    #[inline]
    fn target(&self, handle: Handle, kind: Kind) -> Result<(&'static Env, Object), Error> {
        let frames = &self.kernel.frames;
        let (_, slot) = capability::lookup(frames, self.env, handle, Rights::CALL)?;
        let named = slot.object();
        if named.kind != kind {
            return Err(Error::BadHandle);
        }
        Ok((object::get(frames, Pfn(named.first)).ok_or(Error::BadHandle)?, named))
    }

    fn own(&self, kind: Kind, badge: u64) -> Result<u64, Error> {
        let frames = &self.kernel.frames;
        let itself = Object { badge, ..Object::in_frame(kind, frames, Pfn(self.env.id().0)) };
        let rights = Rights::CALL.with(Rights::GRANT);
        capability::insert(frames, self.env, itself, rights, CapRef::NONE).map(Word::into_word)
    }
}

#[inline(never)]
pub(super) fn slice_donate(caller: Caller<'_>, env: Handle) -> Reply {
    match caller.live_env_with(env, Rights::NONE) {
        Ok(heir) => {
            schedule::donate(caller.kernel, heir);
            Reply::Stop
        }
        Err(error) => Reply::Done(Err(error)),
    }
}

#[inline(never)]
pub(super) fn entry_create(
    caller: Caller<'_>,
    index: u32,
    address: UserPtr,
    stack: UserPtr,
) -> Result<u64, Error> {
    if address.0 != 0 {
        caller.check_room()?;
    }
    caller.env.transfer.set_entry(index, address.0, stack.0)?;
    match address.0 {
        0 => Ok(0),
        _ => caller.own(Kind::Entry, u64::from(index) * BADGE_END),
    }
}

#[inline(never)]
pub(super) fn cap_badge(caller: Caller<'_>, source: Handle, badge: u64) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, slot) = capability::lookup(frames, caller.env, source, Rights::GRANT)?;
    let named = slot.object();
    if !matches!(named.kind, Kind::Entry | Kind::Doorbell) {
        return Err(Error::BadHandle);
    }
    if badge == 0 || badge >= BADGE_END {
        return Err(Error::BadArgument);
    }
    if !named.badge.is_multiple_of(BADGE_END) {
        return Err(Error::NoRight);
    }
    let object = Object { badge: named.badge + badge, ..named };
    capability::insert(frames, caller.env, object, slot.rights(), place).map(Word::into_word)
}

#[inline]
fn begin(caller: Caller<'_>, entry: Handle, waits: bool) -> Reply {
    let begun = caller.target(entry, Kind::Entry).and_then(|(callee, named)| {
        let (index, badge) = (named.badge / BADGE_END, named.badge % BADGE_END);
        transfer::begin(caller.kernel, caller.env, callee, index as usize, badge, waits)
    });
    let leaving = if waits { Leaving::Waits } else { Leaving::Ready };
    begun.map_or_else(|error| Reply::Done(Err(error)), |switch| Reply::Switch(leaving, switch))
}

#[inline]
pub(super) fn transfer_call(caller: Caller<'_>, entry: Handle) -> Reply {
    begin(caller, entry, true)
}

pub(super) fn transfer_send(caller: Caller<'_>, entry: Handle) -> Reply {
    begin(caller, entry, false)
}

#[inline]
pub(super) fn transfer_reply(caller: Caller<'_>) -> Reply {
    match transfer::end(caller.kernel, caller.env) {
        Ok(End::Reply(switch)) => Reply::Switch(Leaving::Over, switch),
        Ok(End::Quiet) => Reply::Over,
        Err(error) => Reply::Done(Err(error)),
    }
}

#[inline(never)]
pub(super) fn doorbell_create(caller: Caller<'_>) -> Result<u64, Error> {
    caller.own(Kind::Doorbell, 0)
}

#[inline(never)]
pub(super) fn doorbell_ring(caller: Caller<'_>, doorbell: Handle) -> Result<(), Error> {
    let (owner, named) = caller.target(doorbell, Kind::Doorbell)?;
    if owner.state() == EnvState::Dying {
        // Its U-area may be somebody else's by now.
        return Err(Error::WrongState);
    }
    env::ring(caller.kernel, owner, named.badge);
    Ok(())
}
