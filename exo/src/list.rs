//! Doubly linked lists through kernel objects: the links lie in the objects, for which their
//! owners pay, and [`Pfn::NONE`] ends a list. An object may be in several, by different links.

use core::cell::Cell;

use exo_abi::Pfn;

use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// The links of an object in one kind of list: to the one before it, and to the one behind it.
pub type Links<T> = fn(&T) -> (&Cell<Pfn>, &Cell<Pfn>);

/// Puts the object in frame `pfn`, which is in no such list, before all others behind `head`.
pub fn push<T: KernelObject>(frames: &FrameTable, head: &Cell<Pfn>, pfn: Pfn, links: Links<T>) {
    let old = head.replace(pfn);
    if let Some(new) = object::get::<T>(frames, pfn) {
        links(new).1.set(old);
    }
    if let Some(old) = object::get::<T>(frames, old) {
        links(old).0.set(pfn);
    }
}

/// Takes `it` out of the list behind `head`.
pub fn remove<T: KernelObject>(frames: &FrameTable, head: &Cell<Pfn>, it: &T, links: Links<T>) {
    let (previous, next) = links(it);
    let (previous, next) = (previous.replace(Pfn::NONE), next.replace(Pfn::NONE));
    match object::get::<T>(frames, previous) {
        Some(before) => links(before).1.set(next),
        None => head.set(next),
    }
    if let Some(after) = object::get::<T>(frames, next) {
        links(after).0.set(previous);
    }
}
