//! A model of the kernel's side of memory, for tests of whatever makes [`MemoryCalls`]: it keeps
//! the kernel's rules and refuses what the kernel would.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

use exo_abi::{Error, FrameInfo, FrameKind, Level, Pages, Pfn, Protection, VirtAddr};

use super::{BATCH, MemoryCalls, Range};

/// The kernel as one environment sees it.
#[derive(Debug)]
pub struct Model {
    range: Range,
    /// Lives as long as the process, like the kernel's table.
    table: &'static [FrameInfo],
    own: BTreeSet<u32>,
    /// Installed tables: level, and the part of the address space covered.
    tables: BTreeSet<(u8, u64)>,
    /// What is mapped, by address.
    pub pages: BTreeMap<u64, (Pfn, Protection)>,
    /// How many calls were made.
    pub calls: u32,
}

impl Model {
    /// A grant of `count` frames from `first` on, of which others have those that `taken` names,
    /// counted from `first`. Its frame table is never freed.
    pub fn new(first: u32, count: u32, taken: &[u32]) -> Self {
        let table: Vec<_> = (0..first + count)
            .map(|frame| FrameInfo {
                owner: AtomicU32::new(0),
                kind: AtomicU8::new(if frame < first || taken.contains(&(frame - first)) {
                    FrameKind::Memory
                } else {
                    FrameKind::Free
                } as u8),
                level: AtomicU8::new(0),
                pins: AtomicU16::new(0),
                mapped: AtomicU32::new(0),
                generation: AtomicU32::new(0),
            })
            .collect();
        Self {
            range: Range { first: Pfn(first), count },
            table: table.leak(),
            own: BTreeSet::new(),
            tables: BTreeSet::new(),
            pages: BTreeMap::new(),
            calls: 0,
        }
    }

    /// The grant.
    #[must_use]
    pub fn range(&self) -> Range {
        self.range
    }

    /// The frame table.
    #[must_use]
    pub fn table(&self) -> &'static [FrameInfo] {
        self.table
    }

    /// Frames that are free.
    #[must_use]
    pub fn free_count(&self) -> usize {
        self.table.iter().filter(|e| e.kind.load(Relaxed) == FrameKind::Free as u8).count()
    }

    /// Frames that were taken here.
    #[must_use]
    pub fn own_count(&self) -> usize {
        self.own.len()
    }

    /// Whether `frame` is one of them.
    #[must_use]
    pub fn is_own(&self, frame: Pfn) -> bool {
        self.own.contains(&frame.0)
    }

    /// Another environment takes a frame, if it is free. Whether it was.
    pub fn take_for_another(&mut self, frame: Pfn) -> bool {
        let kind = &self.table[frame.0 as usize].kind;
        kind.swap(FrameKind::Memory as u8, Relaxed) == FrameKind::Free as u8
    }

    fn frames(&self, first: Pfn, count: Pages) -> Result<core::ops::Range<u32>, Error> {
        let end = self.range.first.0 + self.range.count;
        match first.0.checked_add(count) {
            _ if count > BATCH => Err(Error::TooMuch),
            Some(last) if first.0 >= self.range.first.0 && last <= end => Ok(first.0..last),
            _ => Err(Error::OutOfRange),
        }
    }

    fn covered(at: u64, level: u8) -> (u8, u64) {
        (level, at >> (12 + 9 * u32::from(level)))
    }
}

impl MemoryCalls for Model {
    fn take(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
        self.calls += 1;
        let frames = self.frames(first, count)?;
        let free =
            |&frame: &u32| self.table[frame as usize].kind.load(Relaxed) == FrameKind::Free as u8;
        if !frames.clone().all(|frame| free(&frame)) {
            return Err(Error::NotFree);
        }
        for frame in frames {
            self.table[frame as usize].kind.store(FrameKind::Memory as u8, Relaxed);
            self.own.insert(frame);
        }
        Ok(())
    }

    fn free(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
        self.calls += 1;
        let frames = self.frames(first, count)?;
        for frame in frames.clone() {
            let entry = &self.table[frame as usize];
            if !self.own.contains(&frame) || entry.kind.load(Relaxed) != FrameKind::Memory as u8 {
                return Err(Error::NotOwned);
            }
            if self.pages.values().any(|(mapped, _)| mapped.0 == frame) {
                return Err(Error::InUse);
            }
        }
        for frame in frames {
            self.table[frame as usize].kind.store(FrameKind::Free as u8, Relaxed);
            self.own.remove(&frame);
        }
        Ok(())
    }

    fn install_table(&mut self, at: VirtAddr, level: Level, frame: Pfn) -> Result<(), Error> {
        self.calls += 1;
        let level = level.get();
        if level < 3 && !self.tables.contains(&Self::covered(at.get(), level + 1)) {
            return Err(Error::NoTable);
        }
        let kind = &self.table[frame.0 as usize].kind;
        if !self.own.contains(&frame.0) || kind.load(Relaxed) != FrameKind::Memory as u8 {
            return Err(Error::NotOwned);
        }
        if !self.tables.insert(Self::covered(at.get(), level)) {
            return Err(Error::Occupied);
        }
        kind.store(FrameKind::PageTable as u8, Relaxed);
        Ok(())
    }

    fn map(
        &mut self,
        first: Pfn,
        at: VirtAddr,
        count: Pages,
        protection: Protection,
    ) -> Result<(), Error> {
        self.calls += 1;
        if count > BATCH {
            return Err(Error::TooMuch);
        }
        let address = |page: u32| at.get() + u64::from(page) * 4096;
        for page in 0..count {
            if !self.tables.contains(&Self::covered(address(page), 1)) {
                return Err(Error::NoTable);
            }
            if self.pages.contains_key(&address(page)) {
                return Err(Error::Occupied);
            }
            if !self.own.contains(&first.plus(page).0) {
                return Err(Error::NotOwned);
            }
        }
        for page in 0..count {
            self.pages.insert(address(page), (first.plus(page), protection));
        }
        Ok(())
    }

    fn unmap(&mut self, at: VirtAddr, count: Pages) -> Result<(), Error> {
        self.calls += 1;
        if count > BATCH {
            return Err(Error::TooMuch);
        }
        for page in 0..count {
            self.pages.remove(&(at.get() + u64::from(page) * 4096));
        }
        Ok(())
    }
}
