//! The frame table against the page tables and the bindings: M1 to M10.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{EnvId, FrameKind, Pfn};

use super::tally::Tally;
use super::{Outcome, disk, ensure, environments, frames, is_whole, same};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::net::binding::Binding;
use crate::state::env::stage;
use crate::{memory, object};

/// Bits of an entry (SDM vol. 3, 4.5), said here again on purpose.
mod bit {
    pub(super) const PRESENT: u64 = 0x1;
    pub(super) const WRITABLE: u64 = 0x2;
    pub(super) const USER: u64 = 0x4;
    pub(super) const LARGE: u64 = 0x80;
    pub(super) const NO_EXECUTE: u64 = 0x8000_0000_0000_0000;
}

/// The words of a page table.
fn words(table: Pfn) -> &'static [AtomicU64; 512] {
    // SAFETY: a frame; atomics may be read whatever else happens to them.
    unsafe { &*memory::frame(table).cast() }
}

fn frame_in(word: u64) -> Pfn {
    Pfn((word >> 12) as u32)
}

pub(super) fn check(kernel: &Kernel) -> Outcome {
    let mut tally = Tally::new(kernel.frames.count());
    for pfn in frames(kernel) {
        match kernel.frames.kind(pfn) {
            Some(FrameKind::PageTable) => page_table(kernel, pfn, &mut tally)?,
            Some(FrameKind::Binding) => {
                let binding: Option<&Binding> = object::get(&kernel.frames, pfn);
                let run = binding.into_iter().flat_map(Binding::run);
                run.for_each(|pfn| tally.of(pfn).runs += 1);
            }
            _ => {}
        }
    }
    disk::pinned(kernel, |pfn| tally.of(pfn).runs += 1);
    for pfn in frames(kernel) {
        frame(kernel, pfn, &mut tally)?;
    }
    stacks(kernel)?;
    environments(kernel).filter(|env| is_whole(env)).try_for_each(|env| {
        let root = words(env.root_table.get());
        let halves = root.iter().zip(words(kernel.root_table)).skip(256);
        let whole =
            halves.into_iter().all(|(own, kernels)| own.load(Relaxed) == kernels.load(Relaxed));
        ensure(whole, "M7", "a root table has another half for the kernel", env.root_table.get())
    })
}

/// Checks one page table and adds what it maps to the tally.
fn page_table(kernel: &Kernel, table: Pfn, tally: &mut Tally) -> Outcome {
    let level = kernel.frames.level(table);
    ensure((1..=4).contains(&level), "M7", "a page table has no level", table)?;
    let owner = kernel.frames.owner(table).and_then(|owner| kernel.env(owner));
    let guarded = owner.is_some_and(crate::keys::is_guarded);
    let mut present = 0;
    for word in &words(table)[..if level == 4 { 256 } else { 512 }] {
        let word = word.load(Relaxed);
        if word & bit::PRESENT == 0 {
            // Not even garbage: an entry is nothing or present.
            same("M2", "an entry that is not present is not empty", table, (word, 0))?;
            continue;
        }
        present += 1;
        ensure(word & bit::USER != 0, "M5", "an entry is not ring 3's", table)?;
        if level > 1 && word & bit::LARGE == 0 {
            names(kernel, table, frame_in(word), tally)?;
            continue;
        }
        let writable = word & bit::WRITABLE != 0;
        let executable = word & bit::NO_EXECUTE == 0;
        ensure(!(writable && executable), "M5", "a page is writable and executable", table)?;
        ensure(level <= 2, "M6", "an entry maps more than 2 MiB", table)?;
        let count = if level == 1 { 1 } else { 512 };
        let first = frame_in(word);
        ensure(first.0.is_multiple_of(count), "M6", "a large page is not aligned", table)?;
        for offset in 0..count {
            let pfn = first.plus(offset);
            let kind = kernel.frames.kind(pfn);
            let fits = match kind {
                Some(FrameKind::Memory | FrameKind::Revoked) => true,
                Some(FrameKind::UArea) => count == 1,
                Some(FrameKind::Text) => count == 1 && !writable,
                Some(FrameKind::PageTable | FrameKind::Info) => {
                    count == 1 && !writable && !executable
                }
                _ => false,
            };
            ensure(fits, "M6", "a frame is mapped that must not be, or not so", pfn)?;
            let admitted = !(guarded && executable) || kind == Some(FrameKind::Text);
            ensure(admitted, "M5", "code can be executed that was not admitted", pfn)?;
            tally.of(pfn).mapped += 1;
        }
    }
    let counted = u64::from(kernel.frames.mappings(table));
    same("M2", "a page table's entries are miscounted", table, (counted, present))
}

/// An entry of `table` names `below` as the next table.
fn names(kernel: &Kernel, table: Pfn, below: Pfn, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    let is_table = frames.kind(below) == Some(FrameKind::PageTable);
    ensure(is_table, "M7", "an entry names a page table that is none", below)?;
    let levels = (u64::from(frames.level(below)) + 1, u64::from(frames.level(table)));
    same("M7", "a page table is named by one of the wrong level", below, levels)?;
    ensure(frames.owner(below) == frames.owner(table), "M7", "tables of two owners", below)?;
    tally.of(below).named += 1;
    Ok(())
}

/// Compares what the frame table says of a frame with the tally.
fn frame(kernel: &Kernel, pfn: Pfn, tally: &mut Tally) -> Outcome {
    let frames = &kernel.frames;
    #[cfg(exo_guest)]
    direct(kernel, pfn)?;
    let found = *tally.of(pfn);
    let (mapped, runs) = (u64::from(found.mapped), u64::from(found.runs));
    let counted = u64::from(frames.mappings(pfn));
    let pins = u64::from(frames.pins(pfn));
    let owner = frames.owner(pfn).unwrap_or(EnvId(0));
    let payer: Option<&Env> = kernel.env(owner);
    let kind = frames.kind(pfn);
    match kind {
        Some(FrameKind::PageTable) => {
            same("M3", "a page table's mappings are miscounted", pfn, (pins, mapped + runs))?;
            let is_root = frames.level(pfn) == 4;
            // One that is being destroyed takes its tables apart in any order.
            let apart = payer.is_some_and(|payer| payer.destruction.get().0 >= stage::PAGE_TABLES);
            let named = u64::from(found.named);
            let wanted = if is_root || (apart && named == 0) { 0 } else { 1 };
            same("M7", "a page table is not named exactly once", pfn, (named, wanted))?;
        }
        _ => {
            same("M1", "a frame's mappings are miscounted", pfn, (counted, mapped))?;
            same("M3", "a frame's pins are miscounted", pfn, (pins, runs))?;
        }
    }
    match kind {
        Some(FrameKind::Free) => {
            same("M4", "a free frame has an owner", pfn, (owner.0.into(), 0))?;
            same("M4", "a free frame has a level", pfn, (frames.level(pfn).into(), 0))
        }
        Some(FrameKind::Reserved | FrameKind::Kernel | FrameKind::Info) => {
            same("M8", "a frame of the kernel's has an owner", pfn, (owner.0.into(), 0))
        }
        None => ensure(false, "M8", "a frame has no kind", pfn),
        _ if pfn == kernel.root_table || pfn == kernel.network.frame() => Ok(()),
        _ => {
            let exists = payer.is_some_and(|payer| payer.id() == owner);
            ensure(exists, "M8", "a frame's owner does not exist", pfn)
        }
    }
}

/// The entry by which ring 0 reaches `address`; one that is not present if it does not.
#[cfg(exo_guest)]
fn reaches(kernel: &Kernel, address: u64) -> u64 {
    let mut word = kernel.root_table.address() | bit::PRESENT;
    for level in (1..=4).rev() {
        if word & bit::PRESENT != 0 {
            let place = (address >> (3 + 9 * level) & 511) as usize;
            word = words(frame_in(word))[place].load(Relaxed);
        }
    }
    word
}

/// M10, in the guest.
fn stacks(_kernel: &Kernel) -> Outcome {
    #[cfg(exo_guest)]
    for guard in crate::start::guards() {
        let present = reaches(_kernel, guard) & bit::PRESENT;
        same("M10", "a stack of ring 0 has no unmapped page below it", Pfn(0), (present, 0))?;
    }
    Ok(())
}

/// M9: how ring 0 itself has a frame mapped. On the host it has no page tables.
#[cfg(exo_guest)]
fn direct(kernel: &Kernel, pfn: Pfn) -> Outcome {
    // The kernel's own image has no page here.
    let word = reaches(kernel, memory::frame(pfn) as u64);
    let is_code = kernel.frames.kind(pfn) == Some(FrameKind::Code);
    let rights = word & (bit::WRITABLE | bit::NO_EXECUTE | bit::USER);
    let wanted = if is_code { 0 } else { bit::WRITABLE | bit::NO_EXECUTE };
    let fits = word & bit::PRESENT == 0 || rights == wanted;
    ensure(fits, "M9", "ring 0 may do something else with a frame", pfn)
}
