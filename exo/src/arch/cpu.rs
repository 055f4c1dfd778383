//! Single instructions with an operand: ports, model-specific and control
//! registers, the time-stamp counter, halting.

use core::arch::asm;

/// Extended feature enable register (SDM vol. 3, 2.2.1).
pub const EFER: u32 = 0xc000_0080;
/// `syscall` target selectors (SDM vol. 3, 5.8.8).
pub const STAR: u32 = 0xc000_0081;
/// `syscall` target address.
pub const LSTAR: u32 = 0xc000_0082;
/// Flags that `syscall` clears.
pub const FMASK: u32 = 0xc000_0084;
/// Active `gs` base.
pub const GS_BASE: u32 = 0xc000_0101;
/// Local APIC base and enable.
pub const APIC_BASE: u32 = 0x1b;

/// Writes a byte to an I/O port.
///
/// # Safety
/// The port's device must not be made to break memory safety by it (no DMA).
#[inline]
pub unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller vouches for the device.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// Writes two bytes to an I/O port.
///
/// # Safety
/// As for [`out8`].
#[inline]
pub unsafe fn out16(port: u16, value: u16) {
    // SAFETY: the caller vouches for the device.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack)) };
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// As for [`out8`].
#[inline]
pub unsafe fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller vouches for the device.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

/// Writes a model-specific register.
///
/// # Safety
/// The register must exist and the value must leave the processor in a state the
/// kernel is written for.
pub unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: the caller vouches for register and value.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack));
    }
}

/// Reads a model-specific register.
///
/// # Safety
/// The register must exist.
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller vouches that the register exists; reading has no effect.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Reads `cr2`, the address of the last page fault.
pub fn fault_address() -> u64 {
    let value;
    // SAFETY: reading cr2 has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack)) };
    value
}

/// Makes the page table at physical address `root` the current one, and
/// forgets every translation.
///
/// # Safety
/// The tables must map the kernel as the current ones do.
#[inline]
pub unsafe fn set_page_table(root: u64) {
    // SAFETY: the kernel stays mapped as it is, so execution goes on.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

/// Empties the segment registers, which ring 3 can load and 64-bit code does not
/// use, so that no environment sees another's.
pub fn forget_segments() {
    // SAFETY: null selectors are valid in 64-bit mode for all four. Loading `gs`
    // may change the active base, so it is done while ring 3's is active; ring
    // 0 is not interrupted in between.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}",
            "swapgs", "mov gs, {0:e}", "swapgs", in(reg) 0, options(nostack));
    }
}

/// Forgets the translation of one page.
#[inline]
pub fn forget_page(address: u64) {
    // SAFETY: dropping a cached translation changes no mapping.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}

/// Time-stamp counter.
#[inline]
pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Halts with interrupts on until one has been served, then turns them off
/// again. The only place where the kernel can be interrupted.
pub fn halt_until_interrupt() {
    // SAFETY: as a function of the calling convention says, it keeps what must be kept: the
    // handler saves no register that a function may change.
    unsafe { halt() };
}

/// `sti` takes effect after the next instruction, so no interrupt can be lost between it
/// and `hlt` (SDM vol. 2, STI), and every one finds the processor at `halted`.
#[unsafe(naked)]
unsafe extern "C" fn halt() {
    core::arch::naked_asm!("sti", "hlt", ".global halted", "halted:", "cli", "ret")
}

/// Stops the processor for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: with interrupts off this sleeps for ever.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
