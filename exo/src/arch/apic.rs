//! Interrupt controllers and the timer: local APIC and I/O APIC
//! (SDM vol. 3, chapter 11; Intel 82093AA data sheet).

use core::sync::atomic::{AtomicU64, Ordering};

use exo_boot::layout::{DIRECT_MAP, LOCAL_APIC};

use super::cpu::time_stamp;
use crate::clock::{Clock, Reading};

/// Vector of the timer interrupt.
pub const TIMER_VECTOR: u8 = 32;
/// Vector of the devices' interrupts.
pub const DEVICE_VECTOR: u8 = 33;
/// Vector by which a processor makes another look up.
pub const LOOK_UP_VECTOR: u8 = 34;
/// Vector the local APIC uses when an interrupt vanished before delivery.
pub const SPURIOUS_VECTOR: u8 = 47;

const END_OF_INTERRUPT: u64 = 0xb0;
const COMMAND: u64 = 0x300;
const COMMAND_TARGET: u64 = 0x310;
pub(crate) const TIMER_ENTRY: u64 = 0x320;
pub(crate) const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;

/// After so many ticks the timer starts again while it [watches](begin_watch).
pub const WATCH_PERIOD: u64 = 1 << 32;

/// Timer ticks in a tick of the time-stamp counter: a fixed-point number.
static TIMER_PER_TSC: AtomicU64 = AtomicU64::new(0);
/// Bits behind its point.
const FRACTION: u32 = 32;
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

/// Where writing zero acknowledges the interrupt being served ([`end_of_interrupt`]).
pub(super) const END_OF_INTERRUPT_AT: u64 = DIRECT_MAP + LOCAL_APIC + END_OF_INTERRUPT;

fn local(register: u64) -> *mut u32 {
    (DIRECT_MAP + LOCAL_APIC + register) as *mut u32
}

pub(crate) fn write_local(register: u64, value: u32) {
    // SAFETY: the kernel's tables map the local APIC here, uncached; the
    // registers written are the ones named above, none of which moves memory.
    unsafe { local(register).write_volatile(value) };
}

fn read_local(register: u64) -> u32 {
    // SAFETY: as in `write_local`; reading has no side effect.
    unsafe { local(register).read_volatile() }
}

/// Durations are by what `clock` knows from now on.
pub fn set_rates(clock: &Clock) {
    let per_tick = clock.rate.get().reference_in(1 << FRACTION);
    TIMER_PER_TSC.store(per_tick, Ordering::Relaxed);
    TSC_HZ.store(clock.hz(), Ordering::Relaxed);
}

/// Reads time-stamp counter and timer. Never inlined, so that what lies between the
/// readings is always the same.
#[inline(never)]
pub(crate) fn read_both() -> Reading {
    let before = time_stamp();
    let left = read_local(TIMER_CURRENT);
    let after = time_stamp();
    Reading { before, reference: u64::from(u32::MAX - left), after }
}

/// Lets the timer count, round and round, without an interrupt, to measure the time-stamp
/// counter. Whatever it ran for is given up.
pub fn begin_watch() -> Reading {
    write_local(TIMER_ENTRY, PERIODIC | MASKED | u32::from(TIMER_VECTOR));
    write_local(TIMER_INITIAL, u32::MAX);
    read_both()
}

/// Ends that: the timer is ready for [`start_timer`] again.
pub fn end_watch() -> Reading {
    let reading = read_both();
    write_local(TIMER_INITIAL, 0);
    write_local(TIMER_ENTRY, u32::from(TIMER_VECTOR));
    reading
}

/// Interrupts processor `core`.
pub fn interrupt(core: u32, vector: u8) {
    command(core, u32::from(vector));
}

pub(crate) fn command(core: u32, command: u32) {
    const PENDING: u32 = 1 << 12;
    while read_local(COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write_local(COMMAND_TARGET, core << 24);
    write_local(COMMAND, command);
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
    let per_tick = TIMER_PER_TSC.load(Ordering::Relaxed);
    let count = (u128::from(ticks) * u128::from(per_tick)) >> FRACTION;
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
