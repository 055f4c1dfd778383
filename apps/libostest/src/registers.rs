//! A computation that keeps something in every register, in the flags and in the red
//! zone, and touches a word of memory all the while.

use core::arch::naked_asm;
use core::mem::offset_of;

use selftest::image::{FLAGS_AT, R8, RCX};
use selftest::{load_registers, pop_preserved, push_preserved, store_flags, store_registers};

/// What is in the registers at the start, and then what was in them at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub(crate) struct Image {
    /// In the order of [`selftest::image`], and first, with the flags behind. Goes round
    /// rcx times; r15 is where the word is.
    general: [u64; 15],
    flags: u64,
    vectors: [[u64; 2]; 16],
    /// Top and bottom word of the red zone but one.
    red_zone: [u64; 2],
    control: u32,
    default_control: u32,
}

const R13: usize = R8 + 5;
const R14: usize = R8 + 6;
const R15: usize = R8 + 7;

const _: () = assert!(offset_of!(Image, flags) == FLAGS_AT);

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
        push_preserved!(),
        "push rdi",
        "ldmxcsr [rdi + {control}]",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps xmm\\n, [rdi + {vectors} + 16 * \\n]",
        ".endr",
        load_registers!(),
        "mov [rsp - 16], r13",
        "mov [rsp - 128], r14",
        // No instruction in here changes a flag.
        "2:",
        "mov [r15], r14",
        "lea rcx, [rcx - 1]",
        "jrcxz 3f",
        "jmp 2b",
        "3:",
        store_registers!(),
        "mov rax, [rsp - 16]",
        "mov [rdi + {red_zone}], rax",
        "mov rax, [rsp - 128]",
        "mov [rdi + {red_zone} + 8], rax",
        store_flags!(),
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movaps [rdi + {vectors} + 16 * \\n], xmm\\n",
        ".endr",
        "stmxcsr [rdi + {control}]",
        "ldmxcsr [rdi + {default_control}]",
        "pop rdi",
        pop_preserved!(),
        "ret",
        control = const offset_of!(Image, control),
        default_control = const offset_of!(Image, default_control),
        vectors = const offset_of!(Image, vectors),
        red_zone = const offset_of!(Image, red_zone),
    )
}
