//! Memory that the disk reads and fills.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A piece of memory of which the device knows the place, in consecutive frames. It is one
/// owner's: while the device uses it, that is the driver.
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    address: u64,
}

impl Buffer {
    /// The memory of `bytes` bytes at `start`, which lies at physical address `address`.
    ///
    /// # Safety
    /// It must be valid for reads and writes for ever, initialised, in consecutive frames, and used
    /// through this value alone.
    pub unsafe fn new(start: NonNull<u8>, bytes: usize, address: u64) -> Self {
        Self { start, bytes, address }
    }

    /// Its physical address.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: valid and this value's alone (`new`); the driver has taken the value for as long
        // as the device writes there.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {:#x})", self.bytes, self.address)
    }
}
