//! The interrupt controllers and the timer, turned on
//! (SDM vol. 3, chapter 11; Intel 82093AA data sheet).

use core::arch::x86_64::__cpuid;

use exo_boot::layout::{DIRECT_MAP, IO_APIC};

use super::rate::{Told, measure};
use crate::arch::apic::{
    SPURIOUS_VECTOR, TIMER_ENTRY, TIMER_INITIAL, TIMER_VECTOR, command, read_both, set_rates,
    ticks_per_microsecond, write_local,
};
use crate::arch::cpu::{APIC_BASE, out8, read_msr, time_stamp, write_msr};
use crate::clock::{Clock, Rate};

const SPURIOUS: u64 = 0xf0;
const TIMER_DIVIDE: u64 = 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// Turns the controllers on and finds out how fast the time-stamp counter runs: by what
/// the machine tells, or against the APIC's timer.
pub(super) fn start() -> Clock {
    // SAFETY: masking the legacy controllers, where they exist, only silences
    // them; setting the enable bit of the APIC base keeps its address.
    unsafe {
        out8(0x21, 0xff);
        out8(0xa1, 0xff);
        write_msr(APIC_BASE, read_msr(APIC_BASE) | 1 << 11);
    }
    start_local();
    let told = Told::by(|leaf| {
        let words = __cpuid(leaf);
        [words.eax, words.ebx, words.ecx, words.edx]
    });
    let (rate, due) = match told.counter {
        Some(hz) => (Rate::told(hz, told.apic), u64::MAX),
        None => {
            write_local(TIMER_INITIAL, u32::MAX);
            (measure(read_both), 0)
        }
    };
    write_local(TIMER_INITIAL, 0);
    let clock = Clock::new(rate, told.apic, due);
    set_rates(&clock);
    clock
}

/// Turns this processor's controller on.
pub(super) fn start_local() {
    write_local(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    write_local(TIMER_DIVIDE, DIVIDE_BY_1);
    write_local(TIMER_ENTRY, u32::from(TIMER_VECTOR));
}

/// Starts processor `core` in real mode at physical address `page`, below 1 MiB
/// (SDM vol. 3, 9.4.4).
pub(super) fn start_core(core: u32, page: u64) {
    const INIT: u32 = 5 << 8 | 1 << 14;
    const STARTUP: u32 = 6 << 8 | 1 << 14;
    command(core, INIT);
    let start = time_stamp();
    while time_stamp() - start < 200 * ticks_per_microsecond() {}
    command(core, STARTUP | (page >> 12) as u32);
}

/// Routes interrupt line `line` of the I/O APIC to `vector` on this core,
/// edge-triggered.
pub(super) fn route(line: u32, vector: u8) {
    let select = (DIRECT_MAP + IO_APIC) as *mut u32;
    let window = (DIRECT_MAP + IO_APIC + 0x10) as *mut u32;
    // SAFETY: the kernel's tables map the I/O APIC here, uncached; writing one
    // redirection entry directs one line to a vector the kernel handles.
    unsafe {
        select.write_volatile(0x10 + 2 * line + 1);
        window.write_volatile(0);
        select.write_volatile(0x10 + 2 * line);
        window.write_volatile(u32::from(vector));
    }
}
