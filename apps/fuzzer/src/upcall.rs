//! What children do when the kernel calls them: go on where they were, or end if it
//! is because of an exception that they did not mean.

use core::mem::offset_of;

use exo_abi::boot::U_AREA;
use exo_abi::{UArea, Upcall, UpcallArea};

const AREA: usize = U_AREA as usize + offset_of!(UArea, upcall);

/// Where upcalls begin.
///
/// # Safety
/// Only for the kernel to enter.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn entry() {
    core::arch::naked_asm!(
        "cmp edi, {exception}",
        "jne 3f",
        "push rax",
        "lea rax, [rip + {faulting}]",
        "cmp rax, [{rip}]",
        "pop rax",
        "jne 2f",
        "add qword ptr [{rip}], 2", // behind it
        "3:",
        // What is to be restored goes onto the interrupted stack, beyond the part
        // that leaf functions use without saying so: from there it survives the next
        // upcall, which may come as soon as they are allowed again.
        "mov rdi, [{rsp}]",
        "lea rdi, [rdi - 152]",
        "push qword ptr [{flags}]",
        "pop qword ptr [rdi]",
        "push qword ptr [{rdi}]",
        "pop qword ptr [rdi + 8]",
        "push qword ptr [{rip}]",
        "pop qword ptr [rdi + 16]",
        "mov rsp, rdi",
        "mov dword ptr [{masked}], 0",
        "popfq",
        "pop rdi",
        "ret 128",
        "2:",
        "mov eax, 1",
        "mov edi, 99",
        "syscall",
        "jmp 2b",
        faulting = sym faulting,
        exception = const Upcall::Exception as u32,
        rsp = const AREA + offset_of!(UpcallArea, rsp),
        rip = const AREA + offset_of!(UpcallArea, rip),
        rdi = const AREA + offset_of!(UpcallArea, rdi),
        flags = const AREA + offset_of!(UpcallArea, flags),
        masked = const AREA + offset_of!(UpcallArea, masked),
    )
}

/// Causes an exception, which [`entry`] steps over.
#[unsafe(naked)]
unsafe extern "C" fn faulting() {
    core::arch::naked_asm!("ud2", "ret")
}

/// Flags that a child may set, and with which ring 0 must not go on: direction, nested
/// task, alignment check; and one that means nothing.
pub(crate) const FLAGS: [u64; 4] = [1 << 10, 1 << 14, 1 << 18, 1 << 21];

/// Causes an exception while `flags` are set.
///
/// # Safety
/// Upcalls begin at [`entry`], and are allowed. Else it is the end.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn fault_with(flags: u64) {
    core::arch::naked_asm!(
        "pushfq",
        "pushfq",
        "or [rsp], rdi",
        "popfq",
        "call {faulting}",
        "popfq",
        "ret",
        faulting = sym faulting,
    )
}
