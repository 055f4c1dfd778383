//! Page tables: mappings that applications propose and the kernel checks.
//!
//! A page table is a frame its environment donated; the kernel alone writes it,
//! the owner may map it read-only. What may be mapped follows from the frame
//! table: an owner's plain memory and U-area with any protection, what the kernel
//! publishes and the owner's own page tables read-only. Nothing is writable and
//! executable at once, because [`Protection`] cannot say so.
//! (Entry format: SDM vol. 3, 4.5.)

pub mod text;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{
    EnvId, Error, FRAME_BYTES, FrameKind, LARGE_PAGES, Level, Pages, Pfn, Protection, VirtAddr,
};

use crate::frames::{BATCH, FrameTable};
use crate::object::{self, KernelObject};
use crate::work::Work;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// The entry maps 2 MiB instead of naming a table.
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// The protection key (SDM vol. 3, 4.6.2).
const KEY_SHIFT: u32 = 59;
const KEY: u64 = 15 << KEY_SHIFT;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Level of the tables with entries that can map large pages.
const LARGE_LEVEL: u8 = 2;
/// Level of an environment's root table.
pub const ROOT_LEVEL: u8 = 4;
/// Root entries from here on belong to the kernel and are the same everywhere.
const KERNEL_ENTRIES: usize = 256;

/// One page table. Atomics, because the processor sets accessed and dirty bits.
#[repr(C, align(4096))]
pub struct Table([AtomicU64; 512]);

// SAFETY: repr(C), a frame long, zero is "nothing present", and atomics may be
// written through shared references.
unsafe impl KernelObject for Table {
    const KIND: FrameKind = FrameKind::PageTable;
}

impl Table {
    fn entry(&self, level: u8, address: VirtAddr) -> &AtomicU64 {
        let shift = 12 + 9 * (u32::from(level) - 1);
        &self.0[(address.get() >> shift) as usize & 511]
    }
}

fn frame_of(entry: u64) -> Pfn {
    Pfn(((entry & ADDRESS) / FRAME_BYTES) as u32)
}

fn leaf(pfn: Pfn, protection: Protection) -> u64 {
    pfn.address()
        | PRESENT
        | USER
        | match protection {
            Protection::Read => NO_EXECUTE,
            Protection::ReadWrite => WRITE | NO_EXECUTE,
            Protection::ReadExecute => 0,
        }
}

/// Makes a root table in `pfn`, with the kernel's half as in `kernel_root`.
pub fn create_root(frames: &FrameTable, pfn: Pfn, kernel_root: &Table) -> Option<()> {
    let root = object::create_at_level::<Table>(frames, pfn, ROOT_LEVEL)?;
    for (mine, kernels) in root.0.iter().zip(&kernel_root.0).skip(KERNEL_ENTRIES) {
        mine.store(kernels.load(Relaxed), Relaxed);
    }
    Some(())
}

/// The entry for `address` in a table of `level`, or that of a large page which covers it: the
/// level where it is, itself, and the frame of its table.
#[inline]
fn walk(
    frames: &FrameTable,
    root: Pfn,
    address: VirtAddr,
    level: u8,
) -> Option<(u8, &'static AtomicU64, Pfn)> {
    let (mut here, mut pfn) = (ROOT_LEVEL, root);
    loop {
        let entry = object::get::<Table>(frames, pfn)?.entry(here, address);
        let value = entry.load(Relaxed);
        if here == level || value & LARGE != 0 {
            return Some((here, entry, pfn));
        }
        if value & PRESENT == 0 {
            return None;
        }
        (here, pfn) = (here - 1, frame_of(value));
    }
}

/// The entry for `address` in the table of `level`, and the frame of that.
fn entry_at(
    frames: &FrameTable,
    root: Pfn,
    address: VirtAddr,
    level: u8,
) -> Option<(&'static AtomicU64, Pfn)> {
    let (found, entry, table) = walk(frames, root, address, level)?;
    (found == level).then_some((entry, table))
}

/// Entries of one level for addresses that follow each other: their table is walked to once.
struct Run<'a> {
    frames: &'a FrameTable,
    root: Pfn,
    level: u8,
    /// The last table, and which of its level it is.
    table: Option<(u64, &'static Table, Pfn)>,
}

impl Run<'_> {
    /// As [`entry_at`]. No table may go in between.
    fn entry(&mut self, address: VirtAddr) -> Option<(&'static AtomicU64, Pfn)> {
        let number = address.get() >> (12 + 9 * u32::from(self.level));
        if self.table.is_none_or(|(known, ..)| known != number) {
            let (_, pfn) = entry_at(self.frames, self.root, address, self.level)?;
            self.table = Some((number, object::get(self.frames, pfn)?, pfn));
        }
        let (_, table, pfn) = self.table?;
        Some((table.entry(self.level, address), pfn))
    }
}

/// The frame that ring 3 reaches at `page`, for writing if `write`; none behind a key.
pub fn translate(frames: &FrameTable, root: Pfn, page: VirtAddr, write: bool) -> Option<Pfn> {
    let needed = if write { PRESENT | USER | WRITE } else { PRESENT | USER };
    let (level, entry, _) = walk(frames, root, page, 1)?;
    let value = entry.load(Relaxed);
    let within = (page.get() / FRAME_BYTES) as u32 & reach(level, value).saturating_sub(1);
    (value & (needed | KEY) == needed).then(|| frame_of(value).plus(within))
}

/// Makes `frame` the page table of `level` covering `address`.
///
/// # Errors
/// [`Error::NoTable`] without a table above, [`Error::Occupied`] if there is one
/// already, and as [`FrameTable::check_donation`].
pub fn install_table(
    frames: &FrameTable,
    space: EnvId,
    root: Pfn,
    address: VirtAddr,
    level: Level,
    frame: Pfn,
) -> Result<(), Error> {
    let above = level.get() + 1;
    let (entry, parent) = entry_at(frames, root, address, above).ok_or(Error::NoTable)?;
    if entry.load(Relaxed) & PRESENT != 0 {
        return Err(Error::Occupied);
    }
    frames.check_donation(frame, space)?;
    frames.add_mapping(parent)?;
    object::create_at_level::<Table>(frames, frame, level.get()).ok_or(Error::NotOwned)?;
    entry.store(frame.address() | PRESENT | WRITE | USER, Relaxed);
    Ok(())
}

/// Takes the empty page table of `level` covering `address` out. The caller
/// must make the processor forget what it cached of it.
///
/// # Errors
/// [`Error::Vacant`] if there is none, [`Error::InUse`] if it is not empty or
/// its owner has it mapped.
pub fn remove_table(
    frames: &FrameTable,
    root: Pfn,
    address: VirtAddr,
    level: Level,
) -> Result<(), Error> {
    let above = level.get() + 1;
    let (entry, parent) = entry_at(frames, root, address, above).ok_or(Error::Vacant)?;
    if entry.load(Relaxed) & PRESENT == 0 || entry.load(Relaxed) & LARGE != 0 {
        return Err(Error::Vacant);
    }
    let frame = frame_of(entry.load(Relaxed));
    if frames.is_referred_to(frame) {
        return Err(Error::InUse);
    }
    entry.store(0, Relaxed);
    frames.remove_mapping(parent);
    frames.end_table(frame);
    Ok(())
}

/// Whether a frame of `owner` may be mapped so.
fn check_mappable(
    frames: &FrameTable,
    owner: EnvId,
    pfn: Pfn,
    protection: Protection,
    guarded: bool,
) -> Result<(), Error> {
    let executable = protection == Protection::ReadExecute;
    let kind = frames.kind(pfn).ok_or(Error::OutOfRange)?;
    let owned = frames.owner(pfn) == Some(owner);
    match kind {
        FrameKind::Memory | FrameKind::UArea if owned && !(guarded && executable) => Ok(()),
        FrameKind::Text if owned && protection != Protection::ReadWrite => Ok(()),
        FrameKind::PageTable if owned && protection == Protection::Read => Ok(()),
        FrameKind::Info if protection == Protection::Read => Ok(()),
        FrameKind::Info => Err(Error::NoRight),
        FrameKind::PageTable | FrameKind::Memory | FrameKind::UArea | FrameKind::Text if owned => {
            Err(Error::NoRight)
        }
        _ => Err(Error::NotOwned),
    }
}

/// Counts a mapping by an entry of `level`. A page table counts its own entries as mappings,
/// so that being mapped itself counts as a pin.
fn count(frames: &FrameTable, level: u8, owner: EnvId, pfn: Pfn) -> Result<(), Error> {
    match frames.kind(pfn) {
        _ if level == LARGE_LEVEL => frames.add_mappings(pfn, LARGE_PAGES, owner),
        Some(FrameKind::PageTable) => frames.pin(pfn),
        _ => frames.add_mapping(pfn),
    }
}

/// Undoes the counts of what an entry of `level` maps.
fn uncount(frames: &FrameTable, level: u8, entry: u64) {
    let first = frame_of(entry);
    match reach(level, entry) {
        1 if frames.kind(first) == Some(FrameKind::PageTable) => frames.unpin(first),
        1 => frames.remove_mapping(first),
        pages => frames.remove_mappings(first, pages),
    }
}

/// How many frames an entry of a table of `level` maps: none, if it names a table.
fn reach(level: u8, entry: u64) -> Pages {
    match level {
        1 => 1,
        LARGE_LEVEL if entry & LARGE != 0 => LARGE_PAGES,
        _ => 0,
    }
}

/// The level of the entries that map `count` pages, and how many entries there are: a run of
/// [`LARGE_PAGES`] is one large page.
///
/// # Errors
/// [`Error::TooMuch`] for more than [`BATCH`] others.
fn entries(count: Pages) -> Result<(u8, Pages), Error> {
    match count {
        LARGE_PAGES => Ok((LARGE_LEVEL, 1)),
        0..=BATCH => Ok((1, count)),
        _ => Err(Error::TooMuch),
    }
}

/// What `map` asks for.
#[derive(Clone, Copy)]
pub struct Mapping {
    /// Environment that owns the frames.
    pub owner: EnvId,
    /// First frame.
    pub first: Pfn,
    /// Where.
    pub at: VirtAddr,
    /// How many.
    pub count: Pages,
    /// How.
    pub protection: Protection,
    /// Behind which protection key; zero: none.
    pub key: u32,
    /// Whether the address space takes part in those ([`crate::keys`]).
    pub guarded: bool,
}

impl Mapping {
    /// Of nothing, nowhere.
    pub const NONE: Self = Self {
        owner: EnvId::NONE,
        first: Pfn(0),
        at: VirtAddr::new(0).unwrap(),
        count: 0,
        protection: Protection::Read,
        key: 0,
        guarded: false,
    };
}

/// Maps a run of frames, or a large page. All or none; `forget` as for [`unmap`], for pages
/// that were mapped before another could not be.
///
/// # Errors
/// [`Error::TooMuch`], [`Error::BadAddress`], [`Error::BadArgument`] for frames of a large page
/// that are not aligned, [`Error::NoTable`], [`Error::Occupied`], [`Error::NotOwned`],
/// [`Error::NoRight`].
pub fn map(
    frames: &FrameTable,
    root: Pfn,
    mapping: Mapping,
    forget: impl FnMut(VirtAddr),
) -> Result<(), Error> {
    let Mapping { owner, first, at, count, protection, key, guarded } = mapping;
    let guards = guarded && protection == Protection::ReadExecute;
    let (level, entries) = entries(count)?;
    if level == LARGE_LEVEL {
        if !at.get().is_multiple_of(u64::from(LARGE_PAGES) * FRAME_BYTES) {
            return Err(Error::BadAddress);
        }
        // The last one would reach over the page below the hole, which is never mapped.
        at.plus(LARGE_PAGES - 1).ok_or(Error::BadAddress)?;
        if !first.0.is_multiple_of(LARGE_PAGES) {
            return Err(Error::BadArgument);
        }
        if guards {
            return Err(Error::NoRight);
        }
    }
    let mut run = Run { frames, root, level, table: None };
    for offset in 0..entries {
        let mut map_one = || {
            let page = at.plus(offset).ok_or(Error::BadAddress)?;
            let (entry, table) = run.entry(page).ok_or(Error::NoTable)?;
            if entry.load(Relaxed) & PRESENT != 0 {
                return Err(Error::Occupied);
            }
            let pfn = Pfn(first.0.checked_add(offset).ok_or(Error::OutOfRange)?);
            // Those of a large page are looked at where they are counted.
            if level == 1 {
                check_mappable(frames, owner, pfn, protection, guarded)?;
            }
            if guards && !text::seams_hold(frames, root, page, pfn) {
                return Err(Error::NoRight);
            }
            self::count(frames, level, owner, pfn)?;
            // It counts its 512 entries at most.
            frames.add_mapping(table)?;
            let large = if level == LARGE_LEVEL { LARGE } else { 0 };
            let key = u64::from(key) << KEY_SHIFT;
            entry.store(leaf(pfn, protection) | large | key, Relaxed);
            Ok(())
        };
        if let Err(error) = map_one() {
            unmap(frames, root, at, offset, forget)?;
            return Err(error);
        }
    }
    Ok(())
}

/// Unmaps `count` pages, or a large page; `forget` is called with each that was mapped and
/// must make the processor forget its translation.
///
/// # Errors
/// [`Error::TooMuch`], [`Error::BadAddress`]; [`Error::Vacant`] if there is no large page.
pub fn unmap(
    frames: &FrameTable,
    root: Pfn,
    at: VirtAddr,
    count: Pages,
    mut forget: impl FnMut(VirtAddr),
) -> Result<(), Error> {
    let (level, entries) = entries(count)?;
    // All or none: the last page first of all.
    at.plus(count.saturating_sub(1)).ok_or(Error::BadAddress)?;
    let mut run = Run { frames, root, level, table: None };
    for offset in 0..entries {
        let page = at.plus(offset).ok_or(Error::BadAddress)?;
        let found = run.entry(page).map(|(it, table)| (it, it.load(Relaxed), table));
        match found {
            Some((entry, old, table)) if old & PRESENT != 0 && reach(level, old) != 0 => {
                entry.store(0, Relaxed);
                frames.remove_mapping(table);
                forget(page);
                uncount(frames, level, old);
            }
            _ if level == LARGE_LEVEL => return Err(Error::Vacant),
            _ => {}
        }
    }
    Ok(())
}

/// Whether one of `count` pages at `at` holds code or lies behind a key, and its frame is neither
/// `by`'s nor `space`'s: in an environment that takes part in protection keys ([`crate::keys`])
/// such a page stays where it is. Otherwise what stands behind a gate could be
/// replaced.
pub fn are_sealed(
    frames: &FrameTable,
    (space, root): (EnvId, Pfn),
    at: VirtAddr,
    count: Pages,
    by: EnvId,
) -> bool {
    let is_sealed = |page: VirtAddr| {
        let entry = entry_at(frames, root, page, 1).map_or(0, |(entry, _)| entry.load(Relaxed));
        let owner = frames.owner(frame_of(entry));
        entry & PRESENT != 0
            && (entry & KEY != 0 || entry & NO_EXECUTE == 0)
            && ![Some(space), Some(by)].contains(&owner)
    };
    // (A large page is neither.)
    (0..count.min(BATCH)).filter_map(|offset| at.plus(offset)).any(is_sealed)
}

/// What looking at an entry of a page table costs.
const ENTRY: u32 = 20;
/// What undoing the count of a frame costs that an entry maps.
const UNCOUNT: u32 = 16;

/// Empties the page table in `pfn`, undoing the counts of what it maps, as far as there is
/// `work`; for the page tables of an address space that is never used again. True if it is
/// empty.
pub fn clear_table(frames: &FrameTable, pfn: Pfn, work: &Work) -> bool {
    let level = frames.level(pfn);
    let Some(table) = object::get::<Table>(frames, pfn) else { return true };
    let entries = if level == ROOT_LEVEL { KERNEL_ENTRIES } else { 512 };
    table.0[..entries].iter().all(|entry| {
        let draws = work.draw(ENTRY);
        if draws {
            clear_entry(frames, pfn, level, entry, work);
        }
        draws
    })
}

/// Clears an entry of the table of `level` in `pfn`, if it is there, and undoes its counts.
fn clear_entry(frames: &FrameTable, pfn: Pfn, level: u8, entry: &AtomicU64, work: &Work) {
    let old = entry.load(Relaxed);
    if old & PRESENT != 0 {
        entry.store(0, Relaxed);
        frames.remove_mapping(pfn);
        work.spend(reach(level, old) * UNCOUNT);
        uncount(frames, level, old);
    }
}

/// Removes every mapping of `victim` from the page table in `pfn`, if it is one, as far as there is
/// `work`. Whether there was any: then the processor must be made to forget.
///
/// # Errors
/// [`Error::Again`] if the rest of the table has not been looked at; there may have been some.
pub fn break_mappings(
    frames: &FrameTable,
    pfn: Pfn,
    victim: Pfn,
    work: &Work,
) -> Result<bool, Error> {
    let Some(table) = object::get::<Table>(frames, pfn) else { return Ok(false) };
    let (level, mut broken) = (frames.level(pfn), false);
    for entry in &table.0[..if level > LARGE_LEVEL { 0 } else { 512 }] {
        if !work.draw(ENTRY) {
            return Err(Error::Again);
        }
        let old = entry.load(Relaxed);
        let offset = victim.0.wrapping_sub(frame_of(old).0);
        if old & PRESENT != 0 && offset < reach(level, old) {
            clear_entry(frames, pfn, level, entry, work);
            broken = true;
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests;
