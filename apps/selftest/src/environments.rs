//! Environments: made, started, ended, looked at, destroyed.

use core::arch::naked_asm;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{
    BACKTRACE_DEPTH, EnvState, Error, FrameKind, Handle, MAX_CORES, Pfn, Protection, Rights,
    SLOT_COUNT, USER_TOP, UserPtr,
};
use libos::sys;
use selftest::child::{Child, Code, exit, status};

use crate::capabilities::derive;
use selftest::check::{Outcome, holds, refused, same};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("an environment is made of four different quiet frames", made),
    ("a start happens once, in user space", started),
    ("a new environment's registers hold nothing", fresh_registers),
    ("an exit is reported", exits),
    ("a fault is reported with its place", faults),
    ("a running environment can be destroyed", destroyed),
    ("a destroyed environment's handle is stale", stale),
    ("an environment is not destroyed while its memory is mapped elsewhere", mapped_elsewhere),
    ("no environment destroys itself", not_itself),
    ("time can be passed on and not taken", slots),
];

fn made(bench: &mut Bench) -> Outcome {
    let parts = bench.frames.take(SELF, 4)?;
    let [a, b, c, d] = [0, 1, 2, 3].map(|offset| parts.plus(offset));
    refused(sys::env_create(a, b, c, a), Error::BadArgument)?;
    refused(sys::env_create(a, a, c, d), Error::BadArgument)?;
    let free = bench.frames.find(1).ok_or(Error::NotFree)?;
    refused(sys::env_create(a, b, c, free), Error::NotOwned)?;
    refused(sys::env_create(a, b, Pfn(u32::MAX), d), Error::NotOwned)?;
    let at = bench.window();
    bench.frames.map((SELF, SELF), d, at, 1, Protection::Read)?;
    refused(sys::env_create(a, b, c, d), Error::InUse)?;
    sys::unmap(SELF, at, 1)?;
    let memory = [a, b, c, d].map(|pfn| bench.kind(pfn) == Some(FrameKind::Memory));
    same("frames after refusals", memory, [true; 4])?;
    let env: Handle = exo_abi::Word::from_word(sys::env_create(a, b, c, d)?)?;
    let kinds = [a, b, c, d].map(|pfn| bench.frames.look(pfn));
    let id = exo_abi::EnvId(a.0);
    let wanted = [FrameKind::Env, FrameKind::PageTable, FrameKind::CapTable, FrameKind::UArea];
    same("frames", kinds, wanted.map(|kind| Some((kind, id))))?;
    same("state", status(env)?.state, EnvState::New as u32)?;
    selftest::child::destroy(env)?;
    holds("something is left", Child::is_gone(&bench.maker, id))
}

extern "C" fn ends(code: u64) -> ! {
    exit(code)
}

fn started(bench: &mut Bench) -> Outcome {
    let child = bench.maker.child()?;
    let start = |entry, stack| sys::env_start(child.env, UserPtr(entry), UserPtr(stack), 0);
    refused(start(USER_TOP, STACK_TOP), Error::BadAddress)?;
    refused(start(0xffff_ffff_8020_0000, STACK_TOP), Error::BadAddress)?;
    refused(start(0x0000_8000_0000_0000, STACK_TOP), Error::BadAddress)?;
    refused(start(0x40_0000, u64::MAX), Error::BadAddress)?;
    child.start(ends, 3)?;
    refused(start(0x40_0000, STACK_TOP), Error::WrongState)?;
    let status = child.wait(PATIENCE)?;
    same("exit code", status.map(|status| status.code), Some(3))?;
    refused(start(0x40_0000, STACK_TOP), Error::WrongState)?;
    child.destroy()?;
    Ok(())
}

/// Exits with all registers or-ed together, which is the argument if the others are
/// zero.
#[unsafe(naked)]
extern "C" fn registers_or_ed(_: u64) -> ! {
    naked_asm!(
        "or rdi, rax",
        "or rdi, rbx",
        "or rdi, rcx",
        "or rdi, rdx",
        "or rdi, rsi",
        "or rdi, rbp",
        "or rdi, r8",
        "or rdi, r9",
        "or rdi, r10",
        "or rdi, r11",
        "or rdi, r12",
        "or rdi, r13",
        "or rdi, r14",
        "or rdi, r15",
        "por xmm0, xmm1",
        "por xmm0, xmm2",
        "por xmm0, xmm3",
        "por xmm0, xmm4",
        "por xmm0, xmm5",
        "por xmm0, xmm6",
        "por xmm0, xmm7",
        "por xmm0, xmm8",
        "por xmm0, xmm9",
        "por xmm0, xmm10",
        "por xmm0, xmm11",
        "por xmm0, xmm12",
        "por xmm0, xmm13",
        "por xmm0, xmm14",
        "por xmm0, xmm15",
        "movq rax, xmm0",
        "or rdi, rax",
        "psrldq xmm0, 8",
        "movq rax, xmm0",
        "or rdi, rax",
        // Control words: all exceptions masked, round to nearest, 64-bit precision.
        "sub rsp, 16",
        "stmxcsr [rsp]",
        "xor dword ptr [rsp], 0x1f80",
        "mov eax, [rsp]",
        "or rdi, rax",
        "fnstcw [rsp]",
        "movzx eax, word ptr [rsp]",
        "xor eax, 0x37f",
        "or rdi, rax",
        "mov eax, 1",
        "syscall",
        "ud2",
    )
}

fn fresh_registers(bench: &mut Bench) -> Outcome {
    for argument in [0, 0x8000_0000_0000_0001] {
        let status = bench.maker.try_out(registers_or_ed, argument, PATIENCE)?;
        let got = status.map(|status| (status.state, status.code));
        same("registers", got, Some((EnvState::Exited as u32, argument)))?;
    }
    Ok(())
}

fn exits(bench: &mut Bench) -> Outcome {
    for code in [0, 1, u64::MAX] {
        let status = bench.maker.try_out(ends, code, PATIENCE)?;
        let got = status.map(|s| (s.state, s.vector, s.code, s.rip, s.address));
        same("status", got, Some((EnvState::Exited as u32, 0, code, 0, 0)))?;
    }
    Ok(())
}

/// An address that nothing maps.
const UNMAPPED: u64 = 0x6000_0000_0000;

#[inline(never)]
fn inner(at: u64) -> u64 {
    // SAFETY: it is meant to fault.
    unsafe { core::ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() }
}

#[inline(never)]
fn outer(at: u64) -> u64 {
    core::hint::black_box(inner(core::hint::black_box(at))) + 1
}

extern "C" fn faulting(at: u64) -> ! {
    exit(core::hint::black_box(outer(at)))
}

fn faults(bench: &mut Bench) -> Outcome {
    let code: Code = faulting;
    let status = bench.maker.try_out(code, UNMAPPED, PATIENCE)?;
    let Some(status) = status else { return holds("the child did not end", false) };
    let got = (status.state, status.vector, status.code, status.address);
    same("fault", got, (EnvState::Faulted as u32, 14, 4, UNMAPPED))?;
    let text = 0x40_0000..0x80_0000;
    holds("rip is not in the text", text.contains(&status.rip))?;
    holds("rsp is not in the stack", (STACK_TOP - 0x4000..STACK_TOP).contains(&status.rsp))?;
    let depth = status.backtrace.iter().take_while(|address| **address != 0).count();
    holds("no backtrace", (1..=BACKTRACE_DEPTH).contains(&depth))?;
    let inside = status.backtrace[..depth].iter().all(|address| text.contains(address));
    holds("a return address is not in the text", inside)
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

extern "C" fn sleeps(_: u64) -> ! {
    loop {
        let _ = sys::wait(exo_abi::EventCount(0), 0);
    }
}

fn destroyed(bench: &mut Bench) -> Outcome {
    for code in [spins as Code, sleeps] {
        let child = bench.maker.child()?;
        let id = child.id;
        child.start(code, 0)?;
        for _ in 0..8 {
            sys::slice_yield()?;
        }
        child.destroy()?;
        holds("something is left", Child::is_gone(&bench.maker, id))?;
    }
    Ok(())
}

fn stale(bench: &mut Bench) -> Outcome {
    let child = bench.maker.bare()?;
    let (env, parts) = (child.env, child.parts);
    let other = derive(env, Rights::INSPECT.with(Rights::CONTROL), 0, 0)?;
    child.destroy()?;
    refused(sys::env_destroy(env), Error::BadHandle)?;
    refused(sys::env_destroy(other), Error::BadHandle)?;
    // The same frames, a new environment: the old handle does not name it.
    sys::frames_take(bench.frames.capability, SELF, parts, 4)?;
    let again = sys::env_create(parts, parts.plus(1), parts.plus(2), parts.plus(3))?;
    let again: Handle = exo_abi::Word::from_word(again)?;
    holds("a stale handle works", status(other) == Err(Error::BadHandle))?;
    selftest::child::destroy(again)?;
    sys::cap_drop(other)?;
    Ok(())
}

fn mapped_elsewhere(bench: &mut Bench) -> Outcome {
    let at = bench.window();
    let child = bench.maker.bare()?;
    let (env, id) = (child.env, child.id);
    let frame = bench.frames.take(env, 1)?;
    bench.frames.map((SELF, env), frame, at, 1, Protection::ReadWrite)?;
    loop {
        match sys::env_destroy(env) {
            Err(Error::Again) => {}
            result => break refused(result, Error::InUse)?,
        }
    }
    same("state", status(env)?.state, EnvState::Dying as u32)?;
    // Nothing more can be done with it.
    let take = sys::frames_take(bench.frames.capability, env, frame.plus(1), 1);
    refused(take, Error::WrongState)?;
    refused(sys::cap_grant(SELF, env), Error::WrongState)?;
    selftest::frames::write(at, 0, 5);
    sys::unmap(SELF, at, 1)?;
    selftest::child::destroy(env)?;
    holds("something is left", Child::is_gone(&bench.maker, id))
}

fn not_itself(bench: &mut Bench) -> Outcome {
    refused(sys::env_destroy(SELF), Error::NoRight)?;
    // Nor does its child, which is given no more than its maker has.
    let child = bench.maker.bare()?;
    refused(sys::env_start(SELF, UserPtr(0x40_0000), UserPtr(0), 0), Error::NoRight)?;
    child.destroy()?;
    Ok(())
}

fn slots(bench: &mut Bench) -> Outcome {
    let slot = bench.maker.slot();
    let child = bench.maker.bare()?;
    let id = child.id;
    let owner = |slot: u32| bench.environment.system.slots.owners[slot as usize].load(Relaxed);
    // Neither the caller's own, since it was given away, nor another's.
    refused(sys::slots_assign(SELF, slot, 1, child.env), Error::OutOfRange)?;
    let others =
        (0..(SLOT_COUNT * MAX_CORES) as u32).find(|slot| owner(*slot) != bench.environment.id.0);
    let others = others.ok_or(Error::OutOfRange)?;
    refused(sys::slots_assign(SELF, others, 1, child.env), Error::OutOfRange)?;
    for (first, count) in [(64, 1), (0, 65), (u32::MAX, 1), (63, 2)] {
        refused(sys::slots_assign(SELF, first, count, child.env), Error::OutOfRange)?;
    }
    refused(sys::slots_assign(bench.frames.capability, slot, 1, child.env), Error::BadHandle)?;
    let weak = derive(child.env, Rights::INSPECT, 0, 0)?;
    let own =
        (0..(SLOT_COUNT * MAX_CORES) as u32).find(|slot| owner(*slot) == bench.environment.id.0);
    let own = own.ok_or(Error::OutOfRange)?;
    refused(sys::slots_assign(SELF, own, 1, weak), Error::NoRight)?;
    // On to the child, and on from the child to another.
    let second = bench.maker.bare()?;
    sys::slots_assign(SELF, own, 1, child.env)?;
    same("owner", owner(own), id.0)?;
    refused(sys::slots_assign(weak, own, 1, second.env), Error::NoRight)?;
    sys::slots_assign(child.env, own, 1, second.env)?;
    same("owner", owner(own), second.id.0)?;
    second.destroy()?;
    same("owner of a destroyed environment's slot", owner(own), 0)?;
    sys::cap_drop(weak)?;
    child.destroy()?;
    Ok(())
}
