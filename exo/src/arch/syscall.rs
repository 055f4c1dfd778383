//! Where ring 3 enters the kernel by the `syscall` instruction.
//!
//! A system call saves nine words on the kernel stack and calls the entry of its
//! number in [`crate::calls::CALLS`]; on the way back every register that the calling
//! convention does not preserve is cleared, so that nothing of the kernel leaks. For
//! interrupts and exceptions see [`super::vectors`].

use core::arch::naked_asm;
use core::mem::offset_of;

use super::exit::clear_vectors;
use super::percpu::Core;

/// Saves what a system call must keep of its caller, as [`super::exit`] knows it, goes to the
/// kernel stack, aligned as the calling convention wants, and calls the entry of the number in
/// `rax`; `rbp` is zero there, which ends the kernel's backtrace.
macro_rules! serve_call {
    () => {
        "swapgs
        mov gs:[{user_stack}], rsp
        mov rsp, gs:[{stack_top}]
        push gs:[{user_stack}]
        push r11
        push rcx
        push rbp
        push rbx
        push r12; push r13; push r14; push r15
        sub rsp, 8
        mov rcx, r10
        xor ebp, ebp
        cmp rax, {count}
        jae 3f
        call [{calls} + 8 * rax]
        2:
        mov rbp, [rsp + 48]
        mov rcx, [rsp + 56]"
    };
}
pub(super) use serve_call;

/// What [`serve_call`] does with a number that is none, out of the way.
macro_rules! refuse_call {
    () => {
        "3:
        mov eax, {count}
        call [{calls} + 8 * rax]
        jmp 2b"
    };
}
pub(super) use refuse_call;

/// The target of `syscall`.
///
/// # Safety
/// Entered by the processor alone.
#[unsafe(naked)]
pub unsafe extern "C" fn syscall_entry() {
    naked_asm!(
        serve_call!(),
        "mov r11, [rsp + 64]",
        "mov rsp, [rsp + 72]",
        "xor edi, edi",
        "xor esi, esi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        clear_vectors!(),
        "swapgs",
        "sysretq",
        refuse_call!(),
        user_stack = const offset_of!(Core, user_stack),
        stack_top = const offset_of!(Core, stack_top),
        count = const crate::calls::COUNT,
        calls = sym crate::calls::CALLS,
    )
}
