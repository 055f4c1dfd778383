//! Environments, bindings, filters, scopes: which names which. O1 to O8, and O9 by
//! [`super::disk`].

use exo_abi::{EnvState, FrameKind, Pfn};

use super::tally::Tally;
use super::{Outcome, disk, ensure, environments, frames, is_whole, links, same};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::net::binding::Binding;
use crate::net::nic::Nic;
use crate::net::scope::Scope;
use crate::net::storage::Installed;
use crate::object;
use crate::state::env::stage;

pub(super) fn check(kernel: &Kernel) -> Outcome {
    let mut tally = Tally::new(kernel.frames.count());
    for env in environments(kernel) {
        let id = Pfn(env.id().0);
        let itself = object::get::<Env>(&kernel.frames, id);
        let is_itself = itself.is_some_and(|itself| core::ptr::eq(itself, env));
        ensure(is_itself, "O1", "an environment has another's number", id)?;
        let begun = env.destruction.get() != (0, 0);
        let dying = env.state() == EnvState::Dying;
        // Before it begins to die, and when it has done what it could, it is ready.
        let leaves = matches!(env.destruction.get(), (stage::GATE, _) | (stage::STOP, 1));
        ensure(begun == dying || leaves, "O5", "dying and being destroyed are not the same", id)?;
        if is_whole(env) {
            parts(kernel, env, &mut tally)?;
        }
        bindings(kernel, env, &mut tally)?;
        disk::bindings(kernel, env, &mut tally)?;
        family(kernel, env, &mut tally)?;
    }
    for pfn in frames(kernel) {
        if let Some(scope) = object::get::<Scope>(&kernel.frames, pfn) {
            scopes(kernel, pfn, scope, &mut tally)?;
        }
    }
    frames(kernel).try_for_each(|pfn| named_once(kernel, pfn, &mut tally))?;
    disk::device(kernel)?;
    match &kernel.net.borrow().nic {
        Some(nic) => device(kernel, nic),
        None => Ok(()),
    }
}

/// The frames `env` is made of are what it takes them for.
fn parts(kernel: &Kernel, env: &Env, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    let mut part = |pfn: Pfn, kind: FrameKind, level: u32| {
        let fits = frames.kind(pfn) == Some(kind) && frames.owner(pfn) == Some(env.id());
        ensure(fits, "O1", "a part of an environment is something else", pfn)?;
        let levels = (u64::from(frames.level(pfn)), u64::from(level));
        same("O1", "a part of an environment is in another place", pfn, levels)?;
        tally.of(pfn).named += 1;
        Ok(())
    };
    part(env.root_table.get(), FrameKind::PageTable, 4)?;
    part(env.u_area.get(), FrameKind::UArea, 0)?;
    for (place, table) in (0..env.capabilities.frames.get()).zip(&env.capabilities.tables) {
        part(table.get(), FrameKind::CapTable, place)?;
    }
    let (victim, _) = env.taking.get();
    if victim != Pfn(0) {
        let fits = frames.kind(victim) == Some(FrameKind::Revoked)
            && frames.owner(victim) == Some(env.id());
        ensure(fits, "O6", "a frame to be taken away is something else", victim)?;
        tally.of(victim).named += 1;
    }
    Ok(())
}

/// Its bindings, and their filters.
fn bindings(kernel: &Kernel, env: &Env, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    links::each::<Binding>(
        frames,
        "O2",
        env.bindings.get(),
        |binding| (&binding.previous, &binding.next),
        |pfn, binding| {
            tally.of(pfn).named += 1;
            let own = binding.owner.get() == env.id() && frames.owner(pfn) == Some(env.id());
            ensure(own, "O2", "a binding is in another's list", pfn)?;
            ensure(binding.frame() == pfn, "O2", "a binding takes itself for another", pfn)?;
            binding.run().try_for_each(|page| {
                let fits = frames.is_memory_of(page, env.id());
                ensure(fits, "O2", "a binding's run is not its owner's memory", page)
            })?;
            links::each::<Installed>(
                frames,
                "O3",
                binding.filters.get(),
                |filter| (&filter.previous, &filter.next),
                |filter_pfn, filter| {
                    tally.of(filter_pfn).named += 1;
                    let own = frames.owner(filter_pfn) == Some(env.id());
                    ensure(own, "O3", "a filter is another's", filter_pfn)?;
                    let here = filter.binding.get() == pfn;
                    ensure(here, "O3", "a filter is in another binding's list", filter_pfn)?;
                    let code = filter.room.code.get();
                    tally.of(code).named += 1;
                    let own = frames.owner(code) == Some(env.id())
                        && frames.kind(code) == Some(FrameKind::Code);
                    ensure(own, "O3", "a filter's code is something else", code)
                },
            )
        },
    )
}

/// What is made under a scope and by it.
fn scopes(kernel: &Kernel, pfn: Pfn, scope: &Scope, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    ensure(scope.frame() == pfn, "O8", "a scope takes itself for another", pfn)?;
    let all = core::ptr::eq(scope, kernel.network);
    if all {
        tally.of(pfn).named += 1;
    } else {
        let code = scope.room.code.get();
        tally.of(code).named += 1;
        let fits =
            frames.owner(code) == frames.owner(pfn) && frames.kind(code) == Some(FrameKind::Code);
        ensure(fits, "O8", "a scope's code is something else", code)?;
    }
    links::each::<Scope>(
        frames,
        "O8",
        scope.children.get(),
        |child| (&child.previous, &child.next),
        |child_pfn, child| {
            tally.of(child_pfn).named += 1;
            let fits = child.parent.get() == pfn && child.depth.get() == scope.depth.get() + 1;
            ensure(fits, "O8", "a scope is under another", child_pfn)
        },
    )?;
    links::each::<Binding>(
        frames,
        "O8",
        scope.bindings.get(),
        |binding| (&binding.scope_previous, &binding.scope_next),
        |binding_pfn, binding| {
            let here = binding.scope().is_some_and(|it| core::ptr::eq(it, scope));
            ensure(here, "O8", "a binding is of another scope", binding_pfn)
        },
    )
}

/// The environments it created.
fn family(kernel: &Kernel, env: &Env, tally: &mut Tally) -> Outcome {
    for (list, silenced) in [(&env.children, false), (&env.silenced, true)] {
        links::each::<Env>(
            &kernel.frames,
            "O4",
            list.get(),
            |child| (&child.previous, &child.next),
            |pfn, child| {
                tally.of(pfn).named += 1;
                let own = child.creator.get() == env.id();
                ensure(own, "O4", "a child has another creator", pfn)?;
                let alone = child.children.get() == Pfn(0) && child.silenced.get() == Pfn(0);
                let quiet = child.state() == EnvState::Dying && alone;
                ensure(!silenced || quiet, "O4", "a silenced one is not silent", pfn)
            },
        )?;
    }
    Ok(())
}

/// Every object is named once, by the object that should name it.
fn named_once(kernel: &Kernel, pfn: Pfn, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    let name = match frames.kind(pfn) {
        Some(FrameKind::UArea | FrameKind::CapTable) => "O1",
        Some(FrameKind::PageTable) if frames.level(pfn) == 4 => "O1",
        Some(FrameKind::Binding) => "O2",
        Some(FrameKind::DiskBinding) => "O9",
        Some(FrameKind::Filter | FrameKind::Code) => "O3",
        Some(FrameKind::Scope) => "O8",
        Some(FrameKind::Env) => "O4",
        Some(FrameKind::Revoked) => "O6",
        _ => return Ok(()),
    };
    let is_first = pfn == Pfn(kernel.first.get().0);
    let owner = frames.owner(pfn).and_then(|owner| kernel.env(owner));
    let gone = matches!(name, "O1" | "O6") && owner.is_some_and(|owner| !is_whole(owner));
    let wanted = u64::from(!(is_first || gone || pfn == kernel.root_table));
    same(name, "an object is not named exactly once", pfn, (tally.of(pfn).named.into(), wanted))
}

/// What the bindings count against what the device has.
fn device(kernel: &Kernel, nic: &Nic) -> Outcome {
    let nobody = Pfn(0);
    let with_device = nic.sender.iter().flatten().count();
    let counts = ((nic.free_count + with_device) as u64, nic.sender.len() as u64);
    same("O7", "transmit slots are neither free nor with the device", nobody, counts)?;
    for (index, slot) in nic.free[..nic.free_count.min(nic.free.len())].iter().enumerate() {
        let twice = nic.free[..index].contains(slot);
        let sent = nic.sender.get(usize::from(*slot)).is_none_or(Option::is_some);
        ensure(!twice && !sent, "O7", "a transmit slot is free twice, or in use", nobody)?;
    }
    for pfn in frames(kernel) {
        let Some(binding) = object::get::<Binding>(&kernel.frames, pfn) else { continue };
        let mine = || nic.sender.iter().flatten().filter(|sender| sender.binding == pfn);
        let lent = mine().filter(|sender| sender.lends.is_some()).count() as u64;
        let counts =
            (u64::from(binding.lent.iter().map(|word| word.get().count_ones()).sum::<u32>()), lent);
        same("O7", "frames that the device reads are miscounted", pfn, counts)?;
    }
    for pfn in frames(kernel) {
        let Some(scope) = object::get::<Scope>(&kernel.frames, pfn) else { continue };
        let mine = nic.sender.iter().flatten().filter(|sender| sender.account == pfn).count();
        let held = scope.held.get() as usize;
        ensure(held <= mine, "O7", "an account counts too many packets", pfn)?;
    }
    Ok(())
}
