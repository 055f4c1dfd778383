//! What an environment asks for is checked, then handed to the device.
//!
//! A request is read once, into kernel memory, and checked there: it must lie within the
//! binding's extent and be one that the capability's rights allow, and its buffer in memory of
//! the owner. Its frames are pinned until the device is done, so that they are neither freed nor
//! become anything else. What fails is given back with the reason, as a completion.

use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Release};

use exo_abi::{
    DISK_RING, DiskCompletion, DiskOperation, DiskRequest, Error, FRAME_BYTES, MAX_SECTORS, Rights,
    SECTOR_BYTES,
};

use super::binding::Binding;
use super::device::{Device, Flight};
use super::reclaim;
use crate::kernel::Kernel;
use crate::state::State;

/// What a request costs, and looking at the requests that are with the device.
const REQUEST: u32 = 500;
const LOOK: u32 = 400;
/// What it costs to check and pin a frame.
const PIN: u32 = 30;

/// Takes what the ring holds, as far as the device has room. Returns how many.
pub fn sync(kernel: &Kernel, disk: &mut Option<Device>, binding: &Binding, rights: Rights) -> u32 {
    reclaim(kernel, disk);
    let Some(device) = disk else { return 0 };
    let (shared, work, first) = (binding.ring(), &kernel.here().work, binding.taken.get());
    // More than the ring holds is a lie.
    let waiting = shared.submitted.0.load(Acquire).wrapping_sub(first).min(DISK_RING);
    let waiting = waiting.min(binding.room());
    if waiting == 0 {
        return 0;
    }
    work.spend(LOOK);
    let (mut free, mut held) = device.room(binding.account.get());
    let (mut taken, mut sent) = (0, 0);
    while taken < waiting && held < free && work.draw(REQUEST) {
        let request = shared.request(first.wrapping_add(taken));
        taken += 1;
        match hand_over(kernel, device, binding, rights, request) {
            Ok(()) => (free, held, sent) = (free - 1, held + 1, sent + 1),
            Err(error) => {
                binding.complete(DiskCompletion { tag: request.tag, result: Err(error) });
            }
        }
    }
    binding.taken.set(first.wrapping_add(taken));
    shared.taken.0.store(binding.taken.get(), Release);
    State::count(&kernel.info.disk_requests, sent);
    device.kick(kernel.info);
    taken
}

/// Checks `request` and hands it to the device, which has room.
fn hand_over(
    kernel: &Kernel,
    device: &mut Device,
    binding: &Binding,
    rights: Rights,
    request: DiskRequest,
) -> Result<(), Error> {
    let operation = DiskOperation::from_u32(request.operation).ok_or(Error::BadArgument)?;
    let reads = operation == DiskOperation::Read;
    if !rights.allows(if reads { Rights::READ } else { Rights::WRITE }) {
        return Err(Error::NoRight);
    }
    if !device.offers(operation) {
        return Err(Error::BadArgument);
    }
    let mut flight = Flight {
        binding: binding.frame(),
        account: binding.account.get(),
        tag: request.tag,
        sectors: 0..0,
        frames: 0..0,
        fills: 0,
    };
    if operation != DiskOperation::Flush {
        flight.sectors = sectors(binding, &request)?;
    }
    if reads || operation == DiskOperation::Write {
        if request.sectors > MAX_SECTORS || !request.buffer.is_multiple_of(SECTOR_BYTES) {
            return Err(Error::BadArgument);
        }
        let bytes = request.sectors * SECTOR_BYTES as u32;
        flight.fills = if reads { bytes } else { 0 };
        pin(kernel, binding, request.buffer, bytes, &mut flight)?;
    }
    binding.flying.set(binding.flying.get() + 1);
    // There was room, of which `sync` keeps the count.
    device.send(operation, request.buffer, flight);
    Ok(())
}

/// The sectors that `request` names, which must be some of the binding's extent.
fn sectors(binding: &Binding, request: &DiskRequest) -> Result<Range<u64>, Error> {
    let (first, count) = binding.extent.get();
    let end = request.first.checked_add(request.sectors.into()).ok_or(Error::OutOfRange)?;
    if request.first < first.into() || end > u64::from(first) + u64::from(count) {
        return Err(Error::OutOfRange);
    }
    if request.sectors == 0 { Err(Error::BadArgument) } else { Ok(request.first..end) }
}

/// Pins the frames of the `bytes` from `buffer` on, which must be memory of the binding's owner,
/// and notes them in `flight`.
fn pin(
    kernel: &Kernel,
    binding: &Binding,
    buffer: u64,
    bytes: u32,
    flight: &mut Flight,
) -> Result<(), Error> {
    let number = |address: u64| u32::try_from(address / FRAME_BYTES).map_err(|_| Error::NotOwned);
    let last = buffer.checked_add(u64::from(bytes) - 1).ok_or(Error::NotOwned)?;
    flight.frames = number(buffer)?..number(last)?.saturating_add(1);
    let (first, count) = flight.run();
    kernel.here().work.spend(PIN * count);
    kernel.frames.pin_run(first, count, binding.owner.get())
}
