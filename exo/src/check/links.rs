//! Lists of kernel objects, linked both ways, that end with frame 0.

use core::cell::Cell;

use exo_abi::Pfn;

use super::{Outcome, ensure};
use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// Visits each member of the list that begins with `first`. The visitor says what its
/// links are, previous and next.
pub(super) fn each<T: KernelObject>(
    frames: &FrameTable,
    name: &'static str,
    first: Pfn,
    links: impl Fn(&T) -> (&Cell<Pfn>, &Cell<Pfn>),
    mut visit: impl FnMut(Pfn, &'static T) -> Outcome,
) -> Outcome {
    let (mut before, mut here) = (Pfn(0), first);
    let mut left = frames.count();
    while here != Pfn(0) {
        let Some(member) = object::get::<T>(frames, here) else {
            return ensure(false, name, "a list names a frame of another kind", here);
        };
        let (previous, next) = links(member);
        ensure(previous.get() == before, name, "a list is linked one way only", here)?;
        ensure(left > 0, name, "a list has no end", here)?;
        visit(here, member)?;
        left -= 1;
        before = here;
        here = next.get();
    }
    Ok(())
}
