//! Binding an extent in the running environment.

use core::ptr::NonNull;

use exo_abi::{Error, FRAME_BYTES, Handle, Word};

use super::{Blocking, Buffer, Disk, Doorbell, Extent};
use crate::memory::MemoryError;
use crate::memory::guest::Memory;
use crate::sched::KernelPark;
use crate::sys;

/// The kernel's side of a binding.
#[derive(Debug)]
pub struct Kernel {
    binding: Handle,
}

impl Doorbell for Kernel {
    fn ring(&mut self) -> Result<u32, Error> {
        sys::disk_sync(self.binding).map(|taken| taken as u32)
    }
}

/// Binds the extent that `disk` is a capability for: two frames of the environment's.
///
/// # Errors
/// [`Error::NoDevice`], or the kernel's refusal; [`Error::NotFree`] if there is no memory.
pub fn open(memory: Memory, disk: Handle, extent: Extent) -> Result<Disk<Kernel>, Error> {
    let (at, ring) = memory.map_device_run(1).map_err(refusal)?;
    let object = memory.take_frame().map_err(refusal)?;
    let binding = Handle::from_word(sys::disk_bind(disk, ring, object)?)?;
    // SAFETY: a page that was just mapped for it, read and write and for ever, and bound.
    Ok(unsafe { Disk::new(at.cast(), extent, Kernel { binding }) })
}

/// The same for one request at a time, through a buffer of `pages` pages.
///
/// # Errors
/// As [`open`].
pub fn blocking(
    memory: Memory,
    park: KernelPark,
    disk: Handle,
    extent: Extent,
    pages: u32,
) -> Result<Blocking<Kernel, KernelPark>, Error> {
    let buffer = Buffer::map(memory, pages)?;
    Ok(Blocking::new(open(memory, disk, extent)?, park, buffer))
}

impl Buffer {
    /// A new buffer of so many pages.
    ///
    /// # Errors
    /// [`Error::NotFree`] if so many consecutive frames are not there.
    pub fn map(memory: Memory, pages: u32) -> Result<Self, Error> {
        let (at, first): (NonNull<u8>, _) = memory.map_device_run(pages).map_err(refusal)?;
        let bytes = pages as usize * FRAME_BYTES as usize;
        // SAFETY: consecutive frames, mapped just now, read and write and for ever, zeroed by the
        // kernel; their addresses are handed out once.
        Ok(unsafe { Self::new(at, bytes, first.address()) })
    }
}

fn refusal(error: MemoryError) -> Error {
    match error {
        MemoryError::Refused(error) => error,
        _ => Error::NotFree,
    }
}
