//! Calls that cross into another environment, or tell it something.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvState, Error, Handle, Pfn, Rights, UserPtr};

use super::caller::{Caller, Leaving, Reply};
use crate::capability::{BADGE_END, CapRef, Kind, Object};
use crate::env::transfer::{self, End, Switch};
use crate::env::{self, Env};
use crate::schedule;

impl Caller<'_> {
    /// Puts a copy of the caller's capability `grant`, if it is one, into the table of `to`,
    /// which must have said that it accepts such: no other environment's table may be filled.
    #[inline]
    fn hand_over(&self, grant: Handle, to: &Env) -> Result<u64, Error> {
        if grant == Handle::NONE { Ok(0) } else { self.hand_over_one(grant, to) }
    }

    #[inline(never)]
    fn hand_over_one(&self, grant: Handle, to: &Env) -> Result<u64, Error> {
        let frames = &self.kernel.frames;
        if to.area().is_none_or(|area| area.grants.load(Relaxed) == 0) {
            return Err(Error::NoRight);
        }
        let (place, slot) = self.env.lookup(frames, grant, Rights::GRANT)?;
        self.put(to, slot.object(), slot.rights(), place)
    }

    fn own(&self, kind: Kind, badge: u64, life: u32) -> Result<u64, Error> {
        let frames = &self.kernel.frames;
        let itself = Object { badge, life, ..Object::in_frame(kind, frames, Pfn(self.env.id().0)) };
        self.put(self.env, itself, Rights::CALL.with(Rights::GRANT), CapRef::NONE)
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
        caller.check_room(CapRef::NONE)?;
    }
    let life = caller.env.transfer.set_entry(index, address.0, stack.0)?;
    match address.0 {
        0 => Ok(0),
        _ => caller.own(Kind::Entry, u64::from(index) * BADGE_END, life),
    }
}

#[inline(never)]
pub(super) fn cap_badge(caller: Caller<'_>, source: Handle, badge: u64) -> Result<u64, Error> {
    let (place, slot) = caller.env.lookup(&caller.kernel.frames, source, Rights::GRANT)?;
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
    caller.put(caller.env, object, slot.rights(), place)
}

#[inline(always)]
fn begin(caller: Caller<'_>, entry: Handle, grant: Handle, waits: bool) -> Result<Switch, Error> {
    let (callee, slot) = caller.object::<Env>(entry, Kind::Entry, Rights::CALL)?;
    let Object { badge, life, .. } = slot.object();
    let (index, badge) = (badge / BADGE_END, badge % BADGE_END);
    let at = callee.transfer.entry(index, life).ok_or(Error::BadHandle)?;
    let grant = |to: &Env| caller.hand_over(grant, to);
    transfer::begin(caller.kernel, caller.env, callee, at, badge, waits, grant)
}

#[inline(always)]
pub(super) fn transfer_call(caller: Caller<'_>, entry: Handle, grant: Handle) -> Reply {
    match begin(caller, entry, grant, true) {
        Ok(switch) => Reply::Switch(Leaving::Waits, switch),
        Err(error) => Reply::Done(Err(error)),
    }
}

pub(super) fn transfer_send(caller: Caller<'_>, entry: Handle, grant: Handle) -> Reply {
    match begin(caller, entry, grant, false) {
        Ok(switch) => Reply::Switch(Leaving::Ready, switch),
        Err(error) => Reply::Done(Err(error)),
    }
}

#[inline(always)]
pub(super) fn transfer_reply(caller: Caller<'_>, grant: Handle) -> Reply {
    match transfer::end(caller.kernel, caller.env, |to| caller.hand_over(grant, to)) {
        Ok(End::Reply(switch)) => Reply::Switch(Leaving::Over, switch),
        Ok(End::Quiet) => Reply::Over,
        Err(error) => Reply::Done(Err(error)),
    }
}

#[inline(never)]
pub(super) fn doorbell_create(caller: Caller<'_>) -> Result<u64, Error> {
    caller.own(Kind::Doorbell, 0, 0)
}

#[inline(never)]
pub(super) fn doorbell_ring(caller: Caller<'_>, doorbell: Handle) -> Result<(), Error> {
    let (owner, slot) = caller.object::<Env>(doorbell, Kind::Doorbell, Rights::CALL)?;
    if owner.state() == EnvState::Dying {
        return Err(Error::WrongState);
    }
    env::ring(caller.kernel, owner, slot.object().badge);
    Ok(())
}
