//! The own page tables, which the kernel lets their owner read.

use exo_abi::boot::SELF;
use exo_abi::{EnvId, Error, FrameKind, Pfn, Protection, VirtAddr};
use libos::sys;

use crate::frames::{Frames, read, window};

/// Where a table is mapped while it is read.
const GLASS: VirtAddr = window(0);
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A page as the tables describe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Where it is.
    pub at: VirtAddr,
    /// The frame behind it.
    pub frame: Pfn,
    /// How it may be used.
    pub protection: Protection,
}

/// The own page tables.
#[derive(Clone, Copy)]
pub struct Tables {
    frames: Frames,
    /// The root table.
    pub root: Pfn,
}

impl Tables {
    /// The page tables of the environment `id`, which is the caller.
    pub fn of(frames: Frames, id: EnvId) -> Option<Self> {
        let level = |pfn: Pfn| {
            let entry = frames.table.get(pfn.0 as usize)?;
            Some(entry.level.load(core::sync::atomic::Ordering::Relaxed))
        };
        let root = frames.all().find(|pfn| {
            frames.look(*pfn) == Some((FrameKind::PageTable, id)) && level(*pfn) == Some(4)
        })?;
        Some(Self { frames, root })
    }

    /// The table of `level` that covers `at`.
    ///
    /// # Errors
    /// The kernel's refusal to show a table.
    pub fn table(&self, at: VirtAddr, level: u32) -> Result<Option<Pfn>, Error> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = self.entry(table, at, above)?;
            if entry & PRESENT == 0 {
                return Ok(None);
            }
            table = frame_of(entry);
        }
        Ok(Some(table))
    }

    /// The page at `at`.
    ///
    /// # Errors
    /// The kernel's refusal to show a table.
    pub fn page(&self, at: VirtAddr) -> Result<Option<Page>, Error> {
        let Some(table) = self.table(at, 1)? else { return Ok(None) };
        let entry = self.entry(table, at, 1)?;
        if entry & PRESENT == 0 {
            return Ok(None);
        }
        let protection = match (entry & WRITE != 0, entry & NO_EXECUTE == 0) {
            (true, _) => Protection::ReadWrite,
            (false, true) => Protection::ReadExecute,
            (false, false) => Protection::Read,
        };
        Ok(Some(Page { at, frame: frame_of(entry), protection }))
    }

    fn entry(&self, table: Pfn, at: VirtAddr, level: u32) -> Result<u64, Error> {
        self.frames.map((SELF, SELF), table, GLASS, 1, Protection::Read)?;
        let index = at.get() >> (12 + 9 * (level - 1)) & 511;
        let entry = read(GLASS, index as usize * 8);
        sys::unmap(SELF, GLASS, 1)?;
        Ok(entry)
    }
}

fn frame_of(entry: u64) -> Pfn {
    Pfn(((entry & ADDRESS) / exo_abi::FRAME_BYTES) as u32)
}
