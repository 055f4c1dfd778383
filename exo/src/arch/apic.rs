//! Interrupt controllers and the timer: local APIC and I/O APIC
//! (SDM vol. 3, chapter 11; Intel 82093AA data sheet).

use core::sync::atomic::{AtomicU64, Ordering};

use exo_boot::layout::{DIRECT_MAP, IO_APIC, LOCAL_APIC};

use super::cpu::{APIC_BASE, out8, read_msr, time_stamp, write_msr};

/// Vector of the timer interrupt.
pub const TIMER_VECTOR: u8 = 32;
/// Vector of the network interface's interrupt.
pub const NET_VECTOR: u8 = 33;
/// Vector by which a processor makes another look up.
pub const LOOK_UP_VECTOR: u8 = 34;
/// Vector the local APIC uses when an interrupt vanished before delivery.
pub const SPURIOUS_VECTOR: u8 = 47;

const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const COMMAND_TARGET: u64 = 0x310;
const TIMER_ENTRY: u64 = 0x320;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// Ticks of the APIC timer per second. QEMU and KVM both give it 1 GHz; on
/// other machines the time-stamp frequency derived from it, and with it every
/// duration, would be off by the same factor.
const TIMER_HZ: u64 = 1_000_000_000;

static TSC_HZ: AtomicU64 = AtomicU64::new(0);

fn local(register: u64) -> *mut u32 {
    (DIRECT_MAP + LOCAL_APIC + register) as *mut u32
}

fn write_local(register: u64, value: u32) {
    // SAFETY: the kernel's tables map the local APIC here, uncached; the
    // registers written are the ones named above, none of which moves memory.
    unsafe { local(register).write_volatile(value) };
}

fn read_local(register: u64) -> u32 {
    // SAFETY: as in `write_local`; reading has no side effect.
    unsafe { local(register).read_volatile() }
}

/// Turns the controllers on and measures the time-stamp counter against the
/// APIC timer. Returns its frequency in Hz.
pub fn start() -> u64 {
    // SAFETY: masking the legacy controllers, where they exist, only silences
    // them; setting the enable bit of the APIC base keeps its address.
    unsafe {
        out8(0x21, 0xff);
        out8(0xa1, 0xff);
        write_msr(APIC_BASE, read_msr(APIC_BASE) | 1 << 11);
    }
    start_local();
    let frequency = measure();
    TSC_HZ.store(frequency, Ordering::Relaxed);
    frequency
}

/// Turns this processor's controller on.
pub fn start_local() {
    write_local(SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    write_local(TIMER_DIVIDE, DIVIDE_BY_1);
    write_local(TIMER_ENTRY, u32::from(TIMER_VECTOR));
}

/// Interrupts processor `core`.
pub fn interrupt(core: u32, vector: u8) {
    command(core, u32::from(vector));
}

/// Starts processor `core` in real mode at physical address `page`, below 1 MiB
/// (SDM vol. 3, 9.4.4).
pub fn start_core(core: u32, page: u64) {
    const INIT: u32 = 5 << 8 | 1 << 14;
    const STARTUP: u32 = 6 << 8 | 1 << 14;
    command(core, INIT);
    let start = time_stamp();
    while time_stamp() - start < 200 * ticks_per_microsecond() {}
    command(core, STARTUP | (page >> 12) as u32);
}

fn command(core: u32, command: u32) {
    const PENDING: u32 = 1 << 12;
    while read_local(COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write_local(COMMAND_TARGET, core << 24);
    write_local(COMMAND, command);
}

fn measure() -> u64 {
    const WINDOW: u32 = (TIMER_HZ / 1000) as u32;
    write_local(TIMER_INITIAL, u32::MAX);
    let timer_start = read_local(TIMER_CURRENT);
    let start = time_stamp();
    let mut passed = 0;
    while passed < WINDOW {
        passed = timer_start.wrapping_sub(read_local(TIMER_CURRENT));
    }
    let ticks = time_stamp() - start;
    write_local(TIMER_INITIAL, 0);
    ticks * TIMER_HZ / u64::from(passed)
}

/// Acknowledges the interrupt being served.
#[inline]
pub fn end_of_interrupt() {
    write_local(END_OF_INTERRUPT, 0);
}

/// Interrupts once, `ticks` of the time-stamp counter from now (at least one
/// timer tick, at most about four seconds: later deadlines are looked at
/// again then).
pub fn start_timer(ticks: u64) {
    let frequency = TSC_HZ.load(Ordering::Relaxed).max(1);
    let count = u128::from(ticks) * u128::from(TIMER_HZ) / u128::from(frequency);
    write_local(TIMER_INITIAL, count.clamp(1, u128::from(u32::MAX)) as u32);
}

/// Whether the timer has been started and has not run out since.
pub fn timer_runs() -> bool {
    read_local(TIMER_CURRENT) != 0
}

/// Ticks of the time-stamp counter in a microsecond.
pub fn ticks_per_microsecond() -> u64 {
    TSC_HZ.load(Ordering::Relaxed) / 1_000_000
}

/// Routes interrupt line `line` of the I/O APIC to `vector` on this core,
/// edge-triggered.
pub fn route(line: u32, vector: u8) {
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
