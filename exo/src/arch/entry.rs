//! Where ring 3 enters the kernel by the `syscall` instruction, and where it leaves it.
//!
//! A system call saves nine words on the kernel stack and calls the entry of its
//! number in [`crate::calls::CALLS`]; on the way back every register that the calling
//! convention does not preserve is cleared, so that nothing of the kernel leaks. An
//! environment that stopped for another one continues through [`resume`], whichever
//! way it came in; a call that ends in another environment (a protected control
//! transfer) leaves by [`go_on_at`]. For interrupts and exceptions see
//! [`super::vectors`].

use core::arch::{asm, naked_asm};
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

use exo_abi::UpcallArea;

use super::cpu::{EFER, FMASK, GS_BASE, LSTAR, STAR, read_msr, write_msr};
use super::descriptors::{KERNEL_CODE, SYSRET_BASE};
use super::stack::Stack;
use crate::cores::{self, MAX_CORES};
use crate::env::transfer::Place;
use crate::env::{Context, Env, VectorState};

/// Interrupts, single-step, direction, alignment check, nested task, I/O level:
/// all clear in ring 0.
const CLEARED_FLAGS: u64 = 1 << 9 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 14 | 3 << 12;

const STACK_BYTES: usize = 32 * 1024;

static STACKS: [Stack<STACK_BYTES>; MAX_CORES] = [const { Stack::new() }; MAX_CORES];

/// What `gs` points to in ring 0.
#[repr(C)]
pub(super) struct Core {
    itself: Cell<u64>,
    pub(super) stack_top: Cell<u64>,
    user_stack: Cell<u64>,
    pub(super) vector_state: Cell<*mut VectorState>,
    number: Cell<usize>,
    data: Cell<*const cores::Core>,
    /// The upcall words of the environment whose page tables are loaded.
    pub(super) upcalls: Cell<*const UpcallArea>,
    /// Where exceptions given back to it are counted.
    pub(super) exceptions: Cell<*const AtomicU64>,
    /// Two registers, while an exception is given back.
    pub(super) scratch: [Cell<u64>; 2],
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
        upcalls: Cell::new((&raw const MASKED).cast()),
        exceptions: Cell::new(core::ptr::null()),
        scratch: [const { Cell::new(0) }; 2],
    }
}; MAX_CORES];

/// The upcall words of nobody: masked, and so never written.
static MASKED: [u64; size_of::<UpcallArea>() / 8] = [u64::MAX; _];

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
    // SAFETY: as in `this_core`; it never changes.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) number, const offset_of!(Core, number),
            options(nostack, pure, readonly, preserves_flags));
    }
    number
}

/// What the kernel keeps of this processor: what [`set_core_data`] set.
#[inline]
pub fn core_data() -> *const cores::Core {
    let data;
    // SAFETY: as in `this_core`; it is set once, on the way to the schedule.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) data, const offset_of!(Core, data),
            options(nostack, pure, readonly, preserves_flags));
    }
    data
}

/// Says where the kernel keeps what it keeps of this processor, and where exceptions
/// that are given back to ring 3 are counted.
pub fn set_core_data(data: &cores::Core, exceptions: &'static AtomicU64) {
    this_core().data.set(data);
    this_core().exceptions.set(exceptions);
}

/// Where the kernel stack of processor `core` begins.
pub fn stack_top(core: usize) -> u64 {
    STACKS[core].top()
}

/// The pages below the kernel stacks.
pub(super) fn guards() -> impl Iterator<Item = u64> {
    STACKS.iter().map(Stack::guard)
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
#[inline]
pub fn set_vector_state(area: *mut VectorState) {
    // SAFETY: a word of this processor's own data (`this_core`).
    unsafe {
        asm!("mov gs:[{}], {}", const offset_of!(Core, vector_state), in(reg) area,
            options(nostack, preserves_flags));
    }
}

/// Tells the exception entry whose page tables are loaded, by the upcall words.
#[inline]
pub fn set_upcalls(area: Option<&'static UpcallArea>) {
    let area: *const UpcallArea = area.map_or((&raw const MASKED).cast(), core::ptr::from_ref);
    // SAFETY: as in `set_vector_state`.
    unsafe {
        asm!("mov gs:[{}], {}", const offset_of!(Core, upcalls), in(reg) area,
            options(nostack, preserves_flags));
    }
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
        "swapgs",
        "sysretq",
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
/// current. Leaves the kernel stack empty.
///
/// # Safety
/// `context` must be a user state (address and flags as the kernel made or
/// took them from the processor) and `vectors` a valid `fxsave` image.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(context: *const Context, vectors: *const VectorState) -> ! {
    naked_asm!(
        "fxrstor [rsi]",
        open_segments!(),
        "mov rsp, rdi",
        restore_registers!(),
        "swapgs",
        "iretq",
    )
}

#[unsafe(naked)]
unsafe extern "C" fn syscall_entry() {
    naked_asm!(
        "swapgs",
        "mov gs:[{user_stack}], rsp",
        "mov rsp, gs:[{stack_top}]",
        "push gs:[{user_stack}]",
        "push r11",
        "push rcx",
        "push rbp",
        "push rbx",
        "push r12; push r13; push r14; push r15",
        "sub rsp, 8",               // the calling convention's alignment
        "mov rcx, r10",
        "xor ebp, ebp",             // ends the kernel's backtrace here
        "cmp rax, {count}",
        "jae 3f",
        "call [{calls} + 8 * rax]",
        "2:",
        "mov rbp, [rsp + 48]",
        "mov rcx, [rsp + 56]",
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
        "3:",
        "mov eax, {count}",
        "call [{calls} + 8 * rax]",
        "jmp 2b",
        user_stack = const offset_of!(Core, user_stack),
        stack_top = const offset_of!(Core, stack_top),
        count = const crate::calls::COUNT,
        calls = sym crate::calls::CALLS,
    )
}
