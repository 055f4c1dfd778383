//! Calls on the network interface.

use dpf::{Filter, MAX_WIRE};
use exo_abi::{EnvState, Error, FrameKind, Handle, Pfn, Rights, RingOrder, UserPtr, Word};

use super::Caller;
use crate::capability::{self, CapRef, Kind, Object, Progress};
use crate::net::binding::{self, Binding};
use crate::net::{self, filter, scope, transmit};
use crate::user::UserSlice;

impl Caller<'_> {
    #[inline]
    fn binding_with(&self, handle: Handle, needed: Rights) -> Result<&'static Binding, Error> {
        self.object(handle, Kind::Binding, needed).map(|(binding, _)| binding)
    }

    fn net_with(&self, handle: Handle, needed: Rights) -> Result<(CapRef, Object), Error> {
        let (place, slot) = capability::lookup(&self.kernel.frames, self.env, handle, needed)?;
        let named = slot.object();
        if named.kind == Kind::Net { Ok((place, named)) } else { Err(Error::BadHandle) }
    }
}

#[inline(never)]
pub(super) fn net_scope(
    caller: Caller<'_>,
    net: Handle,
    filters: UserPtr,
    length: u64,
    object: Pfn,
) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, named) = caller.net_with(net, Rights::GRANT.with(Rights::BIND))?;
    caller.check_room(place)?;
    frames.check_donation(object, caller.env.id())?;
    let mut wire = [0; scope::WIRE_MAX];
    let wire = caller.copy_in(filters, length, &mut wire)?;
    scope::create(frames, named, wire, object)?;
    let narrowed = Object::in_frame(Kind::Net, frames, object);
    let rights = Rights::GRANT.with(Rights::BIND);
    capability::insert(frames, caller.env, narrowed, rights, place).map(Word::into_word)
}

#[inline(never)]
pub(super) fn net_unscope(caller: Caller<'_>, object: Pfn) -> Result<(), Error> {
    let frames = &caller.kernel.frames;
    if frames.kind(object) != Some(FrameKind::Scope)
        || frames.owner(object) != Some(caller.env.id())
    {
        return Err(Error::NotOwned);
    }
    frames.retire(object);
    Ok(())
}

#[inline(never)]
pub(super) fn net_bind(
    caller: Caller<'_>,
    net: Handle,
    first: Pfn,
    order: RingOrder,
    object: Pfn,
) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, scope) = caller.net_with(net, Rights::BIND)?;
    caller.check_room(place)?;
    let binding = binding::bind(caller.kernel, caller.env, scope, first, order, object)?;
    let named = Object::in_frame(Kind::Binding, frames, binding.frame());
    let rights = Rights::FILTER.with(Rights::SYNC).with(Rights::GRANT);
    // Derived from the network capability: revoking that takes it away.
    capability::insert(frames, caller.env, named, rights, place).map(Word::into_word)
}

#[inline(never)]
pub(super) fn net_unbind(caller: Caller<'_>, binding: Handle) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    match binding::unbind_step(caller.kernel, net, binding)? {
        Progress::Done => Ok(()),
        Progress::Again => Err(Error::Again),
    }
}

#[inline(never)]
pub(super) fn filter_install(
    caller: Caller<'_>,
    binding: Handle,
    filter: UserPtr,
    length: u64,
    object: Pfn,
    code: Pfn,
    shadows: Handle,
) -> Result<Option<Pfn>, Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let shadowed = match shadows {
        Handle::NONE => None,
        shadows => Some(caller.binding_with(shadows, Rights::FILTER)?.frame()),
    };
    if binding.owner.get() != caller.env.id() {
        return Err(Error::NotOwned);
    }
    let mut wire = [0; MAX_WIRE];
    let wire = caller.copy_in(filter, length, &mut wire)?;
    let filter = Filter::decode(wire).map_err(|_| Error::BadFilter)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    filter::install(caller.kernel, net, binding, &filter, [object, code], shadowed)
}

#[inline(never)]
pub(super) fn filter_remove(caller: Caller<'_>, binding: Handle, object: Pfn) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    filter::remove(caller.kernel, net, binding, object)
}

#[inline(never)]
pub(super) fn filter_read(
    caller: Caller<'_>,
    binding: Handle,
    object: Pfn,
    to: UserPtr,
    length: u64,
) -> Result<u64, Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let filter = filter::visible(caller.kernel, binding, object)?;
    let mut wire = [0; MAX_WIRE];
    let whole = filter.canonical().encode(&mut wire).ok_or(Error::TooMuch)?;
    let part = wire.get(..whole.min(length as usize)).unwrap_or_default();
    let root = caller.env.root_table.get();
    UserSlice::new(root, to).copy_out(&caller.kernel.frames, part)?;
    Ok(whole as u64)
}

#[inline]
pub(super) fn net_sync(caller: Caller<'_>, binding: Handle) -> Result<u64, Error> {
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
    Ok(counts.into_value())
}
