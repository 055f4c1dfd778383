//! The kernel's final page tables: see `exo_boot::layout` for the map.
//! (Entry format: SDM vol. 3, 4.5.)

use exo_abi::{FRAME_BYTES, Pfn};
use exo_boot::layout::{DEVICES, DIRECT_MAP, KERNEL_BASE, KERNEL_LOAD};

use super::descriptors;
use super::machine::Machine;
use crate::arch::percpu;
use crate::memory;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 4 | 1 << 3;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGE_BYTES: u64 = 2 * 1024 * 1024;

unsafe extern "C" {
    // Made by the linker script; only their addresses mean anything.
    static kernel_start: u8;
    static kernel_text_end: u8;
    static kernel_rodata_end: u8;
    static kernel_end: u8;
    // The page below the stack that the boot entry begins on.
    static boot_stack_guard: u8;
}

/// The pages of the kernel's image that are not mapped.
pub(crate) fn guards() -> impl Iterator<Item = u64> {
    let boot = &raw const boot_stack_guard as u64;
    percpu::guards().chain(descriptors::guards()).chain([boot])
}

/// Builds the tables. Returns the root's frame, and the first of the direct map's lowest tables.
pub(super) fn build(machine: &mut Machine) -> [Pfn; 2] {
    let root = machine.allocate(1);
    let (memory_end, reach) = (machine.memory_end(), LARGE_BYTES as usize);
    // Small pages, because a single one can become code (`memory::protect`).
    let lowest = machine.allocate(memory_end.div_ceil(LARGE_BYTES) as u32);
    for (number, address) in (0..memory_end).step_by(FRAME_BYTES as usize).enumerate() {
        let value = address | PRESENT | WRITE | NO_EXECUTE;
        // SAFETY: one of the entries of these tables, which are the kernel's; nothing else uses
        // them yet.
        unsafe { memory::frame(lowest).cast::<u64>().add(number).write(value) };
    }
    // The image's own 2 MiB are left out, so that nothing of it has a second, writable
    // address.
    let all = (0..memory_end).step_by(reach).zip(0..);
    for (first, number) in all.filter(|(first, _)| *first != KERNEL_LOAD) {
        let value = lowest.plus(number).address() | PRESENT | WRITE;
        // SAFETY: as in `entry`.
        unsafe { entry(machine, root, DIRECT_MAP + first, 2, 0).write(value) };
    }
    for address in DEVICES.step_by(LARGE_BYTES as usize) {
        let value = address | PRESENT | WRITE | NO_EXECUTE | UNCACHED | LARGE;
        // SAFETY: as in `entry`.
        unsafe { entry(machine, root, DIRECT_MAP + address, 2, 0).write(value) };
    }
    let text = &raw const kernel_start as u64;
    let text_end = &raw const kernel_text_end as u64;
    let rodata_end = &raw const kernel_rodata_end as u64;
    let end = &raw const kernel_end as u64;
    assert!(end - KERNEL_BASE <= KERNEL_LOAD + LARGE_BYTES, "the kernel image is above 2 MiB");
    let emulated = descriptors::is_emulated();
    let is_mapped = |page: &u64| guards().all(|it| it != *page);
    for page in (text..end).step_by(FRAME_BYTES as usize).filter(is_mapped) {
        let rights = match page {
            _ if emulated && descriptors::user_segment_pages().any(|it| it == page) => {
                USER | NO_EXECUTE
            }
            _ if page < text_end => 0,
            _ if page < rodata_end => NO_EXECUTE,
            _ => WRITE | NO_EXECUTE,
        };
        let value = (page - KERNEL_BASE) | PRESENT | rights;
        // SAFETY: as in `entry`.
        unsafe { entry(machine, root, page, 1, rights & USER).write(value) };
    }
    [root, lowest]
}

/// The entry of `level` for `address`, after making tables above it. What ring 3 may is said in
/// the last table: those above allow what is in `user`.
fn entry(machine: &mut Machine, root: Pfn, address: u64, level: u32, user: u64) -> *mut u64 {
    let index = |level: u32| (address >> (12 + 9 * (level - 1))) as usize & 511;
    let mut table = root;
    for above in (level + 1..=4).rev() {
        // SAFETY: tables are zeroed frames of the kernel's, reached through the
        // boot tables' direct map; nothing else uses them yet.
        let entry = unsafe { &mut *memory::frame(table).cast::<u64>().add(index(above)) };
        if *entry & PRESENT == 0 {
            *entry = machine.allocate(1).address() | PRESENT | WRITE;
        }
        *entry |= user;
        table = Pfn(((*entry & ADDRESS) / FRAME_BYTES) as u32);
    }
    memory::frame(table).cast::<u64>().wrapping_add(index(level))
}
