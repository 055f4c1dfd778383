//! Frames taken by name, and pages mapped with tables on demand, in the own
//! address space or in that of an environment under construction.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    EnvId, Error, FrameInfo, FrameKind, Handle, LARGE_PAGES, Level, Pages, Pfn, Protection,
    VirtAddr,
};
use libos::memory::{BATCH, Range};
use libos::runtime::Environment;
use libos::sys;

/// The frames the program was granted.
#[derive(Clone, Copy)]
pub struct Frames {
    /// The published frame table of the whole machine.
    pub table: &'static [FrameInfo],
    /// The grant.
    pub range: Range,
    /// The capability for it.
    pub capability: Handle,
}

impl Frames {
    /// The grant of `environment`.
    pub fn of(environment: &Environment) -> Self {
        let start = &environment.start;
        Self {
            table: environment.frame_table,
            range: Range { first: start.first_frame, count: start.frame_count },
            capability: start.frames,
        }
    }

    /// What the frame table says of a frame: kind and owner.
    pub fn look(&self, pfn: Pfn) -> Option<(FrameKind, EnvId)> {
        let entry = self.table.get(pfn.0 as usize)?;
        let kind = FrameKind::from_u8(entry.kind.load(Relaxed))?;
        Some((kind, EnvId(entry.owner.load(Relaxed))))
    }

    /// Whether a frame belongs to the grant.
    pub fn grants(&self, pfn: Pfn) -> bool {
        (self.range.first.0..self.range.first.0 + self.range.count).contains(&pfn.0)
    }

    /// Every frame number of the machine.
    pub fn all(&self) -> impl Iterator<Item = Pfn> + use<> {
        (0..self.table.len() as u32).map(Pfn)
    }

    /// Number of free frames in the grant.
    pub fn free(&self) -> Pages {
        libos::memory::frames::count_free(self.table, self.range)
    }

    /// A run of `count` free frames of the grant, not taken yet. From the top, where
    /// the library OS, which takes from the bottom, comes last.
    pub fn find(&self, count: Pages) -> Option<Pfn> {
        let first = self.range.first.0;
        let mut run = 0;
        for number in (first..first + self.range.count).rev() {
            match self.look(Pfn(number)) {
                Some((FrameKind::Free, _)) => run += 1,
                _ => run = 0,
            }
            if run == count {
                return Some(Pfn(number));
            }
        }
        None
    }

    /// Takes `count` consecutive frames for `env`.
    ///
    /// # Errors
    /// [`Error::NotFree`] if there is no such run; the kernel's refusal.
    pub fn take(&self, env: Handle, count: Pages) -> Result<Pfn, Error> {
        let first = self.find(count).ok_or(Error::NotFree)?;
        let mut done = 0;
        while done < count {
            let piece = (count - done).min(BATCH);
            sys::frames_take(self.capability, env, first.plus(done), piece)?;
            done += piece;
        }
        Ok(first)
    }

    /// Takes the frames of a page of 2 MiB for `env`: aligned, and free before.
    ///
    /// # Errors
    /// [`Error::NotFree`] if there is no such run; the kernel's refusal.
    pub fn take_large(&self, env: Handle) -> Result<Pfn, Error> {
        let is_free = |pfn: Pfn| matches!(self.look(pfn), Some((FrameKind::Free, _)));
        let end = self.range.first.0 + self.range.count;
        let first = (self.range.first.0..end)
            .filter(|first| first.is_multiple_of(LARGE_PAGES) && first + LARGE_PAGES <= end)
            .map(Pfn)
            .find(|first| (0..LARGE_PAGES).all(|offset| is_free(first.plus(offset))))
            .ok_or(Error::NotFree)?;
        for offset in (0..LARGE_PAGES).step_by(BATCH as usize) {
            sys::frames_take(self.capability, env, first.plus(offset), BATCH)?;
        }
        Ok(first)
    }

    /// Puts in the page tables that a page of 2 MiB at `page` of `space` lacks.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn cover_large(&self, space: Handle, page: VirtAddr) -> Result<(), Error> {
        for level in (2..=3).rev().filter_map(Level::new) {
            self.install(space, page, level)?;
        }
        Ok(())
    }

    /// Gives `count` own frames back.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn give(&self, first: Pfn, count: Pages) -> Result<(), Error> {
        let mut done = 0;
        while done < count {
            let piece = (count - done).min(BATCH);
            sys::frames_free(first.plus(done), piece)?;
            done += piece;
        }
        Ok(())
    }

    /// Maps frames of `owner` one by one in `space`, which pays for page tables
    /// that are missing.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn map(
        &self,
        (space, owner): (Handle, Handle),
        first: Pfn,
        at: VirtAddr,
        count: Pages,
        protection: Protection,
    ) -> Result<(), Error> {
        for offset in 0..count {
            let page = at.plus(offset).ok_or(Error::BadAddress)?;
            let frame = first.plus(offset);
            match sys::map(space, owner, frame, page, 1, protection) {
                Err(Error::NoTable) => {
                    self.cover(space, page)?;
                    sys::map(space, owner, frame, page, 1, protection)?;
                }
                result => drop(result?),
            }
        }
        Ok(())
    }

    /// Puts in the page tables that `page` of `space` lacks.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn cover(&self, space: Handle, page: VirtAddr) -> Result<(), Error> {
        for level in (1..=3).rev().filter_map(Level::new) {
            self.install(space, page, level)?;
        }
        Ok(())
    }

    fn install(&self, space: Handle, page: VirtAddr, level: Level) -> Result<(), Error> {
        let frame = self.take(space, 1)?;
        match sys::table_install(space, page, level, frame) {
            // Not needed. Only the owner can give a frame back, so one for
            // another environment stays with it until it is destroyed.
            Err(Error::Occupied) if space == SELF => self.give(frame, 1),
            Err(Error::Occupied) => Ok(()),
            result => result.map(drop),
        }
    }

    /// A zeroed frame of the program's own, mapped read and write at `at`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn page(&self, at: VirtAddr) -> Result<Pfn, Error> {
        let frame = self.take(SELF, 1)?;
        self.map((SELF, SELF), frame, at, 1, Protection::ReadWrite)?;
        Ok(frame)
    }

    /// Takes a page from [`Frames::page`] away again.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn drop_page(&self, at: VirtAddr, frame: Pfn) -> Result<(), Error> {
        sys::unmap(SELF, at, 1)?;
        self.give(frame, 1)
    }
}

/// Where these programs map what they look at: between the stack and the frame
/// table, which `libos::memory::layout` leaves alone. `index` counts pages.
pub const fn window(index: u32) -> VirtAddr {
    const START: u64 = 0x2200_0000;
    match VirtAddr::new(START + index as u64 * exo_abi::FRAME_BYTES) {
        Some(at) => at,
        None => panic!("a page of user space"),
    }
}

/// The word at `at`, which must be mapped readable.
pub fn read(at: VirtAddr, offset: usize) -> u64 {
    let at = core::ptr::with_exposed_provenance::<u64>(at.get() as usize + (offset & 0xff8));
    // SAFETY: the caller has mapped the page; any bytes are a `u64`, and volatile
    // because the page may change under another name.
    unsafe { at.read_volatile() }
}

/// Writes a word at `at`, which must be mapped writable and used by nothing else.
pub fn write(at: VirtAddr, offset: usize, word: u64) {
    let at = core::ptr::with_exposed_provenance_mut::<u64>(at.get() as usize + (offset & 0xff8));
    // SAFETY: the caller has mapped the page for this purpose.
    unsafe { at.write_volatile(word) };
}
