//! An address space under construction.

use core::cell::Cell;

use exo_abi::boot::{SELF, STACK_TOP, U_AREA};
use exo_abi::{
    Error, FRAME_BYTES, Handle, Pages, Pfn, Protection, START_BLOCK_BYTES, UArea, UserPtr,
    VirtAddr, Word,
};
use exo_bundle::Image;

use super::space;
use crate::memory::{BATCH, Range};
use crate::start::StartBlock;
use crate::sys;

/// Pages of an application's stack.
pub const STACK_PAGES: Pages = 64;
/// Frames of an environment's object, root table, capability table and U-area.
pub const PARTS: Pages = 4;

/// Makes an environment from an image, fed from a range of frames that is to be the child's: what an
/// application is made of counts against what it may have.
pub struct Builder {
    env: Handle,
    /// What the range's frames are taken with.
    frames: Handle,
    u_area: Pfn,
    range: Range,
    /// Frames used so far, from the top of the range down.
    used: Cell<Pages>,
    /// Where the child's pages are mapped to fill them: one batch.
    window: VirtAddr,
    /// Whether it takes part in protection keys.
    guarded: Cell<bool>,
}

impl Builder {
    /// An environment without anything, of the uppermost frames of `range`, which `frames` is a
    /// capability over. Addresses for a batch of pages from `window` on are unused.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn new(frames: Handle, range: Range, window: VirtAddr) -> Result<Self, Error> {
        let first =
            Pfn((range.first.0 + range.count).checked_sub(PARTS).ok_or(Error::OutOfRange)?);
        sys::frames_take(frames, SELF, first, PARTS)?;
        let u_area = first.plus(3);
        let env = sys::env_create(first, first.plus(1), first.plus(2), u_area)?;
        let env = Handle::from_word(env)?;
        Ok(Self {
            env,
            frames,
            u_area,
            range,
            used: Cell::new(PARTS),
            window,
            guarded: Cell::new(false),
        })
    }

    /// The environment.
    pub fn env(&self) -> Handle {
        self.env
    }

    /// Has it take part in protection keys, if processors have them: then what is loaded as code
    /// is admitted first. Before anything is mapped.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn guard(&self) -> Result<(), Error> {
        match sys::env_guard(self.env) {
            Err(Error::NoDevice) => Ok(()),
            guarded => guarded.map(|_| self.guarded.set(true)),
        }
    }

    /// Maps the segments of `image`, each in consecutive frames, and a stack.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::OutOfRange`] if the range has too few frames;
    /// [`Error::NoRight`] for code that is not admitted.
    pub fn load(&self, image: &Image<'_>) -> Result<(), Error> {
        for segment in image.segments() {
            let protection = match (segment.writable(), segment.executable()) {
                (true, _) => Protection::ReadWrite,
                (false, true) => Protection::ReadExecute,
                (false, false) => Protection::Read,
            };
            let pages = segment.mem_len.div_ceil(FRAME_BYTES) as u32;
            self.fill(segment.va, pages, segment.data, protection)?;
        }
        let stack = STACK_TOP - u64::from(STACK_PAGES) * FRAME_BYTES;
        self.fill(stack, STACK_PAGES, &[], Protection::ReadWrite)
    }

    /// Takes `count` consecutive frames of the range for the child.
    ///
    /// # Errors
    /// As [`Builder::load`].
    pub fn take(&self, count: Pages) -> Result<Pfn, Error> {
        let used = self.used.get() + count;
        let offset = self.range.count.checked_sub(used).ok_or(Error::OutOfRange)?;
        let first = self.range.first.plus(offset);
        for done in (0..count).step_by(BATCH as usize) {
            let piece = BATCH.min(count - done);
            sys::frames_take(self.frames, self.env, first.plus(done), piece)?;
        }
        self.used.set(used);
        Ok(first)
    }

    /// Maps `pages` fresh pages at `address`, which begin with `data`.
    fn fill(
        &self,
        address: u64,
        pages: Pages,
        data: &[u8],
        protection: Protection,
    ) -> Result<(), Error> {
        let at = VirtAddr::new(address).ok_or(Error::BadAddress)?;
        let run = self.take(pages)?;
        let admits = self.guarded.get() && protection == Protection::ReadExecute;
        let mut chunks = data.chunks((BATCH as u64 * FRAME_BYTES) as usize);
        let mut done = 0;
        while done < pages {
            let count = BATCH.min(pages - done);
            let first = run.plus(done);
            if let Some(chunk) = chunks.next() {
                self.write((self.env, first), count, 0, chunk)?;
            }
            for page in 0..if admits { count } else { 0 } {
                sys::code_admit(self.env, first.plus(page), Handle::NONE)?;
            }
            let here = at.plus(done).ok_or(Error::BadAddress)?;
            let table = || self.take(1);
            space::map(self.env, self.env, first, here, count, protection, table)?;
            done += count;
        }
        Ok(())
    }

    /// Writes `bytes` at `offset` of `count` frames, a batch at most, of an owner.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::OutOfRange`] if they do not fit.
    pub fn write(
        &self,
        (owner, first): (Handle, Pfn),
        count: Pages,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let room = count.min(BATCH) as usize * FRAME_BYTES as usize;
        if offset.checked_add(bytes.len()).is_none_or(|end| end > room) {
            return Err(Error::OutOfRange);
        }
        let protection = Protection::ReadWrite;
        space::map(SELF, owner, first, self.window, count, protection, space::own_frame)?;
        let window = self.window.get() as usize + offset;
        let window: *mut u8 = core::ptr::with_exposed_provenance_mut(window);
        // SAFETY: `count` pages were just mapped here read and write, and the bytes fit them; nothing
        // else refers to the window.
        unsafe { window.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        sys::unmap(SELF, self.window, count).map(drop)
    }

    /// Maps the U-area for the child, with what it is told.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::TooMuch`] if it is told too much.
    pub fn tell(&self, start: &StartBlock<'_>) -> Result<(), Error> {
        let mut block = [0; START_BLOCK_BYTES];
        start.write(&mut block).ok_or(Error::TooMuch)?;
        let offset = core::mem::offset_of!(UArea, start);
        self.write((self.env, self.u_area), 1, offset, &block)?;
        let at = VirtAddr::new(U_AREA).ok_or(Error::BadAddress)?;
        let protection = Protection::ReadWrite;
        space::map(self.env, self.env, self.u_area, at, 1, protection, || self.take(1))
    }

    /// Lets the child run from `entry` on. It needs slots for that, too.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn start(&self, entry: u64) -> Result<(), Error> {
        sys::env_start(self.env, UserPtr(entry), UserPtr(STACK_TOP), U_AREA).map(drop)
    }
}
