//! What a virtio device and its driver agree on, and where its queues lie (virtio 1.1, 3.1.1 and
//! 4.2): the registers that nothing looks at again.

use exo_abi::Pfn;

use crate::disk::device::{self, Device};
use crate::net::nic::{self, Nic};
use crate::virtio::transport::Transport;
use crate::virtio::virtqueue::{ENTRIES, QUEUE_FRAMES, Virtqueue};

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
    pub(super) const STATUS: usize = 0x70;
    pub(super) const QUEUE_ADDRESSES: [usize; 3] = [0x80, 0x90, 0xa0];
    pub(super) const CONFIG: usize = 0x100;

    pub(super) const MAGIC_VALUE: u32 = u32::from_le_bytes(*b"virt");
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
}

/// Types of devices (5).
const NETWORK: u32 = 1;
const BLOCK: u32 = 2;
/// Features 0 to 31: the interface's address; flush, by which writes become durable, and nothing is
/// promised without it; and event indices, on which the queues rely.
const ADDRESS: u32 = 1 << 5;
const FLUSH: u32 = 1 << 9;
const EVENT_INDEX: u32 = 1 << 29;
/// Feature 32: version 1.
const VERSION_1: u32 = 1 << 0;

/// Starts the network interface behind `transport`, if it is one, with the
/// [`nic::NIC_FRAMES`] frames from `memory`.
///
/// # Safety
/// The frames must be zeroed, contiguous and the kernel's own for ever.
pub unsafe fn nic(mut transport: Transport, memory: Pfn) -> Option<Nic> {
    transport.negotiate(NETWORK, ADDRESS | EVENT_INDEX, 0)?;
    // SAFETY: the queues' frames are the first four of those given.
    let queues = unsafe { [Virtqueue::new(memory), Virtqueue::new(memory.plus(QUEUE_FRAMES))] };
    for (number, queue) in [nic::RECEIVE, nic::TRANSMIT].into_iter().zip(&queues) {
        transport.set_queue(number, queue)?;
    }
    let mut station = [0; 6];
    station[..4].copy_from_slice(&transport.config(0).to_le_bytes());
    station[4..].copy_from_slice(&transport.config(4).to_le_bytes()[..2]);
    transport.start();
    Some(Nic::new(transport, queues, memory.plus(2 * QUEUE_FRAMES), station))
}

/// Starts the disk behind `transport`, if it is one, with the [`device::DISK_FRAMES`] frames from
/// `memory`.
///
/// # Safety
/// The frames must be zeroed, contiguous and the kernel's own for ever.
pub unsafe fn disk(mut transport: Transport, memory: Pfn) -> Option<Device> {
    let optional = device::DISCARD | device::WRITE_ZEROES;
    let features = transport.negotiate(BLOCK, EVENT_INDEX | FLUSH, optional)?;
    // SAFETY: the queue's frames are the first two of those given.
    let queue = unsafe { Virtqueue::new(memory) };
    transport.set_queue(device::QUEUE, &queue)?;
    let capacity = u64::from(transport.config(0)) | u64::from(transport.config(4)) << 32;
    transport.start();
    let sectors = u32::try_from(capacity).unwrap_or(u32::MAX);
    Some(Device::new(transport, queue, memory.plus(QUEUE_FRAMES), features, sectors))
}

impl Transport {
    /// If it is a device of type `id`, resets it and agrees with it on features 0 to 31: all
    /// of `required`, and those of `optional` that it has. Returns them.
    fn negotiate(&mut self, id: u32, required: u32, optional: u32) -> Option<u32> {
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
    fn set_queue(&mut self, number: u32, queue: &Virtqueue) -> Option<()> {
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
    fn start(&mut self) {
        let status = self.read(register::STATUS);
        self.write(register::STATUS, status | register::DRIVER_OK);
    }

    /// The word at `offset` of the device's own configuration.
    fn config(&self, offset: usize) -> u32 {
        self.read(register::CONFIG + offset)
    }
}
