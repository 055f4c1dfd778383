//! The assembly at which upcalls begin and end.

use core::arch::naked_asm;
use core::mem::offset_of;

use exo_abi::boot::U_AREA;
use exo_abi::{UArea, UpcallArea};

use super::{BELOW_STACK, Frame};

/// Where a field of the upcall words lies: below 2 GiB, so an absolute operand.
const fn word(offset: usize) -> u64 {
    U_AREA + (offset_of!(UArea, upcall) + offset) as u64
}

/// Bytes from the general registers to the end of a frame.
const TAIL: usize = size_of::<Frame>() - 512;
const _: () = assert!(TAIL == 18 * 8 && size_of::<Frame>().is_multiple_of(16));

/// The entry's address, for the U-area.
pub(super) fn address() -> u64 {
    entry as *const () as u64
}

/// Builds a [`Frame`] on the upcall stack, has it served, and goes where it says.
#[unsafe(naked)]
unsafe extern "C" fn entry() {
    naked_asm!(
        "push [{rsp}]",
        "push [{flags}]",
        "push [{rip}]",
        "push rax",
        "push rcx",
        "push rdx",
        "push rbx",
        "push rbp",
        "push rsi",
        "push [{rdi}]",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 512",
        "fxsave [rsp]",
        "cld",
        "mov rsi, rsp",
        "xor ebp, ebp",
        "call {serve}",
        "fxrstor [rsp]",
        "add rsp, 512",
        // Flags, rdi and target go below the red zone of the stack to return to.
        "mov rax, [rsp + {frame_rsp}]",
        "sub rax, {below}",
        "mov rcx, [rsp + {frame_flags}]",
        "mov [rax], rcx",
        "mov rcx, [rsp + {frame_rdi}]",
        "mov [rax + 8], rcx",
        "mov rcx, [rsp + {frame_rip}]",
        "mov [rax + 16], rcx",
        "mov [rsp + {frame_rsp}], rax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rbp",
        "pop rbx",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "mov rsp, [rsp + 16]",
        // From here on another upcall may come: it begins on its own stack.
        "mov dword ptr [{masked}], 0",
        "popfq",
        "pop rdi",
        "ret 128",
        serve = sym super::serve,
        rsp = const word(offset_of!(UpcallArea, rsp)),
        flags = const word(offset_of!(UpcallArea, flags)),
        rip = const word(offset_of!(UpcallArea, rip)),
        rdi = const word(offset_of!(UpcallArea, rdi)),
        masked = const word(offset_of!(UpcallArea, masked)),
        below = const BELOW_STACK,
        frame_rsp = const offset_of!(Frame, rsp) - 512,
        frame_flags = const offset_of!(Frame, flags) - 512,
        frame_rip = const offset_of!(Frame, rip) - 512,
        frame_rdi = const offset_of!(Frame, rdi) - 512,
    )
}

/// Begins an upcall from here, with `what` in `rdi`, instead of the kernel.
///
/// # Safety
/// As for [`super::enter`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter(what: usize) {
    naked_asm!(
        // First: a true upcall would write over the words below.
        "mov dword ptr [{masked}], 1",
        "pop [{rip}]",
        "mov [{rsp}], rsp",
        "pushfq",
        "pop [{flags}]",
        "mov [{rdi}], rdi",
        "mov rsp, [{stack}]",
        "mov edi, {entered}",
        "jmp {entry}",
        masked = const word(offset_of!(UpcallArea, masked)),
        rip = const word(offset_of!(UpcallArea, rip)),
        rsp = const word(offset_of!(UpcallArea, rsp)),
        flags = const word(offset_of!(UpcallArea, flags)),
        rdi = const word(offset_of!(UpcallArea, rdi)),
        stack = const word(offset_of!(UpcallArea, stack)),
        entered = const super::ENTERED,
        entry = sym entry,
    )
}
