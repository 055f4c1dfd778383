//! What the devices have in common: virtio over memory-mapped registers.
//!
//! The network interface ([`crate::net::nic`]) and the disk ([`crate::disk::device`]) lie over
//! it. On a packet's path this is where steps 1 and 6 meet the machine.

pub mod transport;
pub mod virtqueue;
