//! The devices: each transport that the command line names is asked whether it is one.

use exo_abi::SystemInfo;
use exo_boot::layout::DIRECT_MAP;

use super::machine::Machine;
use super::{timer, virtio};
use crate::arch::apic;
use crate::disk::device::{DISK_FRAMES, Device};
use crate::net::nic::{NIC_FRAMES, Nic};
use crate::virtio::transport::Transport;
use core::sync::atomic::Ordering::Relaxed;

/// Starts the first network interface and the first disk, as far as there are any, and
/// publishes what they are.
pub(super) fn start(machine: &mut Machine, info: &SystemInfo) -> (Option<Nic>, Option<Device>) {
    let (nic_memory, disk_memory) = (machine.allocate(NIC_FRAMES), machine.allocate(DISK_FRAMES));
    // SAFETY: the memory was set aside just now, and one device at most takes it.
    let nic = find(machine, |transport| unsafe { virtio::nic(transport, nic_memory) });
    // SAFETY: as above.
    let disk = find(machine, |transport| unsafe { virtio::disk(transport, disk_memory) });
    if let Some(nic) = &nic {
        let mut mac = [0; 8];
        mac[..6].copy_from_slice(&nic.station);
        info.mac.store(u64::from_le_bytes(mac), Relaxed);
    }
    let sectors = disk.as_ref().map_or(0, |disk| disk.sectors);
    info.disk_sectors.store(sectors.into(), Relaxed);
    (nic, disk)
}

/// The first device that `start` has a use for; its interrupts come from now on.
fn find<T>(machine: &Machine, start: impl Fn(Transport) -> Option<T>) -> Option<T> {
    machine.transports().find_map(|(address, line)| {
        // SAFETY: the command line names the transports, and the direct map has the device range
        // uncached.
        let transport = unsafe { Transport::new((DIRECT_MAP + address) as *mut u8) };
        start(transport).inspect(|_| timer::route(line, apic::DEVICE_VECTOR))
    })
}
