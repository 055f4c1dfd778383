//! The timer takes the processor away in the middle of a computation; nothing of it may be
//! lost, and nothing of another environment's seen.

use core::arch::{asm, naked_asm};
use core::sync::atomic::Ordering::Relaxed;

use selftest::check::{Outcome, holds, same};
use selftest::child::{Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::image::RCX;
use selftest::{load_registers, pop_preserved, push_preserved, store_flags, store_registers};

use crate::bench::{Bench, Check, PATIENCE};
use crate::registers::Image;

pub(crate) const CHECKS: &[Check] = &[
    ("registers survive preemption", survive),
    ("segment registers show nothing of other environments", segments),
];

/// How often the processor is to be taken away while registers hold patterns.
const PREEMPTIONS: u64 = 24;
/// Rounds of the loop between two looks.
const ROUNDS: u64 = 200_000;

/// Vector, x87 and control state, as `fxsave` stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub(crate) struct VectorImage(pub(crate) [u64; 64]);

/// Loads general registers and flags from `image`, goes round `image.general[RCX]`
/// times without touching any register but `rcx` or any flag, and stores everything
/// back to `image`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn spin(image: *mut Image) {
    naked_asm!(
        push_preserved!(),
        "push rdi",
        load_registers!(),
        "2:",
        "lea rcx, [rcx - 1]",
        "jrcxz 3f",
        "jmp 2b",
        "3:",
        store_registers!(),
        store_flags!(),
        "pop rdi",
        pop_preserved!(),
        "ret",
    )
}

/// Fills every register with other values again and again, and counts on the shared
/// page.
#[unsafe(naked)]
pub(crate) extern "C" fn churn(_: u64) -> ! {
    naked_asm!(
        "mov rbx, rdi",
        "push 0x3f80",
        "ldmxcsr [rsp]",
        "fninit",
        "fldl2t",
        "fldlg2",
        "fldz",
        "2:",
        "inc qword ptr [rbx]",
        "mov rax, [rbx]",
        "not rax",
        "mov rcx, rax",
        "mov rdx, rax",
        "mov rsi, rax",
        "mov rdi, rax",
        "mov rbp, rax",
        "mov r8, rax",
        "mov r9, rax",
        "mov r10, rax",
        "mov r11, rax",
        "mov r12, rax",
        "mov r13, rax",
        "mov r14, rax",
        "mov r15, rax",
        "movq xmm0, rax",
        "pshufd xmm1, xmm0, 0x1b",
        "movaps xmm2, xmm1",
        "movaps xmm3, xmm1",
        "movaps xmm4, xmm1",
        "movaps xmm5, xmm1",
        "movaps xmm6, xmm1",
        "movaps xmm7, xmm1",
        "movaps xmm8, xmm1",
        "movaps xmm9, xmm1",
        "movaps xmm10, xmm1",
        "movaps xmm11, xmm1",
        "movaps xmm12, xmm1",
        "movaps xmm13, xmm1",
        "movaps xmm14, xmm1",
        "movaps xmm15, xmm1",
        "std",
        "jmp 2b",
    )
}

/// Loads the vector registers from `words`, sets control words and x87 registers apart
/// from their defaults, calls `routine` with `argument`, and returns the state before
/// and after.
///
/// # Safety
/// `routine` must keep the C convention, except that it may return with vector
/// registers and control words changed, and `argument` must be what it wants.
pub(crate) unsafe fn with_vectors(
    words: &[[u64; 2]; 16],
    routine: *const (),
    argument: u64,
) -> (VectorImage, VectorImage) {
    let mut before = VectorImage([0; 64]);
    let mut after = before;
    let control: u32 = 0x5f80; // round down
    // SAFETY: loads registers that are all declared clobbered, stores 512 bytes to
    // each of two aligned buffers of that size, calls the routine, which the caller
    // vouches for, and puts the control words back as the convention wants them.
    unsafe {
        asm!(
            "movups xmm0, [rax]", "movups xmm1, [rax + 16]", "movups xmm2, [rax + 32]",
            "movups xmm3, [rax + 48]", "movups xmm4, [rax + 64]", "movups xmm5, [rax + 80]",
            "movups xmm6, [rax + 96]", "movups xmm7, [rax + 112]", "movups xmm8, [rax + 128]",
            "movups xmm9, [rax + 144]", "movups xmm10, [rax + 160]",
            "movups xmm11, [rax + 176]", "movups xmm12, [rax + 192]",
            "movups xmm13, [rax + 208]", "movups xmm14, [rax + 224]",
            "movups xmm15, [rax + 240]",
            "ldmxcsr [rdx]",
            "fninit", "fld1", "fldpi",
            "fxsave [r12]",
            "call r14",
            "fxsave [r13]",
            "fninit",
            "push 0x1f80", "ldmxcsr [rsp]", "pop rax",
            inout("rax") words.as_ptr() => _,
            inout("rdx") &raw const control => _,
            inout("rdi") argument => _,
            in("r12") &raw mut before,
            in("r13") &raw mut after,
            in("r14") routine,
            clobber_abi("C"),
        );
    }
    (before, after)
}

fn survive(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let rival = bench.maker.child()?;
    rival.share(page)?;
    let code: Code = churn;
    rival.start(code, SHARED.get())?;
    let system = bench.environment.system;
    let traps = system.traps.load(Relaxed);
    let words = Image::pattern().vectors;
    let mut rounds = 0;
    loop {
        let mut image = Image::pattern();
        image.general[RCX] = ROUNDS;
        let mut wanted = image;
        wanted.general[RCX] = 0;
        wanted.flags |= 0x202;
        // SAFETY: the routine keeps the convention, and wants an image.
        let (before, after) = unsafe {
            let image = (&raw mut image).expose_provenance() as u64;
            with_vectors(&words, spin as *const (), image)
        };
        let image = core::hint::black_box(image);
        same("general registers", image.general, wanted.general)?;
        same("flags", image.flags, wanted.flags)?;
        same("vector state", before, after)?;
        rounds += 1;
        let enough = system.traps.load(Relaxed) - traps >= PREEMPTIONS;
        if enough && read(window, 0) > 0 {
            break;
        }
        holds("never preempted", rounds < 100_000)?;
    }
    let ran = read(window, 0);
    holds("the rival never ran", ran > 0)?;
    write(window, 0, 0);
    rival.destroy()?;
    bench.frames.drop_page(window, page)?;
    Ok(())
}

/// The selectors in ds, es, fs and gs.
#[inline(always)]
fn selectors() -> u64 {
    let (ds, es, fs, gs): (u64, u64, u64, u64);
    // SAFETY: reads four registers.
    unsafe {
        asm!("mov {0:e}, ds", "mov {1:e}, es", "mov {2:e}, fs", "mov {3:e}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack));
    }
    ds & 0xffff | (es & 0xffff) << 16 | (fs & 0xffff) << 32 | (gs & 0xffff) << 48
}

/// Loads the user data segment everywhere, and exits with what was there before.
extern "C" fn loads_segments(_: u64) -> ! {
    let before = selectors();
    // SAFETY: the segment is flat, and 64-bit code does not use it.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", "mov gs, {0:e}",
            in(reg) 0x23, options(nostack));
    }
    exit(before)
}

fn segments(bench: &mut Bench) -> Outcome {
    let own = selectors();
    for _ in 0..2 {
        let status = bench.maker.try_out(loads_segments, 0, PATIENCE)?;
        same("selectors of a new environment", status.map(|status| status.code), Some(0))?;
        same("own selectors", selectors(), own)?;
    }
    Ok(())
}
