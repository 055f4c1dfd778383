//! Memory of a process: frames are numbers under a grant, regions are the process's own.

use std::boxed::Box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec;

use exo_abi::{Error, FRAME_BYTES, FrameInfo, Level, Pages, Pfn, Protection, VirtAddr};

use crate::memory::frames::{FrameSource, NextFit};
use crate::memory::model::Model;
use crate::memory::{MemoryCalls, MemoryError, Range, Run};

/// The first frame of the grant; the machine's are somewhere, too.
const FIRST: u32 = 0x1000;

/// The environment's memory. All values of this type mean the same.
#[derive(Clone, Copy)]
pub struct Memory {
    state: &'static Mutex<State>,
}

struct State {
    kernel: Model,
    frames: NextFit,
}

impl Memory {
    /// Memory with a grant of so many frames.
    pub(super) fn new(frames: u32) -> Self {
        let kernel = Model::new(FIRST, frames, &[]);
        let frames = NextFit::new(kernel.range());
        Self { state: Box::leak(Box::new(Mutex::new(State { kernel, frames }))) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// [`MemoryError::OutOfFrames`].
    pub fn take_frame(&self) -> Result<Pfn, MemoryError> {
        let State { kernel, frames } = &mut *self.state();
        let run = frames.take(kernel, 1, 1).ok_or(MemoryError::OutOfFrames)?;
        Ok(run.first)
    }

    /// Gives back a frame from [`Memory::take_frame`].
    ///
    /// # Errors
    /// The refusal that the kernel would give.
    pub fn give_frame(&self, frame: Pfn) -> Result<(), MemoryError> {
        let State { kernel, frames } = &mut *self.state();
        Ok(frames.give(kernel, Run { first: frame, count: 1 })?)
    }

    /// A new region of up to `pages` zeroed pages; fewer if frames ran out. It counts against the
    /// grant.
    ///
    /// # Errors
    /// [`MemoryError`], if there was not a single page.
    pub fn map_region(&self, pages: Pages) -> Result<&'static mut [u8], MemoryError> {
        let mut taken = 0;
        while taken < pages && self.take_frame().is_ok() {
            taken += 1;
        }
        region(taken)
    }

    /// The kernel's calls and the range of the frames granted, to take some by another policy: the
    /// model keeps the two apart, as the kernel does.
    #[must_use]
    pub fn grant(&self) -> Option<(HostCalls, Range)> {
        Some((HostCalls(*self), self.state().kernel.range()))
    }

    /// [`Memory::map_region`] of frames that `frames` chooses from the same grant.
    ///
    /// # Errors
    /// [`MemoryError`], if there was not a single page.
    pub fn map_region_with(
        &self,
        frames: &mut dyn FrameSource,
        pages: Pages,
    ) -> Result<&'static mut [u8], MemoryError> {
        let mut taken = 0;
        while let Some(run) = frames.take(&mut HostCalls(*self), 1, pages - taken) {
            taken += run.count;
        }
        region(taken)
    }

    /// The frame table, as the model keeps it.
    pub(super) fn frame_table(&self) -> &'static [FrameInfo] {
        self.state().kernel.table()
    }

    /// Pages for a device: there is none here.
    ///
    /// # Errors
    /// Always [`MemoryError::NotHosted`].
    pub fn map_device_run(&self, _: Pages) -> Result<(core::ptr::NonNull<u8>, Pfn), MemoryError> {
        Err(MemoryError::NotHosted("frames for a device"))
    }

    /// Frames of the grant that are free.
    pub(super) fn free_frames(&self) -> u32 {
        self.state().kernel.free_count() as u32
    }
}

/// So many pages of the process, for good.
fn region(pages: Pages) -> Result<&'static mut [u8], MemoryError> {
    if pages == 0 {
        return Err(MemoryError::OutOfFrames);
    }
    let bytes = vec![0; pages as usize * FRAME_BYTES as usize];
    Ok(Box::leak(bytes.into_boxed_slice()))
}

/// The kernel's calls, which the model serves.
#[derive(Clone, Copy)]
pub struct HostCalls(Memory);

impl MemoryCalls for HostCalls {
    fn take(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
        self.0.state().kernel.take(first, count)
    }

    fn free(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
        self.0.state().kernel.free(first, count)
    }

    fn install_table(&mut self, at: VirtAddr, level: Level, frame: Pfn) -> Result<(), Error> {
        self.0.state().kernel.install_table(at, level, frame)
    }

    fn map(
        &mut self,
        first: Pfn,
        at: VirtAddr,
        count: Pages,
        protection: Protection,
    ) -> Result<(), Error> {
        self.0.state().kernel.map(first, at, count, protection)
    }

    fn unmap(&mut self, at: VirtAddr, count: Pages) -> Result<(), Error> {
        self.0.state().kernel.unmap(at, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_is_the_limit() {
        let memory = Memory::new(8);
        let frame = memory.take_frame().unwrap();
        assert_eq!(memory.free_frames(), 7);
        memory.give_frame(frame).unwrap();
        assert!(
            matches!(memory.give_frame(frame), Err(MemoryError::Refused(_))),
            "it is not taken"
        );
        let region = memory.map_region(6).unwrap();
        assert!(region.len() == 6 * 4096 && region.iter().all(|&byte| byte == 0));
        assert_eq!(memory.map_region(5).map(|region| region.len()), Ok(2 * 4096), "what is left");
        assert_eq!(memory.map_region(1).map(|_| ()), Err(MemoryError::OutOfFrames));
        assert_eq!(memory.take_frame(), Err(MemoryError::OutOfFrames));
        let refused = memory.map_device_run(1).map(|_| ());
        assert_eq!(refused, Err(MemoryError::NotHosted("frames for a device")));
    }
}
