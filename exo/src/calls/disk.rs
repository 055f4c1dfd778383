//! Calls on the disk.

use exo_abi::{Error, Handle, Pfn, Rights, Word};

use super::caller::Caller;
use crate::capability::{self, Kind, Object};
use crate::disk::binding;
use crate::disk::submit;

#[inline(never)]
pub(super) fn disk_bind(
    caller: Caller<'_>,
    disk: Handle,
    ring: Pfn,
    object: Pfn,
) -> Result<u64, Error> {
    let frames = &caller.kernel.frames;
    let (place, slot) = caller.env.lookup(frames, disk, Rights::NONE)?;
    let extent = slot.object();
    if extent.kind != Kind::Disk {
        return Err(Error::BadHandle);
    }
    caller.check_room(place)?;
    let binding = binding::bind(caller.kernel, caller.env, (place, extent), ring, object)?;
    let named = Object::in_frame(Kind::DiskBinding, frames, binding.frame());
    // Derived from the extent: revoking that takes it away. Without the right to grant it, there
    // is no other that could be used meanwhile.
    let rights = slot.rights().only(Rights::READ.with(Rights::WRITE)).with(Rights::SYNC);
    let handle = capability::insert(frames, &caller.env.capabilities, named, rights, place)?;
    if let Ok((place, _)) = capability::occupied(frames, &caller.env.capabilities, handle) {
        binding.set_capability(place);
    }
    Ok(handle.into_word())
}

#[inline(never)]
pub(super) fn disk_unbind(caller: Caller<'_>, object: Pfn) -> Result<(), Error> {
    binding::unbind(caller.kernel, caller.own_object(object)?)
}

#[inline(never)]
pub(super) fn disk_sync(caller: Caller<'_>, binding: Handle) -> Result<u64, Error> {
    let (binding, slot) = caller.object(binding, Kind::DiskBinding, Rights::SYNC)?;
    let disk = &mut *caller.kernel.disk.borrow_mut();
    Ok(submit::sync(caller.kernel, disk, binding, slot.rights()).into())
}
