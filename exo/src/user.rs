//! Memory that ring 3 points to: allegations, checked page by page.
//!
//! The kernel never dereferences a user address. It looks each page up in the
//! caller's own page tables, checks that ring 3 itself could have made the
//! access, and goes through the direct map. So a wild pointer is an error
//! value, no fault can happen in ring 0, and supervisor-mode access prevention
//! is never lifted. What is copied in is copied once and checked afterwards.

use core::sync::atomic::AtomicU64;

use exo_abi::{Error, FRAME_BYTES, FrameKind, Pfn, UserPtr, VirtAddr};

use crate::frames::FrameTable;
use crate::memory;
use crate::paging;

/// User memory from an address on, as alleged by a caller; as long as what it is copied to
/// or from.
#[derive(Clone, Copy)]
pub struct UserSlice {
    root: Pfn,
    start: u64,
}

impl UserSlice {
    /// The bytes from `pointer` on in the address space of `root`.
    pub const fn new(root: Pfn, pointer: UserPtr) -> Self {
        Self { root, start: pointer.0 }
    }

    /// Fills `target` from there.
    ///
    /// # Errors
    /// [`Error::BadPointer`] if ring 3 could not read all of it.
    pub fn copy_in(self, frames: &FrameTable, target: &mut [u8]) -> Result<(), Error> {
        let length = target.len();
        let target = target.as_mut_ptr();
        self.each_part(frames, length, false, |memory, offset, bytes| {
            // SAFETY: `each_part` gives ranges inside one frame of user memory
            // and offsets inside the target. The
            // bytes may change while they are read; they are only bytes.
            unsafe { memory.copy_to_nonoverlapping(target.add(offset), bytes) };
        })
    }

    /// Copies `source` there. If it fails, a part may have been written.
    ///
    /// # Errors
    /// [`Error::BadPointer`] if ring 3 could not write all of it.
    pub fn copy_out(self, frames: &FrameTable, source: &[u8]) -> Result<(), Error> {
        let length = source.len();
        let source = source.as_ptr();
        self.each_part(frames, length, true, |memory, offset, bytes| {
            // SAFETY: as in `copy_in`; ring 3 may write this frame, so no
            // kernel object lies in it.
            unsafe { memory.copy_from_nonoverlapping(source.add(offset), bytes) };
        })
    }

    fn each_part(
        self,
        frames: &FrameTable,
        length: usize,
        write: bool,
        mut part: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < length {
            let address = self.start.checked_add(done as u64).ok_or(Error::BadPointer)?;
            let in_page = (address % FRAME_BYTES) as usize;
            let page = VirtAddr::new(address - in_page as u64).ok_or(Error::BadPointer)?;
            let pfn = paging::translate(frames, self.root, page, write).ok_or(Error::BadPointer)?;
            let bytes = (FRAME_BYTES as usize - in_page).min(length - done);
            part(memory::frame(pfn).wrapping_add(in_page), done, bytes);
            done += bytes;
        }
        Ok(())
    }
}

/// Rows of `N` words within one page of user memory, both ways. The frame is pinned
/// while they are held, so that it stays what it is whatever happens to the mapping.
pub struct UserWords<'a, const N: usize> {
    frames: &'a FrameTable,
    pfn: Pfn,
    rows: &'static [[AtomicU64; N]],
}

impl<'a, const N: usize> UserWords<'a, N> {
    /// Holds the `rows` rows at `pointer` in the address space of `root`.
    ///
    /// # Errors
    /// [`Error::BadPointer`] if ring 3 could not write all of them, or they are not
    /// aligned, or not in one page.
    pub fn hold(
        frames: &'a FrameTable,
        root: Pfn,
        pointer: UserPtr,
        rows: usize,
    ) -> Result<Self, Error> {
        let in_page = (pointer.0 % FRAME_BYTES) as usize;
        if !in_page.is_multiple_of(8) || in_page + rows * N * 8 > FRAME_BYTES as usize {
            return Err(Error::BadPointer);
        }
        let page = VirtAddr::new(pointer.0 - in_page as u64).ok_or(Error::BadPointer)?;
        let pfn = paging::translate(frames, root, page, true).ok_or(Error::BadPointer)?;
        // A frame that is being taken away is still mapped, and would not stay.
        if !matches!(frames.kind(pfn), Some(FrameKind::Memory | FrameKind::UArea)) {
            return Err(Error::BadPointer);
        }
        frames.pin(pfn)?;
        let start = memory::frame(pfn).wrapping_add(in_page).cast();
        // SAFETY: inside one frame, aligned; ring 3 can write it, so no kernel object
        // lies in it, nor will while it is pinned. Atomics may change at any time.
        let rows = unsafe { core::slice::from_raw_parts(start, rows) };
        Ok(Self { frames, pfn, rows })
    }

    /// The words.
    pub fn get(&self) -> &[[AtomicU64; N]] {
        self.rows
    }
}

impl<const N: usize> Drop for UserWords<'_, N> {
    fn drop(&mut self) {
        self.frames.unpin(self.pfn);
    }
}
