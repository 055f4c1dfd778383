//! What each processor is told once: protection, and where system calls enter.

use core::arch::asm;

use super::descriptors::SYSRET_BASE;
use super::secret::ask;
use crate::arch::cpu::{EFER, FMASK, LSTAR, STAR, read_msr, write_msr};
use crate::arch::syscall::syscall_entry;
use crate::state::context::KERNEL_CODE;

/// Interrupts, single-step, direction, alignment check, nested task, I/O level:
/// all clear in ring 0.
const CLEARED_FLAGS: u64 = 1 << 9 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 14 | 3 << 12;

/// Sets up the `syscall` instruction.
///
/// # Safety
/// Once on each processor, after the descriptors are loaded.
pub(super) unsafe fn accept_calls() {
    // SAFETY: the selectors are those of `descriptors`, the target is the entry of calls.
    unsafe {
        write_msr(STAR, u64::from(SYSRET_BASE) << 48 | u64::from(KERNEL_CODE) << 32);
        write_msr(LSTAR, syscall_entry as *const () as u64);
        write_msr(FMASK, CLEARED_FLAGS);
        debug_assert!(read_msr(EFER) & 1 == 1);
    }
}

/// Turns on what protection the processor offers: no-execute, write-protect in
/// ring 0, supervisor-mode execution and access prevention, user-mode
/// instruction prevention; and SSE, which compiled Rust needs.
///
/// AVX stays off (`cr4.OSXSAVE` clear), so that `fxsave` covers all the vector
/// state ring 3 can have, and `fsgsbase` stays off, so that ring 3 cannot set
/// the `gs` base that `swapgs` exchanges.
///
/// # Safety
/// Once per core, before any ring-3 code, with page tables that honour
/// write-protect and no-execute.
pub(super) unsafe fn enable_protection() {
    const EFER_SYSCALL: u64 = 1 << 0;
    const EFER_NO_EXECUTE: u64 = 1 << 11;
    const CR0_MONITOR: u64 = 1 << 1;
    const CR0_EMULATE: u64 = 1 << 2;
    const CR0_TASK_SWITCHED: u64 = 1 << 3;
    const CR0_NUMERIC_ERROR: u64 = 1 << 5;
    const CR0_WRITE_PROTECT: u64 = 1 << 16;
    const CR0_ALIGNMENT_MASK: u64 = 1 << 18;
    const CR4_TIME_STAMP_DISABLE: u64 = 1 << 2;
    const CR4_GLOBAL_PAGES: u64 = 1 << 7;
    const CR4_PERFORMANCE: u64 = 1 << 8;
    const CR4_FXSAVE: u64 = 1 << 9;
    const CR4_SIMD_EXCEPTIONS: u64 = 1 << 10;
    const CR4_UMIP: u64 = 1 << 11;
    const CR4_FSGSBASE: u64 = 1 << 16;
    const CR4_XSAVE: u64 = 1 << 18;
    const CR4_SMEP: u64 = 1 << 20;
    const CR4_SMAP: u64 = 1 << 21;

    let features = if core::arch::x86_64::__cpuid(0).eax >= 7 {
        core::arch::x86_64::__cpuid_count(7, 0)
    } else {
        core::arch::x86_64::CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
    };
    let mut offered = 0;
    for (present, bit) in [
        (features.ebx >> 7 & 1, CR4_SMEP),
        (features.ebx >> 20 & 1, CR4_SMAP),
        (features.ecx >> 2 & 1, CR4_UMIP),
    ] {
        if present == 1 {
            offered |= bit;
        }
    }
    // SAFETY: every bit set is architectural in long mode or was just found to
    // be offered; the caller vouches for the page tables.
    unsafe {
        write_msr(EFER, read_msr(EFER) | EFER_SYSCALL | EFER_NO_EXECUTE);
        let (mut cr0, mut cr4): (u64, u64);
        asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack));
        asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack));
        cr0 &= !(CR0_EMULATE | CR0_TASK_SWITCHED | CR0_ALIGNMENT_MASK);
        cr0 |= CR0_MONITOR | CR0_NUMERIC_ERROR | CR0_WRITE_PROTECT;
        cr4 &= !(CR4_TIME_STAMP_DISABLE
            | CR4_GLOBAL_PAGES
            | CR4_PERFORMANCE
            | CR4_FSGSBASE
            | CR4_XSAVE);
        cr4 |= CR4_FXSAVE | CR4_SIMD_EXCEPTIONS | offered;
        asm!("mov cr0, {}", in(reg) cr0, options(nostack));
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
    }
}

/// What the processor offers of randomness, as far as it says that it succeeded (SDM vol. 2,
/// RDRAND and RDSEED).
pub(super) fn random() -> [Option<u64>; 2] {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    macro_rules! source {
        ($instruction:literal, $there:expr) => {
            ask(|| {
                if !$there {
                    return None;
                }
                let (word, valid): (u64, u8);
                // SAFETY: the processor has it; it changes a register and the flags.
                unsafe {
                    asm!(concat!($instruction, " {}"), "setc {}", out(reg) word,
                        out(reg_byte) valid, options(nomem, nostack));
                }
                (valid != 0).then_some(word)
            })
        };
    }
    let seeds = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 18 != 0;
    [source!("rdrand", __cpuid(1).ecx & 1 << 30 != 0), source!("rdseed", seeds)]
}
