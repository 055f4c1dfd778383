//! A device's registers (virtio 1.1, 4.2). After the start (`start::virtio`) two are left: the one
//! that tells the device to look at a queue, and the one that lowers its interrupt line.

/// Register offsets, and the interrupt that says that a buffer was used (4.2.2).
const QUEUE_NOTIFY: usize = 0x50;
const INTERRUPT_ACK: usize = 0x64;
const USED_BUFFER: u32 = 1;

/// A device's memory-mapped registers (4.2.2).
pub struct Transport(*mut u32);

impl Transport {
    /// Registers at virtual address `base`.
    ///
    /// # Safety
    /// A virtio-mmio transport must be mapped there, uncached.
    pub unsafe fn new(base: *mut u8) -> Self {
        Self(base.cast())
    }

    /// The register at `offset`, which must be one.
    pub(crate) fn read(&self, offset: usize) -> u32 {
        // SAFETY: a transport is mapped here (`new`), and the offsets, given here and in
        // `start::virtio` alone, are those of its registers.
        unsafe { self.0.byte_add(offset).read_volatile() }
    }

    /// Writes the register at `offset`, which must be one.
    pub(crate) fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `read`. The addresses given to the device are those of
        // memory set aside for it.
        unsafe { self.0.byte_add(offset).write_volatile(value) };
    }

    /// Tells the device to look at queue `number`.
    #[inline]
    pub fn notify(&mut self, number: u32) {
        self.write(QUEUE_NOTIFY, number);
    }

    /// Lowers the interrupt line, whether or not it was raised: one that was not lowered
    /// cannot rise (4.2.2).
    #[inline]
    pub fn lower_interrupt(&mut self) {
        self.write(INTERRUPT_ACK, USED_BUFFER);
    }
}
