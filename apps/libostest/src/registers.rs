//! A computation that keeps something in every register, in the flags and in the red
//! zone, and touches a word of memory all the while.

use core::arch::naked_asm;
use core::mem::offset_of;

/// What is in the registers at the start, and then what was in them at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub(crate) struct Image {
    /// rax rbx rcx rdx rsi rdi rbp r8-r15. Goes round rcx times; r15 is where the word is.
    general: [u64; 15],
    flags: u64,
    vectors: [[u64; 2]; 16],
    /// Top and bottom word of the red zone but one.
    red_zone: [u64; 2],
    control: u32,
    default_control: u32,
}

const RCX: usize = 2;
const R13: usize = 12;
const R14: usize = 13;
const R15: usize = 14;

impl Image {
    /// Values that no other `seed` has anywhere.
    pub(crate) fn pattern(seed: u64, rounds: u64, touched: *mut u64) -> Self {
        let value = |index: u64| (seed << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut image = Self {
            general: core::array::from_fn(|index| value(index as u64)),
            // Carry, parity, adjust, zero, sign, direction, overflow, as the seed has them.
            flags: seed.wrapping_mul(0x5bd1_e995) >> 3 & 0xcd5 | 0x202,
            vectors: core::array::from_fn(|index| {
                [value(32 + index as u64), value(64 + index as u64)]
            }),
            red_zone: [0; 2],
            // All masked, rounding as the seed says.
            control: 0x1f80 | (seed as u32 & 3) << 13,
            default_control: 0x1f80,
        };
        image.general[RCX] = rounds;
        image.general[R15] = touched.expose_provenance() as u64;
        image
    }

    /// What it must be when it comes back.
    pub(crate) fn expected(mut self) -> Self {
        self.general[RCX] = 0;
        self.red_zone = [self.general[R13], self.general[R14]];
        self
    }

    /// What it writes to the word.
    pub(crate) fn written(&self) -> u64 {
        self.general[R14]
    }

    /// Loads everything, goes round, and stores everything back.
    pub(crate) fn hold(&mut self) {
        // SAFETY: the image is writable, and the word in r15 was given by a pointer that
        // its owner keeps valid; the routine keeps the C convention.
        unsafe { hold(self) }
    }
}

#[unsafe(naked)]
unsafe extern "C" fn hold(image: *mut Image) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "ldmxcsr [rdi + {control}]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps xmm\\n, [rdi + {vectors} + 16 * \\n]",
        ".endr",
        "push [rdi + {flags}]",
        "popfq",
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
        "mov [rsp - 16], r13",
        "mov [rsp - 128], r14",
        // No instruction in here changes a flag.
        "2:",
        "mov [r15], r14",
        "lea rcx, [rcx - 1]",
        "jrcxz 3f",
        "jmp 2b",
        "3:",
        "push rdi",
        "mov rdi, [rsp + 8]",
        "pop [rdi + 40]",
        "mov [rdi + 0], rax",
        "mov [rdi + 8], rbx",
        "mov [rdi + 16], rcx",
        "mov [rdi + 24], rdx",
        "mov [rdi + 32], rsi",
        "mov [rdi + 48], rbp",
        "mov [rdi + 56], r8",
        "mov [rdi + 64], r9",
        "mov [rdi + 72], r10",
        "mov [rdi + 80], r11",
        "mov [rdi + 88], r12",
        "mov [rdi + 96], r13",
        "mov [rdi + 104], r14",
        "mov [rdi + 112], r15",
        "mov rax, [rsp - 16]",
        "mov [rdi + {red_zone}], rax",
        "mov rax, [rsp - 128]",
        "mov [rdi + {red_zone} + 8], rax",
        "pushfq",
        "pop [rdi + {flags}]",
        "push 2",
        "popfq",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps [rdi + {vectors} + 16 * \\n], xmm\\n",
        ".endr",
        "stmxcsr [rdi + {control}]",
        "ldmxcsr [rdi + {default_control}]",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        control = const offset_of!(Image, control),
        default_control = const offset_of!(Image, default_control),
        flags = const offset_of!(Image, flags),
        vectors = const offset_of!(Image, vectors),
        red_zone = const offset_of!(Image, red_zone),
    )
}
