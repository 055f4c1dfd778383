//! The disk's calls, with rings full of the longest requests: each is of frames that are checked
//! and pinned one by one, and completions come while they are handed over.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    BATCH_MAX, DISK_RING, DiskOperation, DiskRequest, DiskRing, Error, FRAME_BYTES, Handle,
    MAX_SECTORS, Pfn, Protection, SECTOR_BYTES, VirtAddr, Word,
};
use libos::runtime::Environment;
use libos::sys;
use selftest::child::{Maker, until_done};

use super::{Words, batch_of, longest, raw, tell, timed};

/// Where the rings are mapped.
const RINGS: u64 = 0x38_0000_0000;
/// Frames of a buffer that begins at the second sector of its first frame.
const FRAMES: u32 = (MAX_SECTORS as u64 * SECTOR_BYTES / FRAME_BYTES) as u32 + 1;

fn ring(number: u32) -> &'static DiskRing {
    let at = RINGS + u64::from(number) * FRAME_BYTES;
    // SAFETY: `measure` maps as many rings there, and they stay while it runs; all of a ring is
    // atomics.
    unsafe { &*core::ptr::with_exposed_provenance(at as usize) }
}

/// Fills ring `number`, of a binding that is new, with writes to the sectors from `first` on.
fn fill(number: u32, first: u32, buffer: Pfn) {
    let ring = ring(number);
    ring.consumed.0.store(0, Relaxed);
    for index in 0..DISK_RING {
        ring.submit(
            index,
            DiskRequest {
                operation: DiskOperation::Write as u32,
                sectors: MAX_SECTORS,
                first: first.into(),
                buffer: buffer.into_word() * FRAME_BYTES + SECTOR_BYTES,
                tag: index.into(),
            },
        );
    }
}

/// Waits until the device is done with what was put into ring `number`. The most instructions
/// that one look took.
fn drain(number: u32, binding: Handle) -> Result<u64, Error> {
    let (ring, mut most) = (ring(number), 0);
    while ring.completed.0.load(Relaxed) != DISK_RING {
        let (instructions, result) = timed(|| sys::disk_sync(binding));
        most = most.max(instructions);
        result?;
    }
    Ok(most)
}

/// All of it, if there is a disk.
pub(super) fn measure(environment: &Environment, maker: &Maker) -> Result<(), Error> {
    let Some((disk, extent)) = environment.start.disk else { return Ok(()) };
    let frames = maker.frames;
    let rings = frames.take(SELF, BATCH_MAX)?;
    let objects = frames.take(SELF, BATCH_MAX)?;
    let buffer = frames.take(SELF, FRAMES)?;
    let at = VirtAddr::new(RINGS).ok_or(Error::BadAddress)?;
    frames.map((SELF, SELF), rings, at, BATCH_MAX, Protection::ReadWrite)?;
    let bind: Vec<Words> = (0..BATCH_MAX)
        .map(|number| {
            let (ring, object) = (rings.plus(number), objects.plus(number));
            [disk.into_word(), ring.into_word(), object.into_word(), 0, 0, 0]
        })
        .collect();

    let (instructions, bound) = timed(|| raw("disk_bind", bind[0]));
    tell("disk_bind", instructions);
    let bound = Handle::from_word(bound?)?;
    fill(0, extent.first, buffer);
    tell("disk_sync", drain(0, bound)?);
    tell("disk_unbind", longest(|| sys::disk_unbind(objects))?);
    sys::cap_drop(bound)?;

    let (instructions, made) = batch_of("disk_bind", &bind)?;
    tell("batch of disk_bind", instructions);
    let mut bound = Vec::new();
    for word in made.into_iter().flatten() {
        bound.push(Handle::from_word(word)?);
    }
    (0..bound.len() as u32).for_each(|number| fill(number, extent.first, buffer));
    let each: Vec<Words> = bound.iter().map(|bound| [bound.into_word(), 0, 0, 0, 0, 0]).collect();
    tell("batch of disk_sync", batch_of("disk_sync", &each)?.0);
    for (number, binding) in (0..).zip(&bound) {
        drain(number, *binding)?;
    }
    let objects_of = (0..BATCH_MAX).map(|number| objects.plus(number));
    let each: Vec<Words> =
        objects_of.clone().map(|object| [object.into_word(), 0, 0, 0, 0, 0]).collect();
    let (instructions, unbound) = batch_of("disk_unbind", &each)?;
    tell("batch of disk_unbind", instructions);
    // Those that the batch did not come to, or has to be asked for again.
    for (place, object) in objects_of.enumerate().take(bound.len()) {
        if unbound.get(place).copied().flatten().is_none() {
            until_done(|| sys::disk_unbind(object))?;
        }
    }
    for binding in bound {
        sys::cap_drop(binding)?;
    }
    sys::unmap(SELF, at, BATCH_MAX)?;
    frames.give(rings, BATCH_MAX)?;
    frames.give(objects, BATCH_MAX)?;
    frames.give(buffer, FRAMES)
}
