//! A capability space: donated frames, free slots, look-up.

use core::cell::Cell;

use exo_abi::{Error, FrameKind, Handle, Pfn, Rights};

use super::slot::{CapRef, CapTable, Kind, Object, SLOTS_PER_FRAME, Slot};
use super::tree;
use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// Most frames of a space.
const FRAMES: usize = 64;

/// The capabilities of one holder. An environment's object begins with its own.
#[repr(C)]
pub struct CapSpace {
    /// Frames in `tables`.
    pub(crate) frames: Cell<u32>,
    /// First free slot.
    pub(crate) free: Cell<CapRef>,
    pub(crate) tables: [Cell<Pfn>; FRAMES],
}

// SAFETY: repr(C), zero is a space without a frame, all fields are cells; and it is what a
// frame of that kind begins with (asserted where environments are defined), which
// become environments only through `object::create` for one.
unsafe impl KernelObject for CapSpace {
    const KIND: FrameKind = FrameKind::Env;
}

impl CapSpace {
    /// Whether there is no room for another capability.
    pub fn is_full(&self) -> bool {
        self.free.get() == CapRef::NONE
    }
}

/// Makes `frame` the next 64 slots of `holder`'s table.
///
/// # Errors
/// [`Error::TooMuch`] if the table has its most frames already;
/// [`Error::InUse`] if the frame is not quiet.
pub fn donate(frames: &FrameTable, holder: &CapSpace, frame: Pfn) -> Result<(), Error> {
    let position = holder.frames.get();
    let place = holder.tables.get(position as usize).ok_or(Error::TooMuch)?;
    let table = object::create_at_level::<CapTable>(frames, frame, position as u8);
    let table = table.ok_or(Error::InUse)?;
    place.set(frame);
    holder.frames.set(position + 1);
    // Backwards, so that the free list hands slots out in order.
    for (index, slot) in (0..SLOTS_PER_FRAME).zip(&table.0).rev() {
        slot.generation.set(1);
        slot.next.set(holder.free.get());
        holder.free.set(CapRef::new(frame, index));
    }
    Ok(())
}

/// Puts a capability into the space of `holder`, derived from `parent` (or from
/// nothing). Returns its handle there.
///
/// # Errors
/// [`Error::TableFull`]; [`Error::WrongState`] and [`Error::TooMuch`] as of
/// [`tree::check_parent`].
pub fn insert(
    frames: &FrameTable,
    holder: &CapSpace,
    object: Object,
    rights: Rights,
    parent: CapRef,
) -> Result<Handle, Error> {
    let place = holder.free.get();
    let slot = place.get(frames).ok_or(Error::TableFull)?;
    tree::check_parent(frames, parent)?;
    holder.free.set(slot.next.get());
    slot.object.set(object);
    slot.rights.set(rights);
    tree::adopt(frames, place, slot, parent);
    let position = u32::from(frames.level(place.frame()));
    Ok(Handle::new(position * SLOTS_PER_FRAME + place.index(), slot.generation.get()))
}

/// Empties a slot that is in no tree any more, and returns it to its owner.
pub(super) fn release(frames: &FrameTable, place: CapRef, slot: &Slot) {
    slot.object.set(Object::only(Kind::Empty));
    slot.rights.set(Rights::NONE);
    slot.revoking.set(false);
    // After the last generation the slot is never used again: no handle comes true.
    let generation = slot.generation.get().saturating_add(1);
    slot.generation.set(generation);
    if generation == u32::MAX {
        return;
    }
    let owner = frames.owner(place.frame()).map_or(Pfn(0), |owner| Pfn(owner.0));
    if let Some(holder) = object::get::<CapSpace>(frames, owner) {
        slot.next.set(holder.free.get());
        holder.free.set(place);
    }
}

/// The slot at `index` of `holder`'s table, whatever it holds.
#[inline]
pub fn table_slot(
    frames: &FrameTable,
    holder: &CapSpace,
    index: u32,
) -> Option<(CapRef, &'static Slot)> {
    // Where no frame was donated it is frame 0, which is no table.
    let frame = holder.tables.get((index / SLOTS_PER_FRAME) as usize)?.get();
    let place = CapRef::new(frame, index);
    Some((place, place.get(frames)?))
}

/// The slot behind a handle of `holder`, live or stale.
///
/// # Errors
/// [`Error::BadHandle`].
#[inline]
pub fn occupied(
    frames: &FrameTable,
    holder: &CapSpace,
    handle: Handle,
) -> Result<(CapRef, &'static Slot), Error> {
    let (place, slot) = table_slot(frames, holder, handle.index()).ok_or(Error::BadHandle)?;
    if slot.is_empty() || slot.generation.get() != handle.generation() {
        return Err(Error::BadHandle);
    }
    Ok((place, slot))
}
