//! Calls on the network interface.

use dpf::{Filter, MAX_WIRE};
use exo_abi::{Error, Handle, Pfn, Rights, RingOrder, UserPtr, Word};

use super::Caller;
use crate::capability::{self, CapRef, Kind, Object, Progress};
use crate::net::binding::{self, Binding};
use crate::net::{self, filter, transmit};
use crate::object;
use crate::user::UserSlice;

impl Caller<'_> {
    #[inline]
    fn binding_with(&self, handle: Handle, needed: Rights) -> Result<&'static Binding, Error> {
        let frames = &self.kernel.frames;
        let (_, slot) = capability::lookup(frames, self.env, handle, needed)?;
        let named = slot.object();
        if named.kind != Kind::Binding {
            return Err(Error::BadHandle);
        }
        object::get(frames, Pfn(named.first)).ok_or(Error::BadHandle)
    }
}

pub(super) fn net_bind(
    caller: Caller<'_>,
    net: Handle,
    first: Pfn,
    order: RingOrder,
    object: Pfn,
) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, slot) = capability::lookup(frames, caller.env, net, Rights::BIND)?;
    if slot.object().kind != Kind::Net {
        return Err(Error::BadHandle);
    }
    if caller.env.cap_free.get() == CapRef::NONE {
        return Err(Error::TableFull);
    }
    let binding = binding::bind(caller.kernel, caller.env, first, order, object)?;
    let named = Object::in_frame(Kind::Binding, frames, binding.frame());
    let rights = Rights::FILTER.with(Rights::SYNC).with(Rights::GRANT);
    // Derived from the network capability: revoking that takes it away.
    capability::insert(frames, caller.env, named, rights, place).map(Word::into_word)
}

pub(super) fn net_unbind(caller: Caller<'_>, binding: Handle) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    match binding::unbind_step(caller.kernel, net, binding)? {
        Progress::Done => Ok(()),
        Progress::Again => Err(Error::Again),
    }
}

pub(super) fn filter_install(
    caller: Caller<'_>,
    binding: Handle,
    filter: UserPtr,
    length: u64,
    object: Pfn,
) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let mut wire = [0; MAX_WIRE];
    let length = usize::try_from(length).map_err(|_| Error::TooMuch)?;
    let wire = wire.get_mut(..length).ok_or(Error::TooMuch)?;
    UserSlice::new(caller.env.root_table.get(), filter, length)
        .copy_in(&caller.kernel.frames, wire)?;
    let filter = Filter::decode(wire).map_err(|_| Error::BadFilter)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    filter::install(caller.kernel, net, binding, &filter, object)
}

pub(super) fn filter_remove(caller: Caller<'_>, binding: Handle, object: Pfn) -> Result<(), Error> {
    let binding = caller.binding_with(binding, Rights::FILTER)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    filter::remove(caller.kernel, net, binding, object)
}

#[inline]
pub(super) fn net_sync(caller: Caller<'_>, binding: Handle) -> Result<u64, Error> {
    let binding = caller.binding_with(binding, Rights::SYNC)?;
    let net = &mut *caller.kernel.net.borrow_mut();
    let counts = transmit::transmit(caller.kernel, net, binding);
    net::receive(caller.kernel, net);
    Ok(counts.into_value())
}
