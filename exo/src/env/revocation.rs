//! Visible revocation: asking an environment for frames, and taking them if it does
//! not give any.
//!
//! After Aegis (SOSP'95, 3.4 and 3.5). Asking is a word in the U-area and an upcall:
//! which frame it can best do without only the environment knows. The abort protocol
//! follows when the deadline has passed: the kernel takes a frame, breaks every
//! mapping of it, and says so in the repossession vector. There is no list of the mappings of
//! a frame, so they are found by going through page tables, in each call as far as its work
//! allows.

use core::sync::atomic::Ordering::{Relaxed, Release};

use exo_abi::{EXPENDABLE, Error, FrameKind, Pages, Pfn, REPOSSESSED, Upcall};

use super::events;
use crate::paging::{self, Sweep};
use crate::state::State;
use crate::state::env::Env;
use crate::work::Work;

/// What looking at an entry of the frame table costs.
const LOOK: u32 = 16;
/// What making processors forget an address space costs.
const SHOOTDOWN: u32 = 500;

/// `env` gave `count` frames back.
pub fn given_back(env: &Env, count: Pages) {
    owe(env, |owed| owed.saturating_sub(count));
}

/// `env` got `count` frames more. While it owes some it owes these, too: taking frames
/// to give them back is not giving back.
pub fn received(env: &Env, count: Pages) {
    owe(env, |owed| owed.saturating_add(count));
}

/// Changes what `env` owes, if it owes anything.
fn owe(env: &Env, change: impl FnOnce(Pages) -> Pages) {
    let owed = env.revocation.owed.get();
    if owed == 0 {
        return;
    }
    env.revocation.owed.set(change(owed));
    if let Some(area) = env.area() {
        area.revocation.frames.store(env.revocation.owed.get(), Relaxed);
    }
}

/// Asks `env` for frames and slots until `deadline`.
pub fn request(kernel: &State, env: &Env, frames: Pages, slots: u32, deadline: u64) {
    env.revocation.owed.set(frames);
    env.revocation.deadline.set(deadline);
    env.revocation.cursor.set(0);
    if let Some(area) = env.area() {
        area.revocation.frames.store(frames, Relaxed);
        area.revocation.slots.store(slots, Relaxed);
        area.revocation.deadline.store(deadline, Relaxed);
        let wanted = area.upcall.wanted.load(Relaxed) & Upcall::Revoke as u32;
        env.pending.set(env.pending.get() | wanted);
    }
    events::notify(kernel, env);
}

/// Goes on taking one frame of `env`. Returns it once no environment maps it any more.
///
/// # Errors
/// [`Error::WrongState`], [`Error::Vacant`], [`Error::Again`].
pub fn enforce(kernel: &State, env: &Env, now: u64, work: &Work) -> Result<Pfn, Error> {
    let (demand, frames) = (&env.revocation, &kernel.frames);
    let mut victim = demand.victim.get();
    if victim == Pfn(0) {
        if demand.owed.get() == 0 || now < demand.deadline.get() {
            return Err(Error::WrongState);
        }
        victim = choose(kernel, env, work)?;
        demand.victim.set(victim);
        demand.cursor.set(0);
        // From here on no environment can map it, give it away or have it back.
        frames.revoke(victim);
    }
    while frames.mappings(victim) != 0 {
        if !work.draw(LOOK) {
            return Err(Error::Again);
        }
        let table = Pfn(demand.cursor.get());
        let sweep = match frames.kind(table) {
            Some(FrameKind::PageTable) => paging::break_mappings(frames, table, victim, work),
            _ => Sweep::Clean,
        };
        if sweep != Sweep::Clean
            && let Some(space) = frames.owner(table)
        {
            work.spend(SHOOTDOWN);
            kernel.forget(space);
        }
        if sweep == Sweep::Unfinished {
            return Err(Error::Again);
        }
        // Mappings can be in tables made meanwhile only if the frame was still to be
        // had: going round again finds the rest.
        let next = table.0 + 1;
        demand.cursor.set(if next < frames.len() { next } else { 0 });
    }
    demand.victim.set(Pfn(0));
    demand.cursor.set(0);
    given_back(env, 1);
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
    Ok(victim)
}

/// A frame of `env` to take: one it called expendable, or the next one found.
fn choose(kernel: &State, env: &Env, work: &Work) -> Result<Pfn, Error> {
    let frames = &kernel.frames;
    let can_be_taken = |pfn: &Pfn| frames.is_memory_of(*pfn, env.id()) && !frames.is_pinned(*pfn);
    if let Some(area) = env.area() {
        let expendable: &[_; EXPENDABLE] = &area.revocation.expendable;
        let mut named = expendable.iter().map(|word| Pfn(word.load(Relaxed)));
        if let Some(pfn) = named.find(can_be_taken) {
            return Ok(pfn);
        }
    }
    for number in env.revocation.cursor.get()..frames.len() {
        if !work.draw(LOOK) {
            env.revocation.cursor.set(number);
            return Err(Error::Again);
        }
        if can_be_taken(&Pfn(number)) {
            return Ok(Pfn(number));
        }
    }
    env.revocation.cursor.set(0);
    Err(Error::Vacant)
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
    ) -> Result<u64, Error> {
        loop {
            match call(kernel, root, "revoke_enforce", &[handle]) {
                Err(Error::Again) => {}
                result => return result,
            }
        }
    }

    #[test]
    fn what_is_owed_is_taken_expendable_first_and_nothing_more() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 10]).expect("free");
        call(kernel, root, "map", &[handle, handle, 620, AT, 10, 1]).expect("mappable");
        assert_eq!(enforce(kernel, root, handle), Err(Error::WrongState), "not asked for");
        call(kernel, root, "revoke_request", &[handle, 3, 2, 2]).expect("in control");
        assert_eq!(enforce(kernel, root, handle), Err(Error::WrongState), "before the deadline");
        call(kernel, root, "revoke_request", &[handle, 3, 2, 1]).expect("in control");
        let words = &env.area().expect("a U-area").revocation;
        assert_eq!((words.frames.load(Relaxed), words.slots.load(Relaxed)), (3, 2));
        // A lie, and the truth.
        words.expendable[0].store(8, Relaxed);
        words.expendable[1].store(627, Relaxed);
        assert_eq!(enforce(kernel, root, handle), Ok(627));
        call(kernel, root, "unmap", &[handle, AT + 0x9000, 1]).expect("mapped");
        call(kernel, env, "frames_free", &[629, 1]).expect("its own");
        assert_eq!(enforce(kernel, root, handle), Ok(620));
        assert_eq!(enforce(kernel, root, handle), Err(Error::WrongState), "nothing is owed");
        assert_eq!((words.frames.load(Relaxed), words.count.load(Relaxed)), (0, 2));
        let taken: Vec<_> = words.repossessed[..2].iter().map(|word| word.load(Relaxed)).collect();
        assert_eq!(taken, [627, 620]);
        for (offset, there) in [(0, false), (1, true), (7, false), (8, true), (9, false)] {
            let found =
                paging::translate(&kernel.frames, env.root_table.get(), page(0x400 + offset), true);
            assert_eq!(found.is_some(), there, "page {offset}");
            let kind = if there { FrameKind::Memory } else { FrameKind::Free };
            assert_eq!(kernel.frames.kind(Pfn(620 + offset as u32)), Some(kind));
        }
        let table = root_of(kernel, env);
        assert!(!core::ptr::eq(table, root_of(kernel, root)));
        assert_eq!(kernel.frames.mappings(Pfn(612)), 7, "entries of the page table");
    }

    #[test]
    fn what_is_given_back_counts_and_what_is_taken_meanwhile_does_not() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 4]).expect("free");
        call(kernel, root, "revoke_request", &[handle, 3, 0, 0]).expect("in control");
        let shown = || env.area().expect("a U-area").revocation.frames.load(Relaxed);
        for round in 0..5 {
            call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 630, 2]).expect("free");
            assert_eq!(shown(), 5, "round {round}");
            call(kernel, env, "frames_free", &[630, 2]).expect("its own");
            assert_eq!(shown(), 3, "round {round}");
        }
        call(kernel, env, "frames_free", &[620, 3]).expect("its own");
        assert_eq!(shown(), 0);
        assert_eq!(enforce(kernel, root, handle), Err(Error::WrongState));
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 630, 2]).expect("free");
        assert_eq!(shown(), 0, "nothing is wanted any more");
    }

    #[test]
    fn what_is_used_stays_and_what_others_map_goes() {
        let (kernel, root) = machine();
        let (_, handle) = child(kernel, root, 600);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
        kernel.frames.pin(Pfn(620)).expect("room");
        tables(kernel, root, OWN, 0x80_0000, 700);
        call(kernel, root, "map", &[OWN, handle, 621, 0x80_0000, 1, 1]).expect("mappable");
        call(kernel, root, "revoke_request", &[handle, 9, 0, 0]).expect("in control");
        assert_eq!(enforce(kernel, root, handle), Ok(621));
        assert_eq!(kernel.frames.mappings(Pfn(702)), 0, "root's mapping");
        assert_eq!(enforce(kernel, root, handle), Err(Error::Vacant), "the other is in use");
        kernel.frames.unpin(Pfn(620));
        assert_eq!(enforce(kernel, root, handle), Ok(620));
    }

    #[test]
    fn a_frame_on_its_way_out_cannot_be_mapped_or_freed() {
        let (kernel, root) = machine();
        let (env, handle) = child(kernel, root, 600);
        tables(kernel, root, handle, AT, 610);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 2040, 1]).expect("free");
        // Mapped in a table far behind: taking it needs several steps.
        tables(kernel, root, OWN, 0x80_0000, 2042);
        call(kernel, root, "map", &[OWN, handle, 2040, 0x80_0000, 1, 1]).expect("mappable");
        for number in 1..40 {
            tables(kernel, root, OWN, u64::from(number) << 39, 1000 + 3 * number);
        }
        call(kernel, root, "revoke_request", &[handle, 1, 0, 0]).expect("in control");
        assert_eq!(call(kernel, root, "revoke_enforce", &[handle]), Err(Error::Again));
        assert_eq!(kernel.frames.kind(Pfn(2040)), Some(FrameKind::Revoked));
        let map = call(kernel, root, "map", &[handle, handle, 2040, AT, 1, 1]);
        assert_eq!(map, Err(Error::NotOwned));
        assert_eq!(call(kernel, env, "frames_free", &[2040, 1]), Err(Error::NotOwned));
        assert_eq!(enforce(kernel, root, handle), Ok(2040));
    }
}
