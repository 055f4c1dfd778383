//! What goes wrong in ring 0 as it does in ring 3: each fault takes ring 0 away, comes to the
//! program as ever, and the machine goes on.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::Lowered;
use libos::println;
use libos::upcall::{self, Frame, Reason};
use selftest::check::{Outcome, holds, same};
use selftest::random::Random;
use selftest::server::area;

use crate::bench::{Bench, Check, in_ring, lost_by};

pub(crate) const CHECKS: &[Check] = &[
    ("wild reads, writes and jumps are given back in ring 3", wild),
    ("so are other exceptions", others),
    ("a stack that is used up, and one that is none", stacks),
    ("a thousand random faults", thousand),
];

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; 16384]>);

// SAFETY: only the upcall entry's stack pointer refers to it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 16384]));

/// What the last exception was: vector and address.
static SEEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Returns from the routine that faulted, which kept its stack pointer in `r11`.
fn notes(reason: Reason, frame: &mut Frame) {
    let Reason::Exception(exception) = reason else { return };
    SEEN[0].store(exception.vector, Relaxed);
    SEEN[1].store(exception.address, Relaxed);
    COUNT.store(COUNT.load(Relaxed) + 1, Relaxed);
    let back: *const u64 = core::ptr::with_exposed_provenance(frame.r11 as usize);
    // SAFETY: the routines below keep there where their return address is.
    frame.rip = unsafe { back.read() };
    frame.rsp = frame.r11 + 8;
}

macro_rules! routine {
    ($name:ident, $($line:literal),*) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(address: u64) {
            naked_asm!("mov r11, rsp", $($line,)* "ret")
        }
    };
}
routine!(reads, "mov rax, [rdi]");
routine!(writes, "mov [rdi], rax");
routine!(jumps, "jmp rdi");
routine!(calls, "call rdi");
routine!(undefined, "ud2");
routine!(divides, "xor eax, eax", "xor edx, edx", "xor ecx, ecx", "div ecx");
routine!(breaks, "int3");
routine!(loads_segment, "mov eax, 0x7ff8", "mov ds, eax");
routine!(overflows, "2:", "push rax", "jmp 2b");
routine!(loses_stack, "mov rsp, rdi", "push rax");

type Routine = unsafe extern "C" fn(u64);

/// Runs `routine` in ring 0. Returns the vector of the exception it caused, if it did.
fn try_out(bench: &Bench, routine: Routine, address: u64) -> Result<Option<u64>, check::Failure> {
    let before = COUNT.load(Relaxed);
    let stretch = bench.right().begin()?;
    in_ring(0)?;
    // SAFETY: a routine that faults returns to here all the same; none changes what the calling
    // convention preserves.
    unsafe { routine(address) };
    let count = COUNT.load(Relaxed) - before;
    if count != 0 {
        lost_by(Lowered::Fault)?;
    }
    drop(stretch);
    in_ring(3)?;
    Ok((count == 1).then(|| SEEN[0].load(Relaxed)))
}

fn with_upcalls(body: impl FnOnce() -> Outcome) -> Outcome {
    let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
    // SAFETY: the stack is used by nothing else, and there for ever.
    unsafe { upcall::install(area(), top, &[], notes) };
    let outcome = body();
    upcall::remove(area());
    outcome
}

/// Nothing is mapped there: in the user's half, in what belongs to neither half, and in the
/// kernel's.
const NOWHERE: [u64; 6] = [
    0x10,
    0x6666_6666_6000,
    0x7fff_ffff_fff8,
    0x0000_8000_0000_0000,
    0x1234_5678_9abc_def0,
    0xffff_f000_0000_0000,
];

fn wild(bench: &mut Bench) -> Outcome {
    with_upcalls(|| {
        for address in NOWHERE {
            for routine in [reads, writes, jumps, calls] {
                let vector = try_out(bench, routine, address)?;
                let canonical = address >> 47 == 0 || address >> 47 == 0x1_ffff;
                same("vector", vector, Some(if canonical { 14 } else { 13 }))?;
                if canonical {
                    same("address", SEEN[1].load(Relaxed), address)?;
                }
            }
        }
        // Its own code, which it may not write, in ring 0 neither; its stack, which is no code.
        let code = wild as *const () as u64;
        same("vector", try_out(bench, writes, code)?, Some(14))?;
        let word = 0_u64;
        let stack = (&raw const word).expose_provenance() as u64;
        same("vector", try_out(bench, jumps, stack)?, Some(14))
    })
}

fn others(bench: &mut Bench) -> Outcome {
    with_upcalls(|| {
        for (routine, vector) in
            [(undefined as Routine, 6), (divides, 0), (breaks, 3), (loads_segment, 13)]
        {
            same("vector", try_out(bench, routine, 0)?, Some(vector))?;
        }
        Ok(())
    })
}

fn stacks(bench: &mut Bench) -> Outcome {
    with_upcalls(|| {
        same("vector", try_out(bench, overflows, 0)?, Some(14))?;
        for address in NOWHERE {
            let vector = try_out(bench, loses_stack, address)?;
            holds("no exception", matches!(vector, Some(12..=14)))?;
        }
        Ok(())
    })
}

fn thousand(bench: &mut Bench) -> Outcome {
    let mut random = Random::new(0x65_6c65_7661_7465);
    with_upcalls(|| {
        let mut survived = 0;
        for _ in 0..1000 {
            // A third each: anywhere, the user's half, the kernel's.
            let address = match random.below(3) {
                0 => random.word(),
                1 => random.below(1 << 47) | 1 << 40,
                _ => random.word() | 0xffff_c000_0000_0000,
            };
            let routine = [reads, writes, jumps, calls, undefined, divides, loses_stack]
                [random.below(7) as usize];
            survived += u64::from(try_out(bench, routine, address)?.is_some());
        }
        println!("survived {survived} of 1000 random faults");
        same("survived", survived, 1000)
    })
}

use selftest::check;
