//! Memory of a process: frames are numbers under a grant, regions are the process's own.

use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;

use exo_abi::{FRAME_BYTES, Pages, Pfn};

use crate::memory::frames::{FrameSource, NextFit};
use crate::memory::model::Model;
use crate::memory::{MemoryError, Run};

/// The first frame of the grant; the machine's are somewhere, too.
const FIRST: u32 = 0x1000;

/// The environment's memory. Clones mean the same.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
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
        Self { state: Arc::new(Mutex::new(State { kernel, frames })) }
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
        if taken == 0 {
            return Err(MemoryError::OutOfFrames);
        }
        let bytes = vec![0; taken as usize * FRAME_BYTES as usize];
        Ok(Box::leak(bytes.into_boxed_slice()))
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
