//! Ring 0 for environments: the ways in for one that is elevated, and what the processor is told.
//!
//! It runs at ring 0 with everything else as in ring 3: its page tables, its stack, its `gs`,
//! interrupts on. Calls come by `syscall` all the same, which may be executed in ring 0, but
//! cannot go back by `sysret`, so they have a target of their own; or by the [`gate`], which a
//! function call leads to. An interrupt or exception is on a stack of its vector, and
//! [`super::vectors`] tells by `gs` where it came from.

use core::arch::{asm, naked_asm};
use core::mem::offset_of;

use exo_abi::Error;

use super::cpu::{LSTAR, write_msr};
use super::exit::leave_elevated;
use super::percpu::{Core, this_core};
use super::syscall::{refuse_call, serve_call, syscall_entry};

pub use super::apic::ticks_per_microsecond;
pub use super::cpu::time_stamp as now;

/// Tells this processor whether the environment that it is to run is elevated.
#[inline(always)]
pub fn set(elevated: bool) {
    if this_core().elevated.get() != elevated {
        change(elevated);
    }
}

#[cold]
fn change(elevated: bool) {
    const SMEP_SMAP: u64 = 1 << 20 | 1 << 21;
    let core = this_core();
    core.elevated.set(elevated);
    let entry = if elevated { call_entry as *const () } else { syscall_entry as *const () };
    // SAFETY: with these two off ring 0 may use pages of ring 3, which the elevated
    // code is on. The kernel itself uses none by its address, on or off. They come on again,
    // where they were, before another environment runs; and both targets are entries of calls.
    unsafe {
        let mut cr4: u64;
        asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack));
        if elevated {
            core.protection.set(cr4 & SMEP_SMAP);
            cr4 &= !SMEP_SMAP;
        } else {
            cr4 |= core.protection.get();
        }
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
        write_msr(LSTAR, entry as u64);
    }
}

/// Where direct calls lead.
pub fn gate() -> u64 {
    direct_entry as *const () as u64
}

/// The target of `syscall` in ring 0. As [`syscall_entry`], but that nothing is cleared: to
/// code in ring 0 nothing is hidden.
#[unsafe(naked)]
unsafe extern "C" fn call_entry() {
    naked_asm!(
        serve_call!(),
        "mov rsp, [rsp + 72]",
        leave_elevated!(),
        refuse_call!(),
        user_stack = const offset_of!(Core, user_stack),
        stack_top = const offset_of!(Core, stack_top),
        count = const crate::calls::COUNT,
        calls = sym crate::calls::CALLS,
    )
}

/// The gate: a C function of the six arguments, with the call's number in `rax`, which
/// answers in `rax` and `rdx`. Runs as the kernel does, on its stack and not interrupted.
///
/// Interrupts are off after its first instruction, and on again when it has returned: one
/// finds the processor at its beginning or not at all ([`crate::elevation::step_back`]).
#[unsafe(naked)]
unsafe extern "C" fn direct_entry() {
    naked_asm!(
        "cli",
        "cmp rax, {count}",
        "jae 2f",
        "swapgs",
        "mov gs:[{user_stack}], rsp",
        "mov rsp, gs:[{stack_top}]",
        "push gs:[{user_stack}]",
        "sub rsp, 8", // the calling convention's alignment
        "call [{calls} + 8 * rax]",
        "mov rsp, [rsp + 8]",
        "swapgs",
        "sti",
        "ret",
        "2:",
        "mov eax, {no_such_call}",
        "xor edx, edx",
        "sti",
        "ret",
        user_stack = const offset_of!(Core, user_stack),
        stack_top = const offset_of!(Core, stack_top),
        count = const crate::calls::COUNT,
        calls = sym crate::calls::DIRECT,
        no_such_call = const Error::NoSuchCall as u64,
    )
}
