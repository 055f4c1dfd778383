//! A device's registers: which device it is, what it and the driver agree on, where the queues
//! lie (virtio 1.1, 4.2 and 3.1.1).
//!
//! After the start three registers are left: the one that tells the device to look at a queue,
//! the one that lowers its interrupt line, and its own configuration.

use super::virtqueue::{ENTRIES, Virtqueue};

/// Register offsets and status bits (4.2.2, 2.1).
mod register {
    pub(super) const MAGIC: usize = 0x00;
    pub(super) const VERSION: usize = 0x04;
    pub(super) const DEVICE_ID: usize = 0x08;
    pub(super) const DEVICE_FEATURES: usize = 0x10;
    pub(super) const DEVICE_FEATURES_PAGE: usize = 0x14;
    pub(super) const DRIVER_FEATURES: usize = 0x20;
    pub(super) const DRIVER_FEATURES_PAGE: usize = 0x24;
    pub(super) const QUEUE: usize = 0x30;
    pub(super) const QUEUE_SIZE_MAX: usize = 0x34;
    pub(super) const QUEUE_SIZE: usize = 0x38;
    pub(super) const QUEUE_READY: usize = 0x44;
    pub(super) const QUEUE_NOTIFY: usize = 0x50;
    pub(super) const INTERRUPT_ACK: usize = 0x64;
    pub(super) const STATUS: usize = 0x70;
    pub(super) const QUEUE_ADDRESSES: [usize; 3] = [0x80, 0x90, 0xa0];
    pub(super) const CONFIG: usize = 0x100;

    pub(super) const USED_BUFFER: u32 = 1;
    pub(super) const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"virt");
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
}

/// The feature that the queues rely on: event indices.
pub const EVENT_INDEX: u32 = 1 << 29;
/// Feature 32: version 1.
const VERSION_1: u32 = 1 << 0;

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

    fn read(&self, offset: usize) -> u32 {
        // SAFETY: a transport is mapped here (`new`), and the offsets are those
        // of its registers.
        unsafe { self.0.byte_add(offset).read_volatile() }
    }

    fn write(&mut self, offset: usize, value: u32) {
        // SAFETY: as in `read`. The addresses given to the device are those of
        // memory set aside for it.
        unsafe { self.0.byte_add(offset).write_volatile(value) };
    }

    /// If it is a device of type `id`, resets it and agrees with it on features 0 to 31: all
    /// of `required`, and those of `optional` that it has. Returns them.
    pub fn negotiate(&mut self, id: u32, required: u32, optional: u32) -> Option<u32> {
        if self.read(register::MAGIC) != register::MAGIC_VALUE
            || self.read(register::VERSION) != 2
            || self.read(register::DEVICE_ID) != id
        {
            return None;
        }
        let status = register::ACKNOWLEDGE | register::DRIVER;
        self.write(register::STATUS, 0);
        self.write(register::STATUS, status);
        let mut agreed = [0; 2];
        let pages = [(required, required | optional), (VERSION_1, VERSION_1)];
        for ((page, (required, wanted)), agreed) in (0..).zip(pages).zip(&mut agreed) {
            self.write(register::DEVICE_FEATURES_PAGE, page);
            *agreed = self.read(register::DEVICE_FEATURES) & wanted;
            if *agreed & required != required {
                return None;
            }
            self.write(register::DRIVER_FEATURES_PAGE, page);
            self.write(register::DRIVER_FEATURES, *agreed);
        }
        self.write(register::STATUS, status | register::FEATURES_OK);
        let accepted = self.read(register::STATUS) & register::FEATURES_OK != 0;
        accepted.then_some(agreed[0])
    }

    /// Tells the device where queue `number` lies. None if it has no such queue.
    pub fn set_queue(&mut self, number: u32, queue: &Virtqueue) -> Option<()> {
        self.write(register::QUEUE, number);
        if self.read(register::QUEUE_SIZE_MAX) < u32::from(ENTRIES) {
            return None;
        }
        self.write(register::QUEUE_SIZE, u32::from(ENTRIES));
        for (offset, address) in register::QUEUE_ADDRESSES.into_iter().zip(queue.addresses()) {
            self.write(offset, address as u32);
            self.write(offset + 4, (address >> 32) as u32);
        }
        self.write(register::QUEUE_READY, 1);
        Some(())
    }

    /// The device begins to work.
    pub fn start(&mut self) {
        let status = self.read(register::STATUS);
        self.write(register::STATUS, status | register::DRIVER_OK);
    }

    /// The word at `offset` of the device's own configuration.
    pub fn config(&self, offset: usize) -> u32 {
        self.read(register::CONFIG + offset)
    }

    /// Tells the device to look at queue `number`.
    #[inline]
    pub fn notify(&mut self, number: u32) {
        self.write(register::QUEUE_NOTIFY, number);
    }

    /// Lowers the interrupt line, whether or not it was raised: one that was not lowered
    /// cannot rise (4.2.2).
    #[inline]
    pub fn lower_interrupt(&mut self) {
        self.write(register::INTERRUPT_ACK, register::USED_BUFFER);
    }
}
