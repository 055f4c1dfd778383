//! Where interrupts and exceptions enter the kernel: the 256 vectors.
//!
//! An exception of an environment that has named an entry for upcalls is given back
//! at once, by a few instructions that touch nothing but its own U-area: no lock is
//! taken, no other register changes, and to the rest of the kernel it is as if the
//! environment had never left ring 3. A processor that waits until this one has left
//! ring 3 ([`crate::cores`]) goes on waiting, for the interrupt it sent is taken when
//! ring 3 is back.
//!
//! What comes from an elevated environment ([`crate::elevation`]), in ring 0, is made to look as if it
//! had been in ring 3.
//!
//! An interrupt of the halted kernel saves nothing: the code that halts expects no register back.
//! Everything else saves all registers, vector registers included, and calls
//! [`crate::trap::trap`].

use core::arch::global_asm;
use core::mem::offset_of;

use exo_abi::{Upcall, UpcallArea};

use super::exit::{open_segments, restore_registers};
use super::percpu::Core;
use crate::env::upcall::CLEARED_FLAGS;
use crate::state::context::{USER_CODE, USER_DATA};

unsafe extern "C" {
    /// First of the 256 stubs, 16 bytes each.
    static vector_stubs: [u8; 256 * 16];
}

/// Address of the stub for each vector, in order.
pub fn stub_addresses() -> impl Iterator<Item = u64> {
    let first = &raw const vector_stubs as u64;
    (0..256).map(move |vector| first + 16 * vector)
}

// The stubs lie 16 bytes apart, so that one symbol finds them all.
global_asm!(
    ".pushsection .text.vectors, \"ax\"",
    ".balign 16",
    ".global vector_stubs",
    "vector_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    // Vectors for which the processor pushes an error code (SDM vol. 3, 6.13).
    ".if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    ".else",
    "push 0",
    ".endif",
    // push vector, as bytes: a symbol as operand would mean what lies there.
    ".byte 0x68",
    ".long vector",
    // An NMI, a double fault and a machine check are not the doing of ring 3.
    ".if (vector < 32) && (vector != 2) && (vector != 8) && (vector != 18)",
    "jmp exception",
    ".elseif vector == {device_vector}",
    "jmp packets",
    ".else",
    "jmp trap_common",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    // On the stack: vector, error code, and what `iretq` pops. The same as
    // `upcall::make` does for other upcalls; an environment that shares the U-area may change
    // the words meanwhile, which harms only their owner: the one word that `iretq` could
    // fault on is the address, and that is read once.
    "exception:",
    "test byte ptr [rsp + 24], 3",
    "jz ring_0",
    "swapgs",
    "mov gs:[{scratch}], rax",
    "mov rax, gs:[{upcalls}]",
    "mov gs:[{scratch} + 8], rcx",
    "cmp dword ptr [rax + {masked}], 0",
    "jne 4f",
    "mov rcx, [rax + {entry}]",
    "mov [rax + {rdi}], rdi",
    "lea rdi, [rcx - 1]", // neither zero nor beyond the lower half
    "or rdi, rcx",
    "shr rdi, 47",
    "jnz 3f",
    "mov dword ptr [rax + {masked}], 1",
    "cmp dword ptr [rsp], 14",
    "je 6f",
    "mov [rsp + 8], rdi", // zero, by the shift: see `trap::error_code`
    "1:",
    "mov [rax + {address}], rdi",
    "pop [rax + {vector_number}]",
    "pop [rax + {code}]",
    "mov rdi, [rsp]",
    "mov [rax + {rip}], rdi",
    "mov [rsp], rcx",
    "mov rdi, [rsp + 16]",
    "mov [rax + {flags}], rdi",
    "and dword ptr [rsp + 16], {flags_left}",
    "mov rdi, [rsp + 24]",
    "mov [rax + {rsp}], rdi",
    "mov rdi, [rax + {stack}]",
    "mov [rsp + 24], rdi",
    "mov edi, {reason_exception}",
    "mov [rax + {reason}], rdi",
    "mov rcx, gs:[{exceptions}]",
    "inc qword ptr [rcx]",
    open_segments!(),
    "mov rax, gs:[{scratch}]",
    "mov rcx, gs:[{scratch} + 8]",
    "swapgs",
    "iretq",
    "6:",
    "mov rdi, cr2",
    "jmp 1b",
    "3:",
    "mov rdi, [rax + {rdi}]",
    "4:",
    "mov rax, gs:[{scratch}]",
    "mov rcx, gs:[{scratch} + 8]",
    "jmp 2f",
    // The interrupt of a packet says nothing but that it is time to look, which the
    // halted kernel does next.
    "packets:",
    "test byte ptr [rsp + 24], 3",
    "jnz trap_common",
    "cmp qword ptr [rsp + 16], offset halted",
    "jne ring_0",
    "movabs rax, {end_of_interrupt}",
    "mov dword ptr [rax], 0",
    "add rsp, 16",
    "iretq",
    // From ring 0. Where `gs` is not the kernel's it was an elevated environment, wherever its
    // code and stack have got to; from here on it is as if it had been in ring 3. (The
    // stack that all this is on is the vector's own.) Else it is an exception of the kernel.
    "ring_0:",
    "push rax; push rcx; push rdx",
    "mov ecx, {gs_base}",
    "rdmsr",
    "test edx, edx",
    "pop rdx; pop rcx; pop rax",
    "js 2f",
    "mov qword ptr [rsp + 24], {user_code}",
    "mov qword ptr [rsp + 48], {user_data}",
    "swapgs",
    "jmp 2f",
    "5:",
    "cmp dword ptr [rsp], 32",
    "jb 2f",
    "cmp qword ptr [rsp + 16], offset halted",
    "jne ring_0",
    "mov edi, [rsp]",
    "sub rsp, 8", // the calling convention's alignment
    "call {interrupted_while_halted}",
    "add rsp, 24",
    "iretq",
    "trap_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 5b",
    "swapgs",
    "2:",
    ".irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15",
    "push \\register",
    ".endr",
    "cld",
    // Ring 3 may have set the alignment-check flag, which would lift SMAP.
    "pushfq",
    "and dword ptr [rsp], 0xfffbffff",
    "popfq",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "test byte ptr [rsp + 144], 3",
    "jz 3f",
    "mov rax, gs:[{vector_state}]",
    "fxsave [rax]",
    // Off the interrupt stack, which the next interrupt overwrites: the kernel
    // may halt before it leaves. The call stack is empty while ring 3 runs.
    "mov rsp, gs:[{stack_top}]",
    "xor ebp, ebp",
    "3:",
    "and rsp, -16",
    "call {trap}",
    // Back comes what was made an upcall of the environment that runs anyway.
    "mov rsp, rbx",
    "mov rax, gs:[{vector_state}]",
    "fxrstor [rax]",
    "swapgs",
    open_segments!(),
    restore_registers!(),
    "iretq",
    ".popsection",
    trap = sym crate::trap::trap,
    device_vector = const super::apic::DEVICE_VECTOR,
    gs_base = const super::cpu::GS_BASE,
    user_code = const USER_CODE,
    user_data = const USER_DATA,
    end_of_interrupt = const super::apic::END_OF_INTERRUPT_AT,
    interrupted_while_halted = sym crate::trap::interrupted_while_halted,
    scratch = const offset_of!(Core, scratch),
    upcalls = const offset_of!(Core, upcalls),
    exceptions = const offset_of!(Core, exceptions),
    vector_state = const offset_of!(Core, vector_state),
    stack_top = const offset_of!(Core, stack_top),
    masked = const offset_of!(UpcallArea, masked),
    entry = const offset_of!(UpcallArea, entry),
    stack = const offset_of!(UpcallArea, stack),
    reason = const offset_of!(UpcallArea, reason),
    vector_number = const offset_of!(UpcallArea, vector),
    code = const offset_of!(UpcallArea, code),
    address = const offset_of!(UpcallArea, address),
    rip = const offset_of!(UpcallArea, rip),
    rsp = const offset_of!(UpcallArea, rsp),
    flags = const offset_of!(UpcallArea, flags),
    rdi = const offset_of!(UpcallArea, rdi),
    reason_exception = const Upcall::Exception as u32,
    flags_left = const !(CLEARED_FLAGS as u32),
);
