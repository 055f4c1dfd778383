//! The derivation tree, and how it is pruned in bounded steps.
//!
//! Each capability links to its parent, its first child and its siblings. To
//! take a capability out while keeping what was derived from it (drop), its
//! children move up to its parent one by one. To remove everything below a
//! capability (revoke), the first child is taken out again and again, its own
//! children having moved up first: every descendant is moved at most once and
//! removed once, so the work is linear however deep the tree is, and can stop
//! and go on after any single link.

use super::slot::{CapRef, Slot};
use super::table;
use crate::frames::FrameTable;

/// Links followed in one call, to bound its time.
const STEPS: u32 = 64;

/// Whether a bounded operation has finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It has.
    Done,
    /// There is more to do.
    Again,
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

/// Removes the capability, keeping what was derived from it, as far as one
/// call may go.
pub fn drop_step(frames: &FrameTable, place: CapRef, slot: &Slot) -> Progress {
    for _ in 0..STEPS {
        if !move_child_up(frames, slot, slot.parent.get()) {
            detach(frames, slot);
            table::release(frames, place, slot);
            return Progress::Done;
        }
    }
    Progress::Again
}

/// Removes everything derived from the capability, as far as one call may go.
pub fn revoke_step(frames: &FrameTable, place: CapRef, slot: &Slot) -> Progress {
    for _ in 0..STEPS {
        let child_place = slot.child.get();
        let Some(child) = child_place.get(frames) else { return Progress::Done };
        if !move_child_up(frames, child, place) {
            detach(frames, child);
            table::release(frames, child_place, child);
        }
    }
    Progress::Again
}
