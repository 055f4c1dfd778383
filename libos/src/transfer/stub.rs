//! The assembly of protected calls.

use core::arch::naked_asm;

use exo_abi::{Error, Handle, Word, call_number};

use super::Message;

fn answer(code: u64) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::from_code(code).unwrap_or(Error::NoSuchCall)) }
}

/// Calls, and puts the reply into `message` and `grant`.
pub(super) fn call(entry: Handle, message: &mut Message, grant: &mut Handle) -> Result<(), Error> {
    const NUMBER: u64 = call_number("transfer_call");
    // SAFETY: the stub keeps what the calling convention says, and touches no memory
    // but its stack, the message and the handle.
    answer(unsafe { cross(NUMBER, entry.into_word(), message, grant) })
}

/// Sends `message`.
pub(super) fn send(entry: Handle, message: &Message) -> Result<(), Error> {
    const NUMBER: u64 = call_number("transfer_send");
    let (mut message, mut nothing) = (*message, Handle::NONE);
    // SAFETY: as above.
    answer(unsafe { cross(NUMBER, entry.into_word(), &mut message, &mut nothing) })
}

#[unsafe(naked)]
unsafe extern "C" fn cross(
    number: u64,
    entry: u64,
    message: *mut Message,
    grant: *mut Handle,
) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "push rcx",
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, [rcx]",
        "mov rbx, [rdx]",
        "mov rbp, [rdx + 8]",
        "mov r12, [rdx + 16]",
        "mov r13, [rdx + 24]",
        "mov r14, [rdx + 32]",
        "mov r15, [rdx + 40]",
        "syscall",
        "pop rcx",
        "mov [rcx], rsi",
        "pop rdx",
        "mov [rdx], rbx",
        "mov [rdx + 8], rbp",
        "mov [rdx + 16], r12",
        "mov [rdx + 24], r13",
        "mov [rdx + 32], r14",
        "mov [rdx + 40], r15",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// Replies with the registers as they are, and grants what `rdi` names. Where every
/// entry point ends; one that begins here replies at once and grants nothing.
///
/// # Safety
/// Only as the end of an activity that a transfer began.
#[unsafe(naked)]
pub unsafe extern "C" fn reply() {
    naked_asm!(
        // Once more if the caller has ended: then there is no caller to reply to; or if it
        // wants no grants: `rdi` is zero now.
        "2:",
        "mov eax, {reply}",
        "syscall",
        "jmp 2b",
        reply = const call_number("transfer_reply"),
    )
}
