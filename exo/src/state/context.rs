//! The registers of ring 3 while they are not in the processor.

use core::cell::UnsafeCell;

/// Selector of ring 0's code segment.
pub const KERNEL_CODE: u16 = 0x08;
/// Selector of ring 0's data segment.
pub const KERNEL_DATA: u16 = 0x10;
/// Selector of ring 3's code segment.
pub const USER_CODE: u16 = 0x28 | 3;
/// Selector of ring 3's data segment.
pub const USER_DATA: u16 = 0x20 | 3;

/// The state of an environment that is not running: what a trap leaves on its
/// stack, from the last register pushed up to what `iretq` pops. The order is
/// known to `arch::exit`, which saves and restores it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the processor's names")]
pub struct Context {
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
    /// Vector and error code of the trap it was saved by, if it was one.
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub flags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Context {
    /// About to execute at `rip` in ring 3, with all other registers zero.
    pub fn at(rip: u64, rsp: u64, flags: u64) -> Self {
        let (cs, ss) = (u64::from(USER_CODE), u64::from(USER_DATA));
        Self { rip, cs, flags, rsp, ss, ..Self::default() }
    }

    /// Whether it is a state of ring 3.
    pub const fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Vector and x87 registers in `fxsave` format (SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
pub struct VectorState(UnsafeCell<[u8; 512]>);

#[repr(C, align(16))]
struct Image([u8; 512]);

static INITIAL: Image = {
    let mut image = [0; 512];
    [image[0], image[1]] = 0x037f_u16.to_le_bytes(); // control word
    [image[24], image[25], image[26], image[27]] = 0x1f80_u32.to_le_bytes(); // MXCSR
    Image(image)
};

impl VectorState {
    /// The state after `finit`, all exceptions masked.
    pub fn initial() -> *const Self {
        (&raw const INITIAL).cast()
    }

    /// Makes it the [initial](Self::initial) one.
    pub fn reset(&self) {
        // SAFETY: the environment is not running, so neither the processor nor
        // anything else uses its saved state now.
        unsafe { *self.0.get() = INITIAL.0 };
    }

    /// Makes the vector registers zero, and leaves the rest.
    pub fn clear_registers(&self) {
        const XMM: core::ops::Range<usize> = 160..416; // SDM vol. 1, 10.5.1
        // SAFETY: as in `reset`.
        unsafe { (&mut *self.0.get())[XMM].fill(0) };
    }

    /// For the processor to save into and restore from.
    pub fn image(&self) -> *mut Self {
        self.0.get().cast()
    }
}

/// Flags in which an environment begins: interrupts on; the bit that is always one.
pub const START_FLAGS: u64 = 1 << 9 | 1 << 1;
