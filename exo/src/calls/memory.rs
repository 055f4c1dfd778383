//! Calls on page frames and mappings.

use exo_abi::{Error, Handle, KEYS, LARGE_PAGES, Level, Pages, Pfn, Protection, Rights, VirtAddr};

use super::caller::Caller;
use crate::capability::Kind;
use crate::env::Env;
use crate::frames::BATCH;
use crate::keys;
use crate::memory::CLEAR;
use crate::paging::{self, Mapping, text};

/// What giving back a frame costs.
const FREE: u32 = 50;
/// What mapping a page costs, and unmapping one: walks of four levels.
const MAP: u32 = 400;
/// See [`MAP`].
const UNMAP: u32 = 250;
/// What counting a mapping of a frame costs, or one less.
const COUNT: u32 = 16;

/// What a run costs of so many pages, or a large page.
fn run_of(count: Pages, each: u32) -> u32 {
    if count == LARGE_PAGES { LARGE_PAGES * COUNT } else { count.min(BATCH) * each }
}

impl Caller<'_> {
    /// Makes this processor forget what it caches of `space`'s page `page`.
    fn forget(&self, space: &Env, page: VirtAddr) {
        // Another space's translations went when its tables were last left.
        if space.id() == self.kernel.here().current.get() {
            forget_page(page);
        }
    }
}

#[cfg(exo_guest)]
fn forget_page(page: VirtAddr) {
    crate::arch::cpu::forget_page(page.get());
}

#[cfg(not(exo_guest))]
fn forget_page(_page: VirtAddr) {}

#[inline(never)]
pub(super) fn frames_take(
    caller: Caller<'_>,
    frames: Handle,
    env: Handle,
    first: Pfn,
    count: Pages,
) -> Result<(), Error> {
    caller.work().spend(count.min(BATCH) * (CLEAR + FREE));
    let table = &caller.kernel.frames;
    let (_, slot) = caller.env.lookup(table, frames, Rights::TAKE)?;
    let range = slot.object();
    if range.kind != Kind::Frames {
        return Err(Error::BadHandle);
    }
    if !range.covers(first.0, count) {
        return Err(Error::OutOfRange);
    }
    let owner = caller.live_env_with(env, Rights::MEMORY)?;
    table.take(first, count, owner.id())
}

#[inline(never)]
pub(super) fn frames_free(caller: Caller<'_>, first: Pfn, count: Pages) -> Result<(), Error> {
    caller.work().spend(count.min(BATCH) * FREE);
    caller.kernel.frames.free(first, count, caller.env.id())
}

#[inline(never)]
pub(super) fn table_install(
    caller: Caller<'_>,
    env: Handle,
    at: VirtAddr,
    level: Level,
    frame: Pfn,
) -> Result<(), Error> {
    caller.work().spend(CLEAR + MAP);
    let space = caller.live_env_with(env, Rights::MEMORY)?;
    let root = space.root_table.get();
    paging::install_table(&caller.kernel.frames, space.id(), root, at, level, frame)
}

#[inline(never)]
pub(super) fn table_remove(
    caller: Caller<'_>,
    env: Handle,
    at: VirtAddr,
    level: Level,
) -> Result<(), Error> {
    let space = caller.live_env_with(env, Rights::MEMORY)?;
    paging::remove_table(&caller.kernel.frames, space.root_table.get(), at, level)?;
    // Forgetting any page drops all cached upper levels (SDM vol. 3, 4.10.4.1).
    caller.forget(space, at);
    caller.kernel.expel(space.id());
    Ok(())
}

#[inline(never)]
pub(super) fn map(
    caller: Caller<'_>,
    space: Handle,
    owner: Handle,
    first: Pfn,
    at: VirtAddr,
    count: Pages,
    protection: Protection,
) -> Result<(), Error> {
    let owned = Mapping { first, at, count, protection, ..Mapping::NONE };
    map_for(caller, space, owner, owned)
}

#[inline(never)]
pub(super) fn map_keyed(
    caller: Caller<'_>,
    space: Handle,
    owner: Handle,
    first: Pfn,
    at: VirtAddr,
    protection: Protection,
    key: u32,
) -> Result<(), Error> {
    if !(1..KEYS).contains(&key) || protection == Protection::ReadExecute {
        return Err(Error::BadArgument);
    }
    map_for(caller, space, owner, Mapping { first, at, count: 1, protection, key, ..Mapping::NONE })
}

fn map_for(
    caller: Caller<'_>,
    space: Handle,
    owner: Handle,
    mapping: Mapping,
) -> Result<(), Error> {
    caller.work().spend(run_of(mapping.count, MAP));
    let space = caller.live_env_with(space, Rights::MEMORY)?;
    let owner = caller.live_env_with(owner, Rights::MEMORY)?.id();
    let guarded = keys::is_guarded(space);
    if mapping.key != 0 && !guarded {
        return Err(Error::WrongState);
    }
    let mapping = Mapping { owner, guarded, ..mapping };
    let root = space.root_table.get();
    let mapped =
        paging::map(&caller.kernel.frames, root, mapping, |page| caller.forget(space, page));
    if mapped.is_err() {
        caller.kernel.expel(space.id());
    }
    mapped
}

#[inline(never)]
pub(super) fn unmap(
    caller: Caller<'_>,
    space: Handle,
    at: VirtAddr,
    count: Pages,
) -> Result<(), Error> {
    caller.work().spend(run_of(count, UNMAP));
    let space = caller.live_env_with(space, Rights::MEMORY)?;
    let root = space.root_table.get();
    if keys::is_guarded(space) {
        caller.work().spend(count.min(BATCH) * MAP);
        let (frames, place) = (&caller.kernel.frames, (space.id(), root));
        if paging::are_sealed(frames, place, at, count, caller.env.id()) {
            return Err(Error::NoRight);
        }
    }
    let forget = |page| caller.forget(space, page);
    let unmapped = paging::unmap(&caller.kernel.frames, root, at, count, forget);
    caller.kernel.expel(space.id());
    unmapped
}

#[inline(never)]
pub(super) fn code_admit(
    caller: Caller<'_>,
    env: Handle,
    frame: Pfn,
    keys: Handle,
) -> Result<(), Error> {
    caller.work().spend(text::ADMIT);
    let frames = &caller.kernel.frames;
    let owner = caller.live_env_with(env, Rights::MEMORY)?;
    let held = caller.env.lookup(frames, keys, Rights::CALL).map(|(_, slot)| slot.object());
    let opens = |key| held.is_ok_and(|it| it.kind == Kind::Keys && it.covers(key, 1));
    text::admit(frames, owner.id(), frame, opens)
}
