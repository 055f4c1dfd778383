//! Capability tables and the derivation tree: C1 to C5.

use exo_abi::{DERIVATION_DEPTH, FrameKind, Pfn, Rights};

use super::{Outcome, ensure, environments, frames, is_whole, same};
use crate::capability::{BADGE_END, CapRef, Kind, Object, SLOTS_PER_FRAME, Slot};
use crate::env::Env;
use crate::frames::FrameTable;
use crate::kernel::Kernel;

/// Every slot of every table of an environment that is not being taken apart; one that is has
/// no capabilities any more.
fn slots(kernel: &Kernel) -> impl Iterator<Item = (CapRef, &'static Slot)> + '_ {
    let frames_of_tables = frames(kernel).filter(|pfn| {
        let owner = || kernel.frames.owner(*pfn).and_then(|owner| kernel.env(owner));
        kernel.frames.kind(*pfn) == Some(FrameKind::CapTable) && owner().is_some_and(is_whole)
    });
    let places = frames_of_tables
        .flat_map(|pfn| (0..SLOTS_PER_FRAME).map(move |index| CapRef::new(pfn, index)));
    places.filter_map(|place| Some((place, place.get(&kernel.frames)?)))
}

pub(super) fn check(kernel: &Kernel) -> Outcome {
    let frames = &kernel.frames;
    environments(kernel).filter(|env| is_whole(env)).try_for_each(|env| free_list(frames, env))?;
    let (mut live, mut roots) = (0, 0);
    for (place, slot) in slots(kernel) {
        ensure(slot.generation.get() != 0, "C1", "a slot has no generation", place.frame())?;
        if slot.kind() == Kind::Empty {
            let bare = slot.rights() == Rights::NONE && slot.child.get() == CapRef::NONE;
            ensure(bare, "C1", "an empty slot is not empty", place.frame())?;
            ensure(!slot.revoking.get(), "C5", "an empty slot is marked", place.frame())?;
            continue;
        }
        live += 1;
        ensure(!is_too_deep(frames, slot), "C5", "a capability lies too deep", place.frame())?;
        neighbours(frames, place, slot)?;
        match slot.parent.get().get(frames) {
            Some(parent) => below(parent, slot, place.frame())?,
            None => roots += 1,
        }
    }
    let mut reached = 0;
    let is_root = |slot: &Slot| slot.kind() != Kind::Empty && slot.parent.get() == CapRef::NONE;
    for (place, _) in slots(kernel).filter(|(_, slot)| is_root(slot)) {
        reached += size_of_tree(frames, place, live)?;
        roots -= 1;
    }
    same("C2", "a parent is in no table", Pfn(0), (roots, 0))?;
    same("C2", "a capability is its own ancestor", Pfn(0), (reached, live))
}

/// C5: whether it has more ancestors than there may be.
fn is_too_deep(frames: &FrameTable, slot: &'static Slot) -> bool {
    let up = core::iter::successors(Some(slot), |slot| slot.parent.get().get(frames));
    up.take(DERIVATION_DEPTH as usize + 1).count() > DERIVATION_DEPTH as usize
}

/// C1: the free list against the tables.
fn free_list(frames: &FrameTable, env: &Env) -> Outcome {
    let id = Pfn(env.id().0);
    let tables = env.capabilities.tables.iter().take(env.capabilities.frames.get() as usize);
    let places = tables.flat_map(|table| {
        let table = table.get();
        (0..SLOTS_PER_FRAME).map(move |index| CapRef::new(table, index))
    });
    let is_empty = |place: &CapRef| {
        place
            .get(frames)
            .is_some_and(|slot| slot.kind() == Kind::Empty && slot.generation.get() != u32::MAX)
    };
    let empty = places.filter(is_empty).count() as u64;
    let (mut listed, mut place) = (0, env.capabilities.free.get());
    while place != CapRef::NONE {
        let here = place.frame();
        let own = frames.owner(here) == Some(env.id());
        ensure(own && is_empty(&place), "C1", "a free list has a slot that is not free", here)?;
        listed += 1;
        // In a circle there would be more than there are.
        ensure(listed <= empty, "C1", "a free list is longer than what is free", id)?;
        place = place.get(frames).map_or(CapRef::NONE, |slot| slot.next.get());
    }
    same("C1", "free slots are not all in the free list", id, (listed, empty))
}

/// C2: parent, first child and siblings of a live slot.
fn neighbours(frames: &FrameTable, place: CapRef, slot: &Slot) -> Outcome {
    let here = place.frame();
    let live = |place: CapRef| place.get(frames).filter(|slot| slot.kind() != Kind::Empty);
    let linked = |place: CapRef, back: &dyn Fn(&Slot) -> bool| {
        place == CapRef::NONE || live(place).is_some_and(back)
    };
    let parent = slot.parent.get();
    let sibling = |other: &Slot| other.parent.get() == parent;
    let (previous, next) = (slot.previous.get(), slot.next.get());
    if parent == CapRef::NONE {
        let alone = previous == CapRef::NONE && next == CapRef::NONE;
        ensure(alone, "C2", "a capability without parent has siblings", here)?;
    }
    let known = |other: &Slot| previous != CapRef::NONE || other.child.get() == place;
    ensure(linked(parent, &known), "C2", "a parent does not know its child", here)?;
    let before = |other: &Slot| other.next.get() == place && sibling(other);
    ensure(linked(previous, &before), "C2", "the sibling before is none", here)?;
    let behind = |other: &Slot| other.previous.get() == place && sibling(other);
    ensure(linked(next, &behind), "C2", "the sibling behind is none", here)?;
    let first = |other: &Slot| other.parent.get() == place && other.previous.get() == CapRef::NONE;
    ensure(linked(slot.child.get(), &first), "C2", "the first child is none", here)
}

/// C3, C4: what is derived is no more than what it is derived from.
fn below(parent: &Slot, slot: &Slot, here: Pfn) -> Outcome {
    let (above, own) = (parent.object(), slot.object());
    if above.kind != own.kind {
        let pairs = [(Kind::Net, Kind::Binding), (Kind::Disk, Kind::DiskBinding)];
        let fits = pairs.contains(&(above.kind, own.kind));
        return ensure(fits, "C3", "a capability is derived from another kind", here);
    }
    ensure(parent.rights().allows(slot.rights()), "C3", "more rights than the parent", here)?;
    let fits = match own.kind {
        Kind::Frames | Kind::Slots => own.extent > 0 && above.covers(own.first, own.extent),
        Kind::Disk | Kind::Keys => above.covers(own.first, own.extent),
        Kind::Net => above.first == 0 || own.first != 0,
        Kind::Elevation => own.first & !above.first == 0 && own.extent <= above.extent,
        Kind::Entry | Kind::Doorbell => {
            let unmarked = above.badge.is_multiple_of(BADGE_END);
            let marked = unmarked && above.badge / BADGE_END == own.badge / BADGE_END;
            same_object(above, own) && (above.badge == own.badge || marked)
        }
        _ => same_object(above, own),
    };
    ensure(fits, "C4", "a capability for more than its parent is for", here)
}

fn same_object(one: Object, other: Object) -> bool {
    (one.first, one.extent, one.life) == (other.first, other.extent, other.life)
}

/// Goes through the tree under `root`, down, along and up again; it can only come to
/// each slot once, because links agree. At most `most` steps down or along.
fn size_of_tree(frames: &FrameTable, root: CapRef, most: u64) -> Result<u64, super::Broken> {
    let (mut size, mut place) = (1, root);
    let slot = |place: CapRef| place.get(frames);
    loop {
        let child = slot(place).map_or(CapRef::NONE, |slot| slot.child.get());
        if child != CapRef::NONE {
            place = child;
        } else {
            loop {
                let Some(here) = slot(place).filter(|_| place != root) else { return Ok(size) };
                if here.next.get() != CapRef::NONE {
                    place = here.next.get();
                    break;
                }
                place = here.parent.get();
            }
        }
        size += 1;
        ensure(size <= most, "C2", "a tree has more capabilities than there are", root.frame())?;
    }
}
