//! Starting the other processors.
//!
//! QEMU says how many there are (its firmware-configuration ports); elsewhere there is
//! one. Each is woken alone, comes through the boot entry's page below 1 MiB, sets
//! itself up as the first one did, and waits for its turn to enter the schedule.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{descriptors, processor, timer};
use crate::arch::{apic, cpu, percpu};
use crate::cores::MAX_CORES;
use crate::kernel::lock;
use crate::memory;
use crate::say;
use crate::state::State;

/// Physical address of the page other processors start in.
const START_PAGE: u64 = 0x8000;
/// How long a processor may take to come up.
const PATIENCE_MICROSECONDS: u64 = 100_000;

unsafe extern "C" {
    // The code other processors begin with, in the boot entry; it runs anywhere below
    // 1 MiB. Only the addresses mean anything.
    static other_entry: u8;
    static other_entry_end: u8;
}

/// Stack pointer of the processor being started; read by the boot entry.
#[unsafe(no_mangle)]
static OTHER_STACK: AtomicU64 = AtomicU64::new(0);
/// Physical address of the kernel's root page table.
static ROOT_TABLE: AtomicU64 = AtomicU64::new(0);
/// Its number.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Processors that are up.
static UP: AtomicU32 = AtomicU32::new(1);

/// Starts all others. They wait until this processor gives the lock back.
pub(super) fn start(kernel: &State) {
    ROOT_TABLE.store(kernel.root_table.address(), Ordering::Relaxed);
    let code = &raw const other_entry;
    let length = &raw const other_entry_end as usize - code as usize;
    // SAFETY: the code lies in the kernel's text; the page is memory below 1 MiB without an
    // owner, and longer.
    unsafe { code.copy_to_nonoverlapping(memory::physical(START_PAGE), length) };
    for number in 1..count().min(MAX_CORES as u32) {
        NEXT.store(number, Ordering::Relaxed);
        OTHER_STACK.store(percpu::stack_top(number as usize), Ordering::Release);
        timer::start_core(number, START_PAGE);
        let start = cpu::time_stamp();
        let patience = PATIENCE_MICROSECONDS * apic::ticks_per_microsecond();
        while UP.load(Ordering::Acquire) == number {
            if cpu::time_stamp() - start > patience {
                say!("processor {number} does not start");
                break;
            }
            core::hint::spin_loop();
        }
        if UP.load(Ordering::Acquire) == number {
            break;
        }
    }
    if UP.load(Ordering::Acquire) > 1 {
        say!("{} processors", UP.load(Ordering::Acquire));
    }
    kernel.info.cores.store(UP.load(Ordering::Acquire), Ordering::Relaxed);
}

/// Called by the boot entry on each other processor.
#[unsafe(no_mangle)]
extern "C" fn other_main() -> ! {
    let number = NEXT.load(Ordering::Acquire) as usize;
    // SAFETY: once on this processor, with interrupts off, after the first one did; the
    // final tables map the image, where this runs, as the boot tables do.
    unsafe {
        descriptors::load(number);
        processor::enable_protection();
        cpu::set_page_table(ROOT_TABLE.load(Ordering::Relaxed));
        processor::accept_calls();
    }
    timer::start_local();
    UP.store(number as u32 + 1, Ordering::Release);
    let kernel = lock();
    percpu::set_core_data(&kernel.cores[number], &kernel.info.exceptions[number]);
    crate::trap::leave(kernel, false)
}

/// How many processors the machine has, as QEMU tells.
fn count() -> u32 {
    const SELECT: u16 = 0x510;
    const DATA: u16 = 0x511;
    const SIGNATURE: u16 = 0;
    const PROCESSORS: u16 = 5;
    // SAFETY: these ports belong to the firmware configuration device or to nothing;
    // reading it touches no memory.
    let read = |item: u16, length: usize| unsafe {
        cpu::out16(SELECT, item);
        let mut bytes = [0; 4];
        bytes.iter_mut().take(length).for_each(|byte| *byte = cpu::in8(DATA));
        bytes
    };
    if read(SIGNATURE, 4) != *b"QEMU" {
        return 1;
    }
    u32::from_le_bytes(read(PROCESSORS, 2)).max(1)
}
