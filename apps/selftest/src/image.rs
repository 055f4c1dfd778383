//! Assembly that loads and stores all general registers and the flags, for routines
//! that show which of them survive something.
//!
//! An *image* begins with fifteen words, `rax rbx rcx rdx rsi rdi rbp r8`-`r15`, and the
//! flags in the sixteenth. A naked routine is called with its address and goes, in
//! `naked_asm!`,
//!
//! | text | effect |
//! |---|---|
//! | `push_preserved!()` | saves what the C convention wants preserved |
//! | `"push rdi"` | keeps the image's address on top of the stack |
//! | `load_registers!()` | loads all from the image at `rdi` |
//! | what is tried | must leave the stack pointer where it is |
//! | `store_registers!()` | stores all but the flags; `rdi` is the image again |
//! | `store_flags!()` | stores the flags, and sets those that the convention wants |
//! | `"pop rdi"`, `pop_preserved!()`, `"ret"` | goes back |
//!
//! Nothing from `load_registers!` to `store_flags!` changes a flag. Vector registers
//! are the routine's own business.

/// A place in an image.
pub const RAX: usize = 0;
/// See [`RAX`].
pub const RBX: usize = 1;
/// See [`RAX`].
pub const RCX: usize = 2;
/// See [`RAX`].
pub const RDX: usize = 3;
/// See [`RAX`].
pub const RSI: usize = 4;
/// See [`RAX`].
pub const RDI: usize = 5;
/// See [`RAX`].
pub const RBP: usize = 6;
/// See [`RAX`]. The registers with higher numbers follow.
pub const R8: usize = 7;

/// Where in an image the flags are, in bytes.
pub const FLAGS_AT: usize = 120;

/// Saves the registers that a C function must preserve.
#[macro_export]
macro_rules! push_preserved {
    () => {
        ".irp register, rbx, rbp, r12, r13, r14, r15
        push \\register
        .endr"
    };
}

/// Undoes `push_preserved!`.
#[macro_export]
macro_rules! pop_preserved {
    () => {
        ".irp register, r15, r14, r13, r12, rbp, rbx
        pop \\register
        .endr"
    };
}

/// Loads flags and general registers from the image at `rdi`, `rdi` last.
#[macro_export]
macro_rules! load_registers {
    () => {
        "push [rdi + 120]
        popfq
        mov rax, [rdi]
        mov rbx, [rdi + 8]
        mov rcx, [rdi + 16]
        mov rdx, [rdi + 24]
        mov rsi, [rdi + 32]
        mov rbp, [rdi + 48]
        mov r8, [rdi + 56]
        mov r9, [rdi + 64]
        mov r10, [rdi + 72]
        mov r11, [rdi + 80]
        mov r12, [rdi + 88]
        mov r13, [rdi + 96]
        mov r14, [rdi + 104]
        mov r15, [rdi + 112]
        mov rdi, [rdi + 40]"
    };
}

/// Stores the general registers to the image at the address on top of the stack, and leaves
/// the address there and in `rdi`. Writes the word below the stack pointer.
#[macro_export]
macro_rules! store_registers {
    () => {
        "push rdi
        mov rdi, [rsp + 8]
        pop [rdi + 40]
        mov [rdi], rax
        mov [rdi + 8], rbx
        mov [rdi + 16], rcx
        mov [rdi + 24], rdx
        mov [rdi + 32], rsi
        mov [rdi + 48], rbp
        mov [rdi + 56], r8
        mov [rdi + 64], r9
        mov [rdi + 72], r10
        mov [rdi + 80], r11
        mov [rdi + 88], r12
        mov [rdi + 96], r13
        mov [rdi + 104], r14
        mov [rdi + 112], r15"
    };
}

/// Stores the flags to the image at `rdi`, and clears what can be cleared.
#[macro_export]
macro_rules! store_flags {
    () => {
        "pushfq
        pop [rdi + 120]
        push 2
        popfq"
    };
}
