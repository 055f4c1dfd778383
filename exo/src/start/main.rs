//! The order in which the machine is set up, by its first processor.

use core::cell::RefCell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{ABI_VERSION, FRAME_BYTES, FrameKind, SystemInfo};

use super::machine::Machine;
use super::secret::mix;
use super::{descriptors, devices, first, layout, others, processor, timer};
use crate::arch::{cpu, percpu};
use crate::frames::FrameTable;
use crate::kernel::{self, Kernel};
use crate::net::Net;
use crate::net::scope::Scope;
use crate::net::storage::Merged;
use crate::state::State;
use crate::{memory, say};

exo_boot::pvh_entry!();

/// Called by the boot entry with the physical address of the start information.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: u64) -> ! {
    // SAFETY: first code to run, once, with interrupts off. The boot tables map
    // everything writable, so protection comes on with the final tables below.
    unsafe { descriptors::load(0) };
    let started = cpu::time_stamp();
    let mut machine = Machine::discover(start_info);
    let tables @ [root_table, _] = layout::build(&mut machine);
    // SAFETY: the final tables map the image and the direct map as the boot
    // tables do, with protection that `layout::build` gives each part.
    unsafe {
        processor::enable_protection();
        cpu::set_page_table(root_table.address());
        processor::accept_calls();
    }
    let info_frame = machine.allocate(2);
    // SAFETY: an allocated, zeroed frame of the kernel; all fields are atomics,
    // so it may be shared for ever.
    let info: &'static SystemInfo = unsafe { &*memory::frame(info_frame).cast() };
    info.abi_version.store(ABI_VERSION, Relaxed);
    info.keys.store(crate::arch::keys::count(), Relaxed);
    let clock = timer::start();
    clock.publish(info, cpu::time_stamp);
    let (nic, disk) = devices::start(&mut machine, info);
    let bits = machine.frame_count().ilog2();
    let heads = memory::frame(machine.allocate(((4_u64 << bits) / FRAME_BYTES) as u32)).cast();
    // The devices have taken their time since the first reading of the clock.
    let secret = mix(processor::random().into_iter().flatten().chain([started, cpu::time_stamp()]));
    // SAFETY: set aside just now for it, and zero.
    let merged = unsafe { Merged::new(heads, bits, secret) };
    let network_frame = machine.allocate(1);
    let mut frames = FrameTable::new(machine.frame_table());
    let table = machine.frame_table_range();
    info.frame_table.store(table.start, Relaxed);
    info.frame_count.store(frames.count(), Relaxed);
    machine.classify(&mut frames);
    for frame in table.chain([info_frame.0, info_frame.0 + 1]) {
        frames.describe(exo_abi::Pfn(frame), FrameKind::Info, 0);
    }
    frames.describe(root_table, FrameKind::PageTable, crate::paging::ROOT_LEVEL);
    frames.describe(network_frame, FrameKind::Memory, 0);
    let network = Scope::everything(&frames, network_frame);
    say!(
        "{} MiB of memory, {} network interface, {} MiB of disk",
        frames.count() / 256,
        if nic.is_some() { "one" } else { "no" },
        disk.as_ref().map_or(0, |disk| disk.sectors / 2048)
    );
    let kernel = Kernel {
        state: State::new(frames, info, info_frame, tables, clock),
        net: RefCell::new(Net::new(nic)),
        disk: RefCell::new(disk),
        network,
        merged,
    };
    // SAFETY: once, before any entry from ring 3 and before other processors run. They get
    // the lock when this one enters ring 3 or halts.
    let kernel = unsafe { kernel::install(kernel) };
    percpu::set_core_data(&kernel.cores[0], &kernel.info.exceptions[0]);
    others::start(&kernel);
    first::load(&kernel, &machine);
    crate::trap::leave(kernel, false)
}
