//! An address space: page tables on demand, and regions of pages.
//!
//! The kernel maps only where page tables exist, and page tables are frames of
//! the environment like any other. So a mapping that is refused for want of a
//! table is repeated after one was put in; nothing is kept here about which
//! tables exist, since the kernel knows.

use exo_abi::{Error, FRAME_BYTES, Level, Pages, Pfn, Protection, VirtAddr};

use super::frames::FrameSource;
use super::layout::Window;
use super::{BATCH, MemoryCalls, MemoryError, Run};

/// Pages that one level-1 table maps.
const TABLE_PAGES: u64 = 512;

/// An environment's own address space.
#[derive(Debug)]
pub struct AddressSpace<F, C> {
    frames: F,
    calls: C,
    /// A frame that was wanted as a page table and not needed.
    spare: Option<Pfn>,
}

/// Where the next region of a [`Window`] goes.
///
/// Addresses are never used twice: there are more of them than of frames.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    window: Window,
    next: u64,
}

impl Regions {
    /// An unused window.
    pub const fn new(window: Window) -> Self {
        Self { window, next: window.start.get() }
    }

    /// Reserves `pages` pages at a multiple of `align` bytes (a power of two, at
    /// least a page), with an unmapped page behind them if `guard`.
    pub(super) fn reserve(&mut self, pages: Pages, align: u64, guard: bool) -> Option<VirtAddr> {
        let start = self.next.checked_next_multiple_of(align.max(FRAME_BYTES))?;
        let end = start.checked_add(u64::from(pages) * FRAME_BYTES)?;
        if end > self.window.end {
            return None;
        }
        self.next = end + if guard { FRAME_BYTES } else { 0 };
        VirtAddr::new(start)
    }
}

impl<F: FrameSource, C: MemoryCalls> AddressSpace<F, C> {
    /// An address space whose frames `frames` chooses.
    pub const fn new(frames: F, calls: C) -> Self {
        Self { frames, calls, spare: None }
    }

    /// The policy that chooses its frames.
    pub const fn frames(&mut self) -> &mut F {
        &mut self.frames
    }

    /// Takes one frame, for instance to donate it for a kernel object.
    ///
    /// # Errors
    /// [`MemoryError::OutOfFrames`].
    pub fn take_frame(&mut self) -> Result<Pfn, MemoryError> {
        let run = self.frames.take(&mut self.calls, 1, 1).ok_or(MemoryError::OutOfFrames)?;
        Ok(run.first)
    }

    /// Gives back a frame from [`AddressSpace::take_frame`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn give_frame(&mut self, frame: Pfn) -> Result<(), MemoryError> {
        Ok(self.frames.give(&mut self.calls, Run { first: frame, count: 1 })?)
    }

    /// Maps `count` frames from `first` on at `at`.
    ///
    /// # Errors
    /// The kernel's refusal, or no frame for a page table. Then some pages may
    /// be mapped; [`AddressSpace::unmap`] removes them.
    pub fn map(
        &mut self,
        first: Pfn,
        at: VirtAddr,
        count: Pages,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < count {
            let here = at.plus(done).ok_or(MemoryError::OutOfAddresses)?;
            // All or none is mapped at a time, so one call stays in one table.
            let room = TABLE_PAGES - here.get() / FRAME_BYTES % TABLE_PAGES;
            let piece = (count - done).min(BATCH).min(room as Pages);
            match self.calls.map(first.plus(done), here, piece, protection) {
                Ok(()) => done += piece,
                Err(Error::NoTable) => self.cover(here, 1)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Unmaps `count` pages at `at`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn unmap(&mut self, at: VirtAddr, count: Pages) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < count {
            let piece = (count - done).min(BATCH);
            let here = at.plus(done).ok_or(MemoryError::OutOfAddresses)?;
            self.calls.unmap(here, piece)?;
            done += piece;
        }
        Ok(())
    }

    /// Maps a new region of zeroed pages, read and write, with an unmapped page
    /// behind it if `guard`, at a multiple of `align` bytes. Returns its address
    /// and its length in pages, which is less than `pages` if frames ran out.
    ///
    /// # Errors
    /// [`MemoryError`], if not a single page could be mapped.
    pub fn region(
        &mut self,
        regions: &mut Regions,
        pages: Pages,
        align: u64,
        guard: bool,
    ) -> Result<(VirtAddr, Pages), MemoryError> {
        let start = regions.reserve(pages, align, guard).ok_or(MemoryError::OutOfAddresses)?;
        let mut done = 0;
        match self.fill(start, pages, &mut done) {
            Err(error) if done == 0 => Err(error),
            _ => Ok((start, done)),
        }
    }

    /// Maps a new region of physically consecutive pages, read and write.
    /// Returns its address and its first frame.
    ///
    /// # Errors
    /// [`MemoryError`]; nothing is kept but page tables.
    pub fn contiguous(
        &mut self,
        regions: &mut Regions,
        pages: Pages,
    ) -> Result<(VirtAddr, Pfn), MemoryError> {
        let at = regions.reserve(pages, FRAME_BYTES, true).ok_or(MemoryError::OutOfAddresses)?;
        let taken = self.frames.take(&mut self.calls, pages, pages);
        let run = taken.ok_or(MemoryError::OutOfFrames)?;
        if let Err(error) = self.map(run.first, at, pages, Protection::ReadWrite) {
            self.unmap(at, pages)?;
            self.frames.give(&mut self.calls, run)?;
            return Err(error);
        }
        Ok((at, run.first))
    }

    /// Takes and maps frames from `start` on; `done` counts the pages mapped.
    fn fill(&mut self, start: VirtAddr, pages: Pages, done: &mut Pages) -> Result<(), MemoryError> {
        while *done < pages {
            let at = start.plus(*done).ok_or(MemoryError::OutOfAddresses)?;
            *done += self.extend(at, pages - *done)?.count;
        }
        Ok(())
    }

    /// Takes up to `most` consecutive frames and maps them at `at`, read and write.
    ///
    /// # Errors
    /// [`MemoryError`]; nothing is kept then but page tables.
    pub fn extend(&mut self, at: VirtAddr, most: Pages) -> Result<Run, MemoryError> {
        let taken = self.frames.take(&mut self.calls, 1, most.min(BATCH));
        let run = taken.ok_or(MemoryError::OutOfFrames)?;
        if let Err(error) = self.map(run.first, at, run.count, Protection::ReadWrite) {
            self.unmap(at, run.count)?;
            self.frames.give(&mut self.calls, run)?;
            return Err(error);
        }
        Ok(run)
    }

    /// Puts in the page table of `level` that covers `at`, and those above it.
    fn cover(&mut self, at: VirtAddr, level: u8) -> Result<(), MemoryError> {
        let wanted = Level::new(level).ok_or(MemoryError::Refused(Error::NoTable))?;
        loop {
            let frame = match self.spare.take() {
                Some(frame) => frame,
                None => self.take_frame()?,
            };
            match self.calls.install_table(at, wanted, frame) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.spare = Some(frame);
                    match error {
                        Error::Occupied => return Ok(()),
                        Error::NoTable => self.cover(at, level + 1)?,
                        error => return Err(error.into()),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use exo_abi::{Error, Protection, VirtAddr};

    use super::{AddressSpace, Regions};
    use crate::memory::MemoryError;
    use crate::memory::frames::NextFit;
    use crate::memory::layout::{HEAP, REGIONS, Window};
    use crate::memory::model::Model;

    fn space(frames: u32, taken: &[u32]) -> AddressSpace<NextFit, Model> {
        let model = Model::new(50, frames, taken);
        AddressSpace::new(NextFit::new(model.range()), model)
    }

    #[test]
    fn region_is_mapped_without_holes_and_with_tables_on_demand() {
        let mut space = space(4096, &[0, 1, 7, 700]);
        let mut regions = Regions::new(REGIONS);
        let (at, pages) = space.region(&mut regions, 1500, 4096, true).unwrap();
        assert_eq!((at, pages), (REGIONS.start, 1500));
        let mapped = &space.calls.pages;
        assert_eq!(mapped.len(), 1500);
        for page in 0..1500 {
            let (_, protection) = mapped[&(at.get() + page * 4096)];
            assert_eq!(protection, Protection::ReadWrite);
        }
        // Three level-1 tables, one of level 2, one of level 3, perhaps a spare.
        let tables = space.calls.own_count() - 1500;
        assert!((5..=6).contains(&tables), "{tables}");
        let (next, _) = space.region(&mut regions, 1, 4096, true).unwrap();
        assert_eq!(next.get(), at.get() + 1501 * 4096, "a page stays unmapped between");
    }

    #[test]
    fn region_is_shorter_when_frames_run_out_and_loses_none() {
        let mut space = space(300, &[]);
        let mut regions = Regions::new(HEAP);
        let (_, pages) = space.region(&mut regions, 1000, 4096, false).unwrap();
        assert!((290..300).contains(&pages), "{pages}");
        assert_eq!(space.calls.pages.len(), pages as usize);
        let error = space.region(&mut regions, 1000, 4096, false).unwrap_err();
        assert_eq!(error, MemoryError::OutOfFrames);
        assert_eq!(space.calls.own_count() + space.calls.free_count(), 300);
    }

    #[test]
    fn contiguous_region_has_consecutive_frames_or_nothing() {
        let mut space = space(600, &[100]);
        let mut regions = Regions::new(REGIONS);
        let (at, first) = space.contiguous(&mut regions, 257).unwrap();
        for page in 0..257 {
            assert_eq!(space.calls.pages[&(at.get() + page * 4096)].0, first.plus(page as u32));
        }
        let own = space.calls.own_count();
        assert_eq!(space.contiguous(&mut regions, 400), Err(MemoryError::OutOfFrames));
        assert_eq!(space.calls.own_count(), own);
    }

    #[test]
    fn alignment_and_window_are_kept() {
        let start = VirtAddr::new(0x10_0000_1000).unwrap();
        let mut regions = Regions::new(Window { start, end: 0x10_0100_0000 });
        let mut space = space(64, &[]);
        let (at, _) = space.region(&mut regions, 1, 1 << 21, false).unwrap();
        assert_eq!(at.get(), 0x10_0020_0000);
        let error = space.region(&mut regions, 1 << 14, 4096, false).unwrap_err();
        assert_eq!(error, MemoryError::OutOfAddresses);
        assert_eq!(space.region(&mut regions, 1, 1 << 63, false), Err(MemoryError::OutOfAddresses));
    }

    #[test]
    fn refusals_reach_the_caller() {
        let mut space = space(64, &[]);
        let mut regions = Regions::new(REGIONS);
        let (at, _) = space.region(&mut regions, 2, 4096, true).unwrap();
        let frame = space.take_frame().unwrap();
        let again = space.map(frame, at, 1, Protection::Read);
        assert_eq!(again, Err(MemoryError::Refused(Error::Occupied)));
        space.unmap(at, 2).unwrap();
        space.map(frame, at, 1, Protection::Read).unwrap();
        assert_eq!(space.give_frame(frame), Err(MemoryError::Refused(Error::InUse)));
        space.unmap(at, 1).unwrap();
        space.give_frame(frame).unwrap();
    }
}
