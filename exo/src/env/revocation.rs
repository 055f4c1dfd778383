//! Visible revocation: asking an environment for frames, and taking one from it.
//!
//! After Aegis (SOSP'95, 3.4 and 3.5). Asking is words in the U-area and an upcall: which frame
//! it can best do without only the environment knows. The abort protocol breaks every mapping of
//! a frame, frees it, and says so in the repossession vector. When it is time for that, and which
//! frame goes first, is for the environment in control to decide (`libos::revocation`): it
//! could as well destroy the other.
//!
//! There is no list of the mappings of a frame, so they are found by going through page tables,
//! in each call as far as its work allows.

use core::sync::atomic::Ordering::{Relaxed, Release};

use exo_abi::{Error, Pages, Pfn, REPOSSESSED, Upcall};

use super::events;
use crate::paging;
use crate::state::State;
use crate::state::env::Env;
use crate::work::Work;

/// What looking at an entry of the frame table costs.
const LOOK: u32 = 24;
/// What making processors forget an address space costs.
const SHOOTDOWN: u32 = 500;

/// Asks `env` for frames and slots until `deadline`.
pub fn request(kernel: &State, env: &Env, frames: Pages, slots: u32, deadline: u64) {
    if let Some(area) = env.area() {
        area.revocation.frames.store(frames, Relaxed);
        area.revocation.slots.store(slots, Relaxed);
        area.revocation.deadline.store(deadline, Relaxed);
        let wanted = area.upcall.wanted.load(Relaxed) & Upcall::Revoke as u32;
        env.pending.set(env.pending.get() | wanted);
    }
    events::notify(kernel, env);
}

/// Goes on taking `frame`, plain memory of `env`, until no environment maps it any more: then it is
/// free. One that is being taken already comes first.
///
/// # Errors
/// [`Error::NotOwned`], [`Error::InUse`] if a device or kernel object uses it, [`Error::Again`].
pub fn enforce(kernel: &State, env: &Env, frame: Pfn, work: &Work) -> Result<(), Error> {
    let (taking, frames) = (&env.taking, &kernel.frames);
    let (mut victim, mut cursor) = taking.get();
    if victim == Pfn(0) {
        if !frames.is_memory_of(frame, env.id()) {
            return Err(Error::NotOwned);
        }
        if frames.is_pinned(frame) {
            return Err(Error::InUse);
        }
        (victim, cursor) = (frame, 0);
        // From here on no environment can map it, give it away or have it back.
        frames.revoke(victim);
    }
    while frames.mappings(victim) != 0 {
        let table = Pfn(cursor);
        if !work.draw(LOOK) {
            taking.set((victim, cursor));
            return Err(Error::Again);
        }
        let broken = paging::break_mappings(frames, table, victim, work);
        if broken != Ok(false)
            && let Some(space) = frames.owner(table)
        {
            work.spend(SHOOTDOWN);
            kernel.forget(space);
        }
        if broken.is_err() {
            taking.set((victim, cursor));
            return Err(Error::Again);
        }
        // Mappings can be in tables made meanwhile only if the frame was still to be
        // had: going round again finds the rest.
        let next = table.0 + 1;
        cursor = if next < frames.count() { next } else { 0 };
    }
    taking.set((Pfn(0), 0));
    frames.release(victim);
    if let Some(area) = env.area() {
        let words = &area.revocation;
        let count = words.count.load(Relaxed);
        if let Some(place) = words.repossessed.get(count as usize % REPOSSESSED) {
            place.store(victim.0, Relaxed);
        }
        words.count.store(count.wrapping_add(1), Release);
    }
    events::notify(kernel, env);
    if victim == frame { Ok(()) } else { Err(Error::Again) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use exo_abi::{Error, FrameKind, Pfn};

    use crate::paging;
    use crate::testing::{ALL_FRAMES, OWN, call, child, machine, page, root_of, tables};

    const AT: u64 = 0x40_0000;

    /// Runs to completion.
    fn enforce(
        kernel: &crate::kernel::Kernel,
        root: &'static crate::env::Env,
        handle: u64,
        frame: u64,
    ) -> Result<u64, Error> {
        loop {
            match call(kernel, root, "revoke_enforce", &[handle, frame]) {
                Err(Error::Again) => {}
                result => return result,
            }
        }
    }

    #[test]
    fn what_is_taken_is_free_unmapped_and_told_and_nothing_more() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 10]).expect("free");
        call(kernel, root, "map", &[handle, handle, 620, AT, 10, 1]).expect("mappable");
        call(kernel, root, "revoke_request", &[handle, 3, 2, 5]).expect("in control");
        let words = &env.area().expect("a U-area").revocation;
        let asked = (words.frames.load(Relaxed), words.slots.load(Relaxed));
        assert_eq!((asked, words.deadline.load(Relaxed)), ((3, 2), 5));
        for taken in [627, 620] {
            assert_eq!(enforce(kernel, root, handle, taken), Ok(0));
            assert_eq!(enforce(kernel, root, handle, taken), Err(Error::NotOwned), "it is free");
        }
        assert_eq!(words.count.load(Relaxed), 2);
        let taken: Vec<_> = words.repossessed[..2].iter().map(|word| word.load(Relaxed)).collect();
        assert_eq!(taken, [627, 620]);
        for (offset, there) in [(0, false), (1, true), (7, false), (8, true), (9, true)] {
            let found =
                paging::translate(&kernel.frames, env.root_table.get(), page(0x400 + offset), true);
            assert_eq!(found.is_some(), there, "page {offset}");
            let kind = if there { FrameKind::Memory } else { FrameKind::Free };
            assert_eq!(kernel.frames.kind(Pfn(620 + offset as u32)), Some(kind));
        }
        let table = root_of(kernel, env);
        assert!(!core::ptr::eq(table, root_of(kernel, root)));
        assert_eq!(kernel.frames.mappings(Pfn(612)), 8, "entries of the page table");
    }

    #[test]
    fn only_plain_memory_of_the_environment_is_taken() {
        let (kernel, root) = machine();
        let (_, handle) = child(kernel, root, 600);
        let (_, other) = child(kernel, root, 700);
        call(kernel, root, "frames_take", &[ALL_FRAMES, other, 720, 1]).expect("free");
        // Its object, tables and U-area; another's, root's, the kernel's, a free one, none.
        for frame in [600, 601, 602, 603, 720, 512, 8, 1000, 1 << 31] {
            assert_eq!(enforce(kernel, root, handle, frame), Err(Error::NotOwned), "{frame}");
        }
    }

    #[test]
    fn what_is_used_stays_and_what_others_map_goes() {
        let (kernel, root) = machine();
        let (_, handle) = child(kernel, root, 600);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
        kernel.frames.pin(Pfn(620)).expect("room");
        tables(kernel, root, OWN, 0x80_0000, 700);
        call(kernel, root, "map", &[OWN, handle, 621, 0x80_0000, 1, 1]).expect("mappable");
        assert_eq!(enforce(kernel, root, handle, 621), Ok(0));
        assert_eq!(kernel.frames.mappings(Pfn(702)), 0, "root's mapping");
        assert_eq!(enforce(kernel, root, handle, 620), Err(Error::InUse));
        kernel.frames.unpin(Pfn(620));
        assert_eq!(enforce(kernel, root, handle, 620), Ok(0));
    }

    #[test]
    fn a_frame_on_its_way_out_cannot_be_mapped_or_freed_and_comes_first() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 2040, 2]).expect("free");
        // Mapped in a table far behind: taking it needs several steps.
        tables(kernel, root, OWN, 0x80_0000, 2042);
        call(kernel, root, "map", &[OWN, handle, 2040, 0x80_0000, 1, 1]).expect("mappable");
        for number in 1..40 {
            tables(kernel, root, OWN, u64::from(number) << 39, 1000 + 3 * number);
        }
        assert_eq!(call(kernel, root, "revoke_enforce", &[handle, 2040]), Err(Error::Again));
        assert_eq!(kernel.frames.kind(Pfn(2040)), Some(FrameKind::Revoked));
        let map = call(kernel, root, "map", &[handle, handle, 2040, AT, 1, 1]);
        assert_eq!(map, Err(Error::NotOwned));
        assert_eq!(call(kernel, env, "frames_free", &[2040, 1]), Err(Error::NotOwned));
        // Whichever is asked for, both go, in this order.
        assert_eq!(enforce(kernel, root, handle, 2041), Ok(0));
        let words = &env.area().expect("a U-area").revocation;
        let taken: Vec<_> = words.repossessed[..2].iter().map(|word| word.load(Relaxed)).collect();
        assert_eq!(taken, [2040, 2041]);
    }
}
