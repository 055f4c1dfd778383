//! Where ring 3 enters the kernel and where it leaves it: the `syscall`
//! instruction, and the 256 interrupt vectors.
//!
//! A system call saves nine words on the kernel stack and calls
//! [`crate::calls::dispatch`]; on the way back every register that the calling convention
//! does not preserve is cleared, so that nothing of the kernel leaks. A trap
//! saves everything, vector registers included. An environment that stopped for
//! another one continues through [`resume`], whichever way it came in.

use core::arch::{asm, global_asm, naked_asm};
use core::cell::{Cell, UnsafeCell};

use super::cpu::{EFER, FMASK, GS_BASE, LSTAR, STAR, read_msr, write_msr};
use super::descriptors::{KERNEL_CODE, SYSRET_BASE, USER_CODE, USER_DATA};
use crate::env::{Context, VectorState};

/// Interrupts, single-step, direction, alignment check, nested task, I/O level:
/// all clear in ring 0.
const CLEARED_FLAGS: u64 = 1 << 9 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 14 | 3 << 12;

const STACK_BYTES: usize = 32 * 1024;

#[repr(C, align(16))]
struct KernelStack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the stack pointer of the one core refers to it.
unsafe impl Sync for KernelStack {}

static STACK: KernelStack = KernelStack(UnsafeCell::new([0; STACK_BYTES]));

/// What `gs` points to in ring 0. The offsets are known to the assembly below.
#[repr(C)]
struct Core {
    itself: Cell<u64>,
    stack_top: Cell<u64>,
    user_stack: Cell<u64>,
    vector_state: Cell<*mut VectorState>,
}

// SAFETY: one core exists, and ring 0 is not interrupted while using it.
unsafe impl Sync for Core {}

static CORE: Core = Core {
    itself: Cell::new(0),
    stack_top: Cell::new(0),
    user_stack: Cell::new(0),
    vector_state: Cell::new(core::ptr::null_mut()),
};

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

/// What a trap leaves on its stack; passed to `trap`.
#[repr(C)]
pub struct TrapFrame {
    /// General registers.
    pub registers: Registers,
    /// Vector number.
    pub vector: u64,
    /// Error code, or zero.
    pub error: u64,
    /// Interrupted instruction.
    pub rip: u64,
    /// Interrupted code segment; its low bits are the ring.
    pub cs: u64,
    /// Flags.
    pub flags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// The general registers but the stack pointer, in the order the stubs push.
#[derive(Clone, Copy)]
#[repr(C)]
#[expect(missing_docs, reason = "the processor's names")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
}

impl TrapFrame {
    /// Whether ring 3 was interrupted.
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }

    /// The interrupted state, to be resumed later.
    pub fn context(&self) -> Context {
        let r = &self.registers;
        Context {
            rax: r.rax,
            rbx: r.rbx,
            rcx: r.rcx,
            rdx: r.rdx,
            rsi: r.rsi,
            rdi: r.rdi,
            rbp: r.rbp,
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
            rip: self.rip,
            flags: self.flags,
            rsp: self.rsp,
        }
    }
}

/// Sets up the `syscall` instruction and the core's data.
///
/// # Safety
/// Once, after the descriptors are loaded.
pub unsafe fn start() {
    CORE.itself.set(&raw const CORE as u64);
    CORE.stack_top.set(STACK.0.get() as u64 + STACK_BYTES as u64);
    // SAFETY: the selectors are those of `descriptors`, the target is the entry
    // below, and `gs` addresses the core's data while in ring 0.
    unsafe {
        write_msr(STAR, u64::from(SYSRET_BASE) << 48 | u64::from(KERNEL_CODE) << 32);
        write_msr(LSTAR, syscall_entry as *const () as u64);
        write_msr(FMASK, CLEARED_FLAGS);
        write_msr(GS_BASE, &raw const CORE as u64);
        debug_assert!(read_msr(EFER) & 1 == 1);
    }
}

/// Tells the trap entry where the running environment's vector registers go.
pub fn set_vector_state(area: *mut VectorState) {
    CORE.vector_state.set(area);
}

/// The state in which the system call being served will return with `code`
/// and `value`. Only meaningful while serving one.
pub fn call_context(code: u64, value: u64) -> Context {
    // SAFETY: while a system call is served its frame lies right below the top
    // of the kernel stack, where the entry pushed it and nothing writes.
    let frame = unsafe { &*(CORE.stack_top.get() as *const CallFrame).sub(1) };
    Context {
        rax: code,
        rdx: value,
        rbx: frame.rbx,
        rbp: frame.rbp,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rip: frame.rip,
        flags: frame.flags,
        rsp: frame.rsp,
        ..Context::ZERO
    }
}

/// Saves the vector state of a caller that will not return at once.
///
/// Its vector registers are spent by the call and may by now hold kernel data,
/// so they are saved as zeros; control words and x87 state, which ring 0 never
/// touches, are kept.
///
/// # Safety
/// `area` must be the caller's own and not referred to by anything else.
pub unsafe fn save_caller_vectors(area: *mut VectorState) {
    const XMM: core::ops::Range<usize> = 160..416;
    // SAFETY: `fxsave` writes 512 bytes to a buffer of that size and alignment,
    // of which `XMM` is a part (SDM vol. 1, 10.5.1).
    unsafe {
        asm!("fxsave [{}]", in(reg) area, options(nostack));
        area.cast::<u8>().add(XMM.start).write_bytes(0, XMM.len());
    }
}

/// Continues an environment from its saved state, with its page tables already
/// current. Leaves the kernel stack empty.
///
/// # Safety
/// `context` must be a user state (address and flags as the kernel made or
/// took them from the processor) and `vectors` a valid `fxsave` image.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(context: *const Context, vectors: *const VectorState) -> ! {
    naked_asm!(
        "mov rsp, gs:[8]",
        "fxrstor [rsi]",
        "push {user_data}",
        "push [rdi + 136]",         // rsp
        "push [rdi + 128]",         // flags
        "push {user_code}",
        "push [rdi + 120]",         // rip
        "mov rax, [rdi + 0]",
        "mov rbx, [rdi + 8]",
        "mov rcx, [rdi + 16]",
        "mov rdx, [rdi + 24]",
        "mov rsi, [rdi + 32]",
        "mov rbp, [rdi + 48]",
        "mov r8, [rdi + 56]",
        "mov r9, [rdi + 64]",
        "mov r10, [rdi + 72]",
        "mov r11, [rdi + 80]",
        "mov r12, [rdi + 88]",
        "mov r13, [rdi + 96]",
        "mov r14, [rdi + 104]",
        "mov r15, [rdi + 112]",
        "mov rdi, [rdi + 40]",
        "swapgs",
        "iretq",
        user_data = const USER_DATA,
        user_code = const USER_CODE,
    )
}

/// Runs `function` on an empty kernel stack; for code that never returns to
/// what is on it now.
///
/// # Safety
/// Nothing on the current kernel stack may be needed any more.
#[unsafe(naked)]
pub unsafe extern "C" fn on_empty_stack(function: extern "C" fn() -> !) -> ! {
    naked_asm!("mov rsp, gs:[8]", "xor ebp, ebp", "call rdi", "ud2")
}

#[unsafe(naked)]
unsafe extern "C" fn syscall_entry() {
    naked_asm!(
        "swapgs",
        "mov gs:[16], rsp",
        "mov rsp, gs:[8]",
        "push gs:[16]",
        "push r11",
        "push rcx",
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rax",                 // seventh argument
        "mov rcx, r10",
        "xor ebp, ebp",             // ends the kernel's backtrace here
        "call {dispatch}",
        "mov rbp, [rsp + 48]",
        "mov rcx, [rsp + 56]",
        "mov r11, [rsp + 64]",
        "mov rsp, [rsp + 72]",
        "xor edi, edi",
        "xor esi, esi",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "xor r10d, r10d",
        "pxor xmm0, xmm0",
        "pxor xmm1, xmm1",
        "pxor xmm2, xmm2",
        "pxor xmm3, xmm3",
        "pxor xmm4, xmm4",
        "pxor xmm5, xmm5",
        "pxor xmm6, xmm6",
        "pxor xmm7, xmm7",
        "pxor xmm8, xmm8",
        "pxor xmm9, xmm9",
        "pxor xmm10, xmm10",
        "pxor xmm11, xmm11",
        "pxor xmm12, xmm12",
        "pxor xmm13, xmm13",
        "pxor xmm14, xmm14",
        "pxor xmm15, xmm15",
        "swapgs",
        "sysretq",
        dispatch = sym crate::calls::dispatch,
    )
}

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
    "jmp trap_common",
    ".set vector, vector + 1",
    ".endr",
    "trap_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 2f",
    "swapgs",
    "2:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    // Ring 3 may have set the alignment-check flag, which would lift SMAP.
    "pushfq",
    "and dword ptr [rsp], 0xfffbffff",
    "popfq",
    "mov rdi, rsp",
    "test byte ptr [rsp + 144], 3",
    "jz 3f",
    "mov rax, gs:[24]",
    "fxsave [rax]",
    "xor ebp, ebp",
    "3:",
    "mov rbx, rsp",
    "and rsp, -16",
    "call {trap}",
    // Only an interrupt of the halted kernel comes back here.
    "mov rsp, rbx",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    ".popsection",
    trap = sym crate::trap::trap,
);
