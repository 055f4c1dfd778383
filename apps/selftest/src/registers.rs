//! The calling convention: what goes in, what comes back, what survives.

use core::arch::naked_asm;

use exo_abi::boot::SELF;
use exo_abi::{Error, Protection, SYSCALLS, Word, call_number};
use libos::sys;
use selftest::check::{Failure, Outcome, holds, same};
use selftest::image::{FLAGS_AT, R8, RAX, RBP, RBX, RCX, RDI, RDX, RSI};
use selftest::{load_registers, pop_preserved, push_preserved, store_flags, store_registers};

use crate::bench::{Bench, Check};

pub(crate) const CHECKS: &[Check] = &[
    ("registers after a call that returns at once", returning),
    ("registers after a call that is refused", refusing),
    ("registers after a call that copies memory", copying),
    ("registers after giving up the slice", yielding),
    ("registers after sleeping", sleeping),
    ("each argument arrives in its own register", arguments),
    ("numbers beyond the table are no calls", unknown),
];

/// Every register a program can see, in the order of [`selftest::image`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct Image {
    /// rax rbx rcx rdx rsi rdi rbp r8 to r15.
    pub(crate) general: [u64; 15],
    pub(crate) flags: u64,
    pub(crate) vectors: [[u64; 2]; 16],
    /// Stack pointer, noted on the way out and back.
    pub(crate) stack: u64,
}

const R9: usize = R8 + 1;
const R10: usize = R8 + 2;
const R11: usize = R8 + 3;

const _: () = assert!(core::mem::offset_of!(Image, flags) == FLAGS_AT);

/// Carry, parity, adjust, zero, sign, direction, overflow, identification; interrupts
/// are always on; bit 1 is always one. Alignment check, too: it would lift the
/// protection of user memory in ring 0 if the kernel forgot it.
pub(crate) const FLAGS: u64 = 0x24_0ed7;

impl Image {
    /// Something else in each register.
    pub(crate) fn pattern() -> Self {
        let word = |i: usize| 0x0101_0101_0101_0101_u64.wrapping_mul(0x11 + 7 * i as u64);
        Self {
            general: core::array::from_fn(word),
            flags: FLAGS,
            vectors: core::array::from_fn(|i| [word(20 + i), word(40 + i)]),
            stack: 0,
        }
    }

    fn call(number: u64, arguments: [u64; 6]) -> Self {
        let mut image = Self::pattern();
        image.general[RAX] = number;
        for (register, argument) in [RDI, RSI, RDX, R10, R8, R9].into_iter().zip(arguments) {
            image.general[register] = argument;
        }
        image
    }
}

/// Loads every register from `before`, executes `syscall`, and stores every register
/// to `after`.
#[unsafe(naked)]
unsafe extern "C" fn cross(before: *const Image, after: *mut Image) {
    naked_asm!(
        push_preserved!(),
        "push rsi",
        "mov [rsi + 384], rsp",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movups xmm\\n, [rdi + 128 + 16 * \\n]",
        ".endr",
        load_registers!(),
        "syscall",
        store_registers!(),
        store_flags!(),
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "movups [rdi + 128 + 16 * \\n], xmm\\n",
        ".endr",
        // How far the stack pointer is from where it was: zero.
        "sub [rdi + 384], rsp",
        "pop rsi",
        pop_preserved!(),
        "ret",
    )
}

/// Makes the call and applies the convention to what comes back. Returns code and
/// value.
#[track_caller]
pub(crate) fn checked(number: u64, arguments: [u64; 6]) -> Result<(u64, u64), Failure> {
    let before = Image::call(number, arguments);
    let mut after = before;
    // SAFETY: both images are live; the routine preserves what the C convention
    // wants preserved, and the calls made through it write no memory but their own.
    unsafe { cross(&raw const before, &raw mut after) };
    let after = core::hint::black_box(after);
    for register in [RBX, RBP, R11 + 1, R11 + 2, R11 + 3, R11 + 4] {
        same("a preserved register", after.general[register], before.general[register])?;
    }
    same("distance of the stack pointer", after.stack, 0)?;
    for register in [RSI, RDI, R8, R9, R10] {
        same("a register that comes back zero", after.general[register], 0)?;
    }
    same("flags", after.flags, before.flags | 0x202)?;
    same("vector registers", after.vectors, [[0; 2]; 16])?;
    let code = cross as *const () as u64;
    let returned_to = after.general[RCX];
    holds("rcx", returned_to == 0 || returned_to.wrapping_sub(code) < 4096)?;
    let flags = after.general[R11];
    holds("r11", flags == 0 || flags == after.flags)?;
    Ok((after.general[RAX], after.general[RDX]))
}

fn returning(_: &mut Bench) -> Outcome {
    same("answer", checked(call_number("null"), [1, 2, 3, 4, 5, 6])?, (0, 0))
}

fn refusing(_: &mut Bench) -> Outcome {
    for code in [Error::BadHandle, Error::BadArgument] {
        let handle = if code == Error::BadHandle { u64::MAX } else { SELF.into_word() };
        let answer = checked(call_number("map"), [handle, handle, 0, 0x1000, 1, 9])?;
        let wanted = Error::BadArgument.code();
        same("answer", answer, (wanted, 0))?;
        let answer = checked(call_number("cap_derive"), [handle, 1 << 40, 0, 0, 0, 0])?;
        same("answer", answer, (wanted, 0))?;
    }
    Ok(())
}

fn copying(_: &mut Bench) -> Outcome {
    let mut bytes = [0_u8; exo_abi::EnvStatus::BYTES];
    let at = bytes.as_mut_ptr().expose_provenance() as u64;
    let answer = checked(call_number("env_status"), [SELF.into_word(), at, 0, 0, 0, 0])?;
    same("answer", answer, (0, 0))?;
    let status = exo_abi::EnvStatus::from_bytes(&core::hint::black_box(bytes));
    same("own state", status.state, exo_abi::EnvState::Ready as u32)
}

fn yielding(bench: &mut Bench) -> Outcome {
    let events = crate::events::count(bench);
    let (code, value) = checked(call_number("slice_yield"), [0; 6])?;
    same("code", code, 0)?;
    holds("value is zero or the event count", value == 0 || value == events)
}

fn sleeping(bench: &mut Bench) -> Outcome {
    // A deadline that has passed: the call goes through the scheduler all the same.
    let events = crate::events::count(bench);
    same("answer", checked(call_number("wait"), [events, 1, 9, 9, 9, 9])?, (0, events))
}

/// `map` uses all six argument registers; if two were exchanged, a page would not be
/// where it was wanted or the call would be refused.
fn arguments(bench: &mut Bench) -> Outcome {
    let frames = bench.frames;
    let (at, other) = (bench.window(), bench.window());
    frames.cover(SELF, at)?;
    let child = bench.maker.bare()?;
    let first = frames.take(child.env, 2)?;
    let map = call_number("map");
    let (own, childs) = (SELF.into_word(), child.env.into_word());
    let read = Protection::Read.into_word();
    let good = [own, childs, first.into_word(), at.into_word(), 2, read];
    same("answer", checked(map, good)?, (0, 0))?;
    for (page, frame) in [(at, first), (other, first.plus(1))] {
        let found = bench.maker.tables.page(page)?.map(|page| (page.frame, page.protection));
        same("page", found, Some((frame, Protection::Read)))?;
    }
    sys::unmap(SELF, at, 2)?;
    // Each register alone, with a value that only its own argument refuses so.
    let table = frames.table.len() as u64;
    for (place, value, error) in [
        (0, u64::MAX, Error::BadHandle),
        (1, u64::MAX, Error::BadHandle),
        (2, table, Error::OutOfRange),
        (3, at.into_word() + 1, Error::BadAddress),
        (4, 65, Error::TooMuch),
        (5, 3, Error::BadArgument),
    ] {
        let mut words = good;
        words[place] = value;
        same("refusal", checked(map, words)?, (error.code(), 0))?;
    }
    child.destroy()?;
    Ok(())
}

fn unknown(_: &mut Bench) -> Outcome {
    let beyond = SYSCALLS.len() as u64;
    for number in [beyond, beyond + 1, 1 << 32, 1 << 63, u64::MAX] {
        same("answer", checked(number, [0; 6])?, (Error::NoSuchCall.code(), 0))?;
    }
    Ok(())
}
