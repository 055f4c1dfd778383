//! Calls on the network interface.

use dpf::{Filter, MAX_WIRE};
use exo_abi::{EnvState, Error, EventCount, Handle, Pfn, Rights, RingOrder, SyncCounts, UserPtr};

use super::caller::{Caller, Reply};
use super::time::wait;
use crate::capability::{CapRef, Kind, Object};
use crate::net::binding::{self, Binding};
use crate::net::{self, filter, ring, scope, transmit};

impl Caller<'_> {
    #[inline]
    fn binding_with(&self, handle: Handle, needed: Rights) -> Result<&'static Binding, Error> {
        self.object(handle, Kind::Binding, needed).map(|(binding, _)| binding)
    }

    fn net_with(&self, handle: Handle, needed: Rights) -> Result<(CapRef, Object), Error> {
        let (place, slot) = self.env.lookup(&self.kernel.frames, handle, needed)?;
        let named = slot.object();
        if named.kind == Kind::Net { Ok((place, named)) } else { Err(Error::BadHandle) }
    }
}

#[inline(never)]
pub(super) fn net_scope(
    caller: Caller<'_>,
    net: Handle,
    keys: UserPtr,
    length: u64,
    object: Pfn,
    code: Pfn,
) -> Result<Result<u64, Pfn>, Error> {
    let kernel = caller.kernel;
    let (place, named) = caller.net_with(net, Rights::GRANT.with(Rights::BIND))?;
    let parent = scope::of(kernel, named).ok_or(Error::BadHandle)?;
    caller.check_room(place)?;
    let mut wire = [0; scope::WIRE_MAX];
    let wire = caller.copy_in(keys, length, &mut wire)?;
    let made = match scope::create(kernel, parent, caller.env, wire, [object, code])? {
        Ok(made) => made,
        Err(sibling) => return Ok(Err(sibling)),
    };
    let named = Object::in_frame(Kind::Net, &kernel.frames, made.frame());
    let rights = Rights::GRANT.with(Rights::BIND);
    caller.put(caller.env, named, rights, place).map(Ok)
}

#[inline(never)]
pub(super) fn net_unscope(caller: Caller<'_>, object: Pfn) -> Result<(), Error> {
    scope::remove_step(caller.kernel, caller.own_object(object)?)
}

#[inline(never)]
pub(super) fn net_bind(
    caller: Caller<'_>,
    net: Handle,
    first: Pfn,
    order: RingOrder,
    object: Pfn,
) -> Result<u64, Error> {
    let (place, named) = caller.net_with(net, Rights::BIND)?;
    let scope = scope::of(caller.kernel, named).ok_or(Error::BadHandle)?;
    caller.check_room(place)?;
    let binding = binding::bind(caller.kernel, caller.env, scope, first, order, object)?;
    let named = Object::in_frame(Kind::Binding, &caller.kernel.frames, binding.frame());
    let rights = Rights::FILTER.with(Rights::SYNC).with(Rights::GRANT);
    // Derived from the network capability: revoking that takes it away.
    caller.put(caller.env, named, rights, place)
}

#[inline(never)]
pub(super) fn net_unbind(caller: Caller<'_>, binding: Handle) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    binding::unbind_step(caller.kernel, net, binding)
}

#[inline(never)]
pub(super) fn filter_install(
    caller: Caller<'_>,
    binding: Handle,
    filter: UserPtr,
    length: u64,
    object: Pfn,
    code: Pfn,
) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    if binding.owner.get() != caller.env.id() {
        return Err(Error::NotOwned);
    }
    let mut wire = [0; MAX_WIRE];
    let wire = caller.copy_in(filter, length, &mut wire)?;
    let filter = Filter::decode(wire).ok_or(Error::BadFilter)?;
    filter::install(caller.kernel, binding, &filter, [object, code])
}

#[inline(never)]
pub(super) fn filter_remove(caller: Caller<'_>, binding: Handle, object: Pfn) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    filter::remove(caller.kernel, binding, object)
}

#[inline]
pub(super) fn net_sync(caller: Caller<'_>, binding: Handle) -> Result<u64, Error> {
    sync(caller, binding).map(|(_, counts)| counts.into_value())
}

pub(super) fn net_wait(
    caller: Caller<'_>,
    binding: Handle,
    seen: EventCount,
    deadline: u64,
) -> Reply {
    match sync(caller, binding) {
        Ok((at, sent)) if ring::has_unsent(at) => Reply::Refused(Error::Again, sent.into_value()),
        Ok(_) => wait(caller, seen, deadline),
        Err(error) => Reply::Done(Err(error)),
    }
}

/// Moves a batch both ways.
#[inline(always)]
fn sync(caller: Caller<'_>, binding: Handle) -> Result<(&'static Binding, SyncCounts), Error> {
    let binding = caller.binding_with(binding, Rights::SYNC)?;
    let owner = binding.owner.get();
    if owner != caller.env.id()
        && caller.kernel.env(owner).is_none_or(|owner| owner.state() == EnvState::Dying)
    {
        return Err(Error::WrongState);
    }
    let net = &mut *caller.kernel.net.borrow_mut();
    let counts = transmit::transmit(caller.kernel, net, binding);
    net::receive(caller.kernel, net);
    Ok((binding, counts))
}
