//! The derivation tree, and how it is pruned in bounded steps.
//!
//! Each capability links to its parent, its first child and its siblings. To
//! take a capability out while keeping what was derived from it (drop), its
//! children move up to its parent one by one. To remove everything below a
//! capability (revoke), the first child is taken out again and again, its own
//! children having moved up first: every descendant is moved at most once and
//! removed once, so the work is linear however deep the tree is, and can stop
//! and go on after any single link. What is being revoked is marked from the first link
//! on, and nothing is derived below a mark: so there is an end to it, whatever other
//! processors do between two calls. A mark is found by going up, which is why a tree is
//! at most [`DEPTH`] deep; moving up makes nothing deeper.

use exo_abi::{DERIVATION_DEPTH as DEPTH, Error};

use super::slot::{CapRef, Slot};
use super::table;
use crate::frames::FrameTable;
use crate::work::Work;

/// What following a link costs, and moving or removing what is there.
const LINK: u32 = 120;

/// Whether a capability may be derived from the one at `parent` (nowhere: from nothing).
///
/// # Errors
/// [`Error::WrongState`] while that or one above it is being revoked, [`Error::TooMuch`]
/// if it is [`DEPTH`] deep.
pub fn check_parent(frames: &FrameTable, parent: CapRef) -> Result<(), Error> {
    let mut above = parent;
    for _ in 0..DEPTH {
        let Some(slot) = above.get(frames) else { return Ok(()) };
        if slot.revoking.get() {
            return Err(Error::WrongState);
        }
        above = slot.parent.get();
    }
    Err(Error::TooMuch)
}

/// The capability made directly from one of the kernel's own, from which that at `place`
/// comes.
pub fn origin(frames: &FrameTable, place: CapRef) -> CapRef {
    let mut origin = place;
    for _ in 0..DEPTH {
        let above = origin.get(frames).map_or(CapRef::NONE, |slot| slot.parent.get());
        if above.get(frames).is_none_or(|slot| slot.parent.get() == CapRef::NONE) {
            break;
        }
        origin = above;
    }
    origin
}

/// Makes the capability at `place` the first child of `parent`.
pub(super) fn adopt(frames: &FrameTable, place: CapRef, slot: &Slot, parent: CapRef) {
    slot.parent.set(parent);
    slot.previous.set(CapRef::NONE);
    slot.next.set(CapRef::NONE);
    if let Some(above) = parent.get(frames) {
        let sibling = above.child.get();
        slot.next.set(sibling);
        if let Some(sibling) = sibling.get(frames) {
            sibling.previous.set(place);
        }
        above.child.set(place);
    }
}

/// Takes the capability out of its siblings.
fn detach(frames: &FrameTable, slot: &Slot) {
    let (previous, next) = (slot.previous.get(), slot.next.get());
    match previous.get(frames) {
        Some(before) => before.next.set(next),
        None => {
            if let Some(above) = slot.parent.get().get(frames) {
                above.child.set(next);
            }
        }
    }
    if let Some(after) = next.get(frames) {
        after.previous.set(previous);
    }
}

/// Moves the first child of `slot` up to `parent`. False if there is none.
fn move_child_up(frames: &FrameTable, slot: &Slot, parent: CapRef) -> bool {
    let place = slot.child.get();
    let Some(child) = place.get(frames) else { return false };
    detach(frames, child);
    adopt(frames, place, child, parent);
    true
}

/// Removes the capability, keeping what was derived from it, as far as there is `work`.
///
/// # Errors
/// [`Error::Again`] while there is more to do.
pub fn drop_step(
    frames: &FrameTable,
    place: CapRef,
    slot: &Slot,
    work: &Work,
) -> Result<(), Error> {
    while work.draw(LINK) {
        if !move_child_up(frames, slot, slot.parent.get()) {
            detach(frames, slot);
            table::release(frames, place, slot);
            return Ok(());
        }
    }
    Err(Error::Again)
}

/// Removes everything derived from the capability, as far as there is `work`. Until it is
/// done nothing can be derived from it any more.
///
/// # Errors
/// [`Error::Again`] while there is more to do.
pub fn revoke_step(
    frames: &FrameTable,
    place: CapRef,
    slot: &Slot,
    work: &Work,
) -> Result<(), Error> {
    slot.revoking.set(true);
    while work.draw(LINK) {
        let child_place = slot.child.get();
        let Some(child) = child_place.get(frames) else {
            slot.revoking.set(false);
            return Ok(());
        };
        if !move_child_up(frames, child, place) {
            detach(frames, child);
            table::release(frames, child_place, child);
        }
    }
    Err(Error::Again)
}
