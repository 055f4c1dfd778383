//! The ways out of ring 0, and the registers that are saved for them.
//!
//! An environment that stopped for another one continues through [`resume`], whichever
//! way it came in; a call that ends in another environment (a protected control
//! transfer) leaves by [`go_on_at`]. A call that returns goes back the way it came
//! ([`super::syscall`]).

use core::arch::{asm, naked_asm};
use core::mem::offset_of;

use super::percpu::Core;
use crate::state::context::{Context, VectorState};
use crate::state::env::Env;
use crate::state::transfer::Place;

/// Pops the general registers in the order of `Context`, then vector and error
/// code, which leaves the stack at what `iretq` pops.
macro_rules! restore_registers {
    () => {
        ".irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
        pop \\register
        .endr
        add rsp, 16"
    };
}
pub(super) use restore_registers;

/// Lets ring 0 see the code segment of ring 3, on the way there: see [`super::descriptors`].
/// The flag says nothing without SMAP, and ring 3's flags come with `iretq`.
macro_rules! open_segments {
    () => {
        "pushfq
        or dword ptr [rsp], 1 << 18
        popfq"
    };
}
pub(super) use open_segments;

/// Makes the vector registers zero.
macro_rules! clear_vectors {
    () => {
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        pxor xmm\\n, xmm\\n
        .endr"
    };
}
pub(super) use clear_vectors;

/// Goes on at `rcx` in ring 0, where the environment runs, with its stack: flags but for
/// that of interrupts are as in the kernel. No interrupt comes before it is there (SDM vol. 2, STI).
macro_rules! leave_elevated {
    () => {
        "swapgs
        sti
        jmp rcx"
    };
}
pub(super) use leave_elevated;

/// What a system call leaves at the top of the kernel stack.
#[repr(C)]
struct CallFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    rip: u64,
    flags: u64,
    rsp: u64,
}

/// The state in which the system call being served will return with `code`
/// and `value`. Only meaningful while serving one.
pub fn call_context(code: u64, value: u64) -> Context {
    let frame = call_frame();
    Context {
        rax: code,
        rdx: value,
        rbx: frame.rbx,
        rbp: frame.rbp,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        ..Context::at(frame.rip, frame.rsp, frame.flags)
    }
}

#[inline]
fn call_frame() -> &'static CallFrame {
    let top: *const CallFrame;
    // SAFETY: while a system call is served its frame lies right below the top
    // of the kernel stack, where the entry pushed it, and nothing writes it.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) top, const offset_of!(Core, stack_top),
            options(nostack, pure, readonly, preserves_flags));
        &*top.sub(1)
    }
}

/// Where the system call being served will return to.
#[inline]
pub fn return_place() -> Place {
    let frame = call_frame();
    Place { rip: frame.rip, rsp: frame.rsp, flags: frame.flags }
}

/// Ends the system call being served elsewhere than where it came from: at `rip`, with
/// `flags` and stack pointer `rsp`, with the page tables and vector registers that are
/// current, and with `code`, `value` and `grant` in `rax`, `rdx` and `rsi`. The message
/// registers `rbx rbp r12-r15` go there as they came. Leaves the kernel stack empty.
///
/// # Safety
/// While a system call is served; the address must be one of user space, and the vector
/// registers hold nothing of the kernel.
#[unsafe(naked)]
pub unsafe extern "C" fn go_on_at(
    rip: u64,
    flags: u64,
    rsp: u64,
    code: u64,
    value: u64,
    grant: u64,
) -> ! {
    naked_asm!(
        "mov rax, rcx",
        "mov rcx, rdi",
        "mov r11, rsi",
        "mov rsp, gs:[{stack_top}]",
        "sub rsp, {frame}",
        "pop r15; pop r14; pop r13; pop r12; pop rbx; pop rbp",
        "mov rsp, rdx",
        "mov rdx, r8",
        "mov rsi, r9",
        "xor edi, edi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "cmp byte ptr gs:[{elevated}], 0",
        "jne 2f",
        "swapgs",
        "sysretq",
        "2:",
        leave_elevated!(),
        elevated = const offset_of!(Core, elevated),
        stack_top = const offset_of!(Core, stack_top),
        frame = const size_of::<CallFrame>(),
    )
}

/// Saves the vector state of a caller that will not return at once.
///
/// Its vector registers are spent by the call and may by now hold kernel data,
/// so they are saved as zeros; control words and x87 state, which ring 0 never
/// touches, are kept.
///
/// # Safety
/// As for [`save_vectors`]; `caller` must be the running environment.
pub unsafe fn save_caller_vectors(caller: &Env) {
    // SAFETY: as this function's.
    unsafe { save_vectors() };
    caller.vectors().clear_registers();
}

/// Saves the vector state as it is where that of the running environment goes. The
/// vector registers in it are the kernel's, and not for ring 3.
///
/// # Safety
/// Nothing else may refer to it.
#[inline]
pub unsafe fn save_vectors() {
    // SAFETY: `fxsave` writes 512 bytes to a buffer of that size and alignment
    // (`set_vector_state`).
    unsafe {
        asm!("mov {0}, gs:[{1}]", "fxsave [{0}]", out(reg) _,
            const offset_of!(Core, vector_state), options(nostack));
    }
}

/// Loads the vector state of one that begins.
#[inline]
pub fn load_initial_vectors() {
    // SAFETY: a valid image.
    unsafe {
        asm!("fxrstor [{}]", in(reg) VectorState::initial(), clobber_abi("C"), options(nostack));
    }
}

/// Loads the vector state that [`save_vectors`] saved, without the vector registers.
///
/// # Safety
/// It must have saved it to `area`.
#[inline]
pub unsafe fn load_saved_vectors(area: *const VectorState) {
    // SAFETY: a valid image (the caller's promise).
    unsafe {
        asm!("fxrstor [{}]", clear_vectors!(), in(reg) area, clobber_abi("C"), options(nostack));
    }
}

/// Continues an environment from its saved state, with its page tables already
/// current, in the ring of these selectors. Leaves the kernel stack empty.
///
/// # Safety
/// `context` must be a user state (address and flags as the kernel made or
/// took them from the processor) and `vectors` a valid `fxsave` image.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(
    context: *mut Context,
    vectors: *const VectorState,
    code: u16,
    data: u16,
) -> ! {
    naked_asm!(
        "fxrstor [rsi]",
        "mov [rdi + {code}], dx",
        "mov [rdi + {data}], cx",
        open_segments!(),
        "mov rsp, rdi",
        restore_registers!(),
        "swapgs",
        "iretq",
        code = const offset_of!(Context, cs),
        data = const offset_of!(Context, ss),
    )
}
