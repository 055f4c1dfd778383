//! Where ring 3 enters the kernel and where it leaves it: the `syscall`
//! instruction, and the 256 interrupt vectors.
//!
//! A system call saves nine words on the kernel stack and calls
//! [`crate::calls::dispatch`]; on the way back every register that the calling convention
//! does not preserve is cleared, so that nothing of the kernel leaks. A trap
//! saves everything, vector registers included. An environment that stopped for
//! another one continues through [`resume`], whichever way it came in; one that was
//! only redirected (an upcall) or whose call ends in another environment (a protected
//! control transfer) goes back the way it came.

use core::arch::{asm, global_asm, naked_asm};
use core::cell::{Cell, UnsafeCell};

use super::cpu::{EFER, FMASK, GS_BASE, LSTAR, STAR, read_msr, write_msr};
use super::descriptors::{KERNEL_CODE, SYSRET_BASE};
use crate::cores::{self, MAX_CORES};
use crate::env::transfer::Place;
use crate::env::{Context, VectorState};

/// Interrupts, single-step, direction, alignment check, nested task, I/O level:
/// all clear in ring 0.
const CLEARED_FLAGS: u64 = 1 << 9 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 14 | 3 << 12;

const STACK_BYTES: usize = 32 * 1024;

#[repr(C, align(16))]
struct KernelStack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the stack pointer of its processor refers to it.
unsafe impl Sync for KernelStack {}

static STACKS: [KernelStack; MAX_CORES] =
    [const { KernelStack(UnsafeCell::new([0; STACK_BYTES])) }; MAX_CORES];

/// What `gs` points to in ring 0. The offsets are known to the assembly below.
#[repr(C)]
struct Core {
    itself: Cell<u64>,
    stack_top: Cell<u64>,
    user_stack: Cell<u64>,
    vector_state: Cell<*mut VectorState>,
    number: Cell<usize>,
    data: Cell<*const cores::Core>,
}

// SAFETY: each is used by one processor, and ring 0 is not interrupted while using it.
unsafe impl Sync for Core {}

static CORES: [Core; MAX_CORES] = [const {
    Core {
        itself: Cell::new(0),
        stack_top: Cell::new(0),
        user_stack: Cell::new(0),
        vector_state: Cell::new(core::ptr::null_mut()),
        number: Cell::new(0),
        data: Cell::new(core::ptr::null()),
    }
}; MAX_CORES];

#[inline]
fn this_core() -> &'static Core {
    let itself: *const Core;
    // SAFETY: in ring 0 `gs` addresses the processor's data, which begins with its own
    // address (`start`).
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) itself, options(nostack, readonly, preserves_flags));
        &*itself
    }
}

/// The number of this processor.
#[inline]
pub fn core_number() -> usize {
    let number;
    // SAFETY: as in `this_core`; the number is the fifth word.
    unsafe {
        asm!("mov {}, gs:[32]", out(reg) number, options(nostack, pure, readonly, preserves_flags));
    }
    number
}

/// What the kernel keeps of this processor: what [`set_core_data`] set.
#[inline]
pub fn core_data() -> *const cores::Core {
    let data;
    // SAFETY: as in `this_core`; it is the sixth word.
    unsafe {
        asm!("mov {}, gs:[40]", out(reg) data, options(nostack, pure, readonly, preserves_flags));
    }
    data
}

/// Says where the kernel keeps what it keeps of this processor.
pub fn set_core_data(data: &cores::Core) {
    this_core().data.set(data);
}

/// Where the kernel stack of processor `core` begins.
pub fn stack_top(core: usize) -> u64 {
    STACKS[core].0.get() as u64 + STACK_BYTES as u64
}

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

/// What a system call leaves at the top of the kernel stack.
#[repr(C)]
struct CallFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    rip: Cell<u64>,
    flags: Cell<u64>,
    rsp: Cell<u64>,
}

/// Sets up the `syscall` instruction and the core's data.
///
/// # Safety
/// Once on each processor, with its own number, after the descriptors are loaded.
pub unsafe fn start(number: usize) {
    let core = &CORES[number];
    core.itself.set(core as *const Core as u64);
    core.stack_top.set(stack_top(number));
    core.number.set(number);
    // SAFETY: the selectors are those of `descriptors`, the target is the entry
    // below, and `gs` addresses the core's data while in ring 0.
    unsafe {
        write_msr(STAR, u64::from(SYSRET_BASE) << 48 | u64::from(KERNEL_CODE) << 32);
        write_msr(LSTAR, syscall_entry as *const () as u64);
        write_msr(FMASK, CLEARED_FLAGS);
        write_msr(GS_BASE, core.itself.get());
        debug_assert!(read_msr(EFER) & 1 == 1);
    }
}

/// Tells the trap entry where the running environment's vector registers go.
pub fn set_vector_state(area: *mut VectorState) {
    this_core().vector_state.set(area);
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
        ..Context::at(frame.rip.get(), frame.rsp.get(), frame.flags.get())
    }
}

fn call_frame() -> &'static CallFrame {
    // SAFETY: while a system call is served its frame lies right below the top
    // of the kernel stack, where the entry pushed it. Only cells in it are written.
    unsafe { &*(this_core().stack_top.get() as *const CallFrame).sub(1) }
}

/// Where the system call being served will return to.
#[inline]
pub fn return_place() -> Place {
    let frame = call_frame();
    Place { rip: frame.rip.get(), rsp: frame.rsp.get(), flags: frame.flags.get() }
}

/// Makes the system call being served return elsewhere, with the page tables that
/// are current. The registers `rbx rbp r12-r15` go there as they came.
#[inline]
pub fn return_to(place: Place) {
    let frame = call_frame();
    frame.rip.set(place.rip);
    frame.rsp.set(place.rsp);
    frame.flags.set(place.flags);
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
    // SAFETY: as this function's.
    unsafe {
        save_vectors(area);
        (*area).clear_registers();
    }
}

/// Saves the vector state as it is.
///
/// # Safety
/// As for [`save_caller_vectors`]; the vector registers in it are the kernel's.
#[inline]
pub unsafe fn save_vectors(area: *mut VectorState) {
    // SAFETY: `fxsave` writes 512 bytes to a buffer of that size and alignment.
    unsafe { asm!("fxsave [{}]", in(reg) area, options(nostack)) };
}

/// Loads a vector state. The compiler is told that vector registers change.
///
/// # Safety
/// `area` must be an image that `fxsave` wrote, or the initial one.
#[inline]
pub unsafe fn load_vectors(area: *const VectorState) {
    // SAFETY: a valid image (the caller's promise).
    unsafe { asm!("fxrstor [{}]", in(reg) area, clobber_abi("C"), options(nostack)) };
}

/// Continues an environment from its saved state, with its page tables already
/// current. Leaves the kernel stack empty.
///
/// # Safety
/// `context` must be a user state (address and flags as the kernel made or
/// took them from the processor) and `vectors` a valid `fxsave` image.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(context: *const Context, vectors: *const VectorState) -> ! {
    naked_asm!("fxrstor [rsi]", "mov rsp, rdi", restore_registers!(), "swapgs", "iretq",)
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
        "push r12; push r13; push r14; push r15",
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
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "pxor xmm\\n, xmm\\n",
        ".endr",
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
    "mov rax, gs:[24]",
    "fxsave [rax]",
    // Off the interrupt stack, which the next interrupt overwrites: the kernel
    // may halt before it leaves. The call stack is empty while ring 3 runs.
    "mov rsp, gs:[8]",
    "xor ebp, ebp",
    "3:",
    "and rsp, -16",
    "call {trap}",
    // Back comes an interrupt of the halted kernel; and what was made an upcall of
    // the environment that runs anyway.
    "mov rsp, rbx",
    "test byte ptr [rsp + 144], 3",
    "jz 4f",
    "mov rax, gs:[24]",
    "fxrstor [rax]",
    "swapgs",
    "4:",
    restore_registers!(),
    "iretq",
    ".popsection",
    trap = sym crate::trap::trap,
);
