//! Disk bindings, and the requests that are with the disk: O9.

use exo_abi::{FrameKind, Pfn};

use super::tally::Tally;
use super::{Outcome, ensure, frames, links, same};
use crate::disk::binding::Binding;
use crate::disk::device::Device;
use crate::env::Env;
use crate::kernel::Kernel;
use crate::object;

/// The disk bindings of `env`.
pub(super) fn bindings(kernel: &Kernel, env: &Env, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    links::each::<Binding>(
        frames,
        "O9",
        env.disk_bindings.get(),
        |binding| (&binding.previous, &binding.next),
        |pfn, binding| {
            tally.of(pfn).named += 1;
            let own = binding.owner.get() == env.id() && frames.owner(pfn) == Some(env.id());
            ensure(own, "O9", "a disk binding is in another's list", pfn)?;
            ensure(binding.frame() == pfn, "O9", "a disk binding takes itself for another", pfn)?;
            let ring = binding.ring.get();
            let fits = frames.is_memory_of(ring, env.id());
            ensure(fits, "O9", "a disk binding's ring is not its owner's memory", ring)
        },
    )
}

/// What the bindings count against what the device has.
pub(super) fn device(kernel: &Kernel) -> Outcome {
    let disk = kernel.disk.borrow();
    let flights = || disk.iter().flat_map(Device::flights);
    for flight in flights() {
        let binding: Option<&Binding> = object::get(&kernel.frames, flight.binding);
        let Some(binding) = binding else {
            return ensure(false, "O9", "a request is of no binding", flight.binding);
        };
        let (first, count) = binding.extent.get();
        let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
        let sectors = &flight.sectors;
        let within = sectors.is_empty() || sectors.start >= first && sectors.end <= end;
        ensure(within, "O9", "a request is for sectors of others", flight.binding)?;
        for pfn in flight.frames() {
            let fits = kernel.frames.is_memory_of(pfn, binding.owner.get());
            ensure(fits, "O9", "the disk uses what is not its binding's memory", pfn)?;
        }
    }
    for pfn in frames(kernel) {
        let Some(binding) = object::get::<Binding>(&kernel.frames, pfn) else { continue };
        let mine = flights().filter(|flight| flight.binding == pfn).count() as u64;
        let counts = (u64::from(binding.flying.get()), mine);
        same("O9", "requests that are with the disk are miscounted", pfn, counts)?;
    }
    Ok(())
}

/// Frames that are pinned for the disk: rings, and what requests name, once for each.
pub(super) fn pinned(kernel: &Kernel, mut each: impl FnMut(Pfn)) {
    for pfn in frames(kernel) {
        if kernel.frames.kind(pfn) == Some(FrameKind::DiskBinding)
            && let Some(binding) = object::get::<Binding>(&kernel.frames, pfn)
        {
            each(binding.ring.get());
        }
    }
    let disk = kernel.disk.borrow();
    disk.iter().flat_map(Device::flights).for_each(|flight| {
        flight.frames().for_each(&mut each);
    });
}
