//! The disk, multiplexed by extents.
//!
//! The kernel owns the device; environments own extents, ranges of sectors that capabilities
//! name and that are derived narrower like ranges of frames. A binding ([`binding`]) is a ring
//! of requests in its owner's frame. Each request is checked against the extent that the binding
//! was made with ([`submit`]) and handed to the one queue of the device ([`device`]), which reads
//! and writes the owner's frames where they lie; these are pinned meanwhile. What lies where on
//! the disk, which environment had it before, and what it was called is the first environment's
//! affair.

pub mod binding;
pub mod device;
pub mod submit;

use exo_abi::{DiskCompletion, Error};

use crate::capability::{Kind, Object};
use crate::env::{self, Env};
use crate::kernel::Kernel;
use crate::object;
use binding::Binding;
use device::Device;

/// What it costs to tell an owner of a completion, and to unpin a frame.
const DONE: u32 = 250;
const UNPIN: u32 = 10;

/// Tells the owners of what the device is done with, as far as the entry has work left.
#[inline]
pub fn reclaim(kernel: &Kernel, disk: &mut Option<Device>) {
    if let Some(device) = disk.as_mut().filter(|device| device.has_done()) {
        take_back(kernel, device);
    }
}

#[inline(never)]
fn take_back(kernel: &Kernel, device: &mut Device) {
    while !kernel.here().work.is_spent()
        && let Some((flight, result)) = device.next_done()
    {
        let (first, count) = flight.run();
        kernel.here().work.spend(DONE + UNPIN * count);
        kernel.frames.unpin_run(first, count);
        // A binding with requests in flight stays, and so does its owner.
        if let Some(binding) = object::get::<Binding>(&kernel.frames, flight.binding) {
            binding.flying.set(binding.flying.get() - 1);
            binding.complete(DiskCompletion { tag: flight.tag, result });
            if let Some(owner) = kernel.env(binding.owner.get()) {
                env::notify(kernel, owner);
            }
        }
    }
}

/// Before the processor halts: asks for an interrupt when a request is done. True if one is.
pub fn arm(kernel: &Kernel, disk: &mut Option<Device>) -> bool {
    disk.as_mut().is_some_and(|device| device.arm(kernel.info))
}

/// After it was woken: no more interrupts.
pub fn disarm(disk: &mut Option<Device>) {
    disk.iter_mut().for_each(Device::disarm);
}

/// Now and then: tells the device what it asked for just as the kernel looked away, and looks
/// at what it has done.
pub fn remind(kernel: &Kernel, disk: &mut Option<Device>) {
    disk.iter_mut().for_each(|device| device.kick(kernel.info));
    reclaim(kernel, disk);
}

/// Dissolves the first of `env`'s disk bindings.
///
/// # Errors
/// [`Error::Again`] unless there was none; [`Error::InUse`] while the device has requests of it.
pub fn unbind_first(kernel: &Kernel, env: &Env) -> Result<(), Error> {
    let first = object::get::<Binding>(&kernel.frames, env.disk_bindings.get());
    let Some(first) = first else { return Ok(()) };
    binding::unbind(kernel, first)?;
    Err(Error::Again)
}

/// Whether the device is done with everything that bindings asked for of the sectors that
/// `revoked` names, if it names sectors, and that no capability is left for.
///
/// # Errors
/// [`Error::InUse`] while it is not.
pub fn check_drained(kernel: &Kernel, revoked: Object) -> Result<(), Error> {
    if revoked.kind != Kind::Disk {
        return Ok(());
    }
    let disk = &mut *kernel.disk.borrow_mut();
    reclaim(kernel, disk);
    let mut flights = disk.iter().flat_map(Device::flights);
    let left = flights.any(|flight| {
        let binding = object::get::<Binding>(&kernel.frames, flight.binding);
        flight.sectors.start < u64::from(revoked.first) + u64::from(revoked.extent)
            && flight.sectors.end > u64::from(revoked.first)
            && !binding.is_some_and(|binding| binding.has_capability(kernel))
    });
    if left { Err(Error::InUse) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
