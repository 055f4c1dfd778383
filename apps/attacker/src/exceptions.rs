//! Exceptions that are given back at once: with flags and registers that the few
//! instructions in between could trip over, from a U-area that others write meanwhile,
//! and while another processor takes the environment apart.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP, U_AREA};
use exo_abi::{EnvState, Error, Protection, UArea, UpcallArea, VirtAddr};
use libos::sys;
use libos::time::timestamp;
use selftest::child::{SHARED, exit};
use selftest::frames::{read, write};
use selftest::server::{Server, area};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};
use crate::cores::{Away, race};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "fault with flags that ring 0 must not have", run: flags },
    Attack { name: "find the kernel's data in registers of a call", run: registers },
    Attack { name: "fault on while being destroyed", run: |a| race(a, destroyed) },
    Attack { name: "rewrite the U-area of one that faults elsewhere", run: |a| race(a, rewritten) },
    Attack { name: "let one fault elsewhere for ever", run: |a| race(a, for_ever) },
];

const AREA: usize = U_AREA as usize + offset_of!(UArea, upcall);
const ENTRY: usize = AREA + offset_of!(UpcallArea, entry);
const STACK: usize = AREA + offset_of!(UpcallArea, stack);
const MASKED: usize = AREA + offset_of!(UpcallArea, masked);
/// Where on the shared page registers are noted: fifteen, then flags.
const NOTED: usize = SHARED.get() as usize + 256;
/// The same for sixteen vector registers.
const VECTORS: usize = SHARED.get() as usize + 512;
/// How often a child has faulted.
const FAULTS: usize = SHARED.get() as usize;
/// End of the stack that upcalls run on, as if called; stack pointer of the exception.
const UPCALL_STACK: u64 = STACK_TOP - 0x2000 - 8;
const FAULT_STACK: u64 = STACK_TOP - 0x1000;

const TRAP: u64 = 1 << 8;
const DIRECTION: u64 = 1 << 10;
const NESTED: u64 = 1 << 14;
const ALIGNMENT: u64 = 1 << 18;
const IDENTIFY: u64 = 1 << 21;
/// Interrupts, which must be on, and the I/O level, which must be zero.
const KEPT: u64 = 1 << 9 | 3 << 12;

/// Notes all registers, which no instruction changes before, and says what is wrong.
#[unsafe(naked)]
unsafe extern "C" fn notes() {
    naked_asm!(
        "mov [{noted}], rax",
        "mov [{noted} + 8], rbx",
        "mov [{noted} + 16], rcx",
        "mov [{noted} + 24], rdx",
        "mov [{noted} + 32], rsi",
        "mov [{noted} + 40], rbp",
        "mov [{noted} + 48], r8",
        "mov [{noted} + 56], r9",
        "mov [{noted} + 64], r10",
        "mov [{noted} + 72], r11",
        "mov [{noted} + 80], r12",
        "mov [{noted} + 88], r13",
        "mov [{noted} + 96], r14",
        "mov [{noted} + 104], r15",
        "mov [{noted} + 112], rsp",
        "pushfq",
        "pop [{noted} + 120]",
        "cld",
        "jmp {check}",
        noted = const NOTED,
        check = sym check,
    )
}

/// What register `index` held: the same byte in all its eight.
const fn pattern(index: u64) -> u64 {
    0x0101_0101_0101_0101 * (index + 1)
}

/// Ends with zero if an exception changed what it may, and nothing else.
extern "C" fn check() -> ! {
    let noted = |index: usize| read(SHARED, 256 + 8 * index);
    let upcall = &area().upcall;
    let wanted = read(SHARED, 8);
    let vector = if wanted & TRAP == 0 { 6 } else { 1 };
    let flags = noted(15);
    let mistakes = [
        (0..14).any(|index| noted(index as usize) != pattern(index)),
        noted(14) != UPCALL_STACK,
        upcall.rdi.load(Relaxed) != pattern(14),
        upcall.rsp.load(Relaxed) != FAULT_STACK,
        upcall.vector.load(Relaxed) != vector,
        upcall.code.load(Relaxed) != 0,
        upcall.address.load(Relaxed) != 0,
        upcall.flags.load(Relaxed) & wanted != wanted,
        flags & (TRAP | DIRECTION | ALIGNMENT) != 0,
        flags & KEPT != 1 << 9,
    ];
    let bits = mistakes.iter().rev().fold(0, |bits, mistake| bits << 1 | u64::from(*mistake));
    exit(bits)
}

/// Faults with the flags on the shared page, and a pattern in every register.
#[unsafe(naked)]
extern "C" fn faults_with_flags(_: u64) -> ! {
    naked_asm!(
        "lea rax, [rip + {notes}]",
        "mov [{entry}], rax",
        "mov eax, {upcall_stack}",
        "mov [{stack}], rax",
        "mov esp, {fault_stack} - 8",
        "pushfq",
        "pop rax",
        "or rax, [{shared} + 8]",
        "mov [rsp], rax",
        ".set place, 0",
        ".irp register, rax, rbx, rcx, rdx, rsi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rdi
        mov \\register, [{shared} + 16 + 8 * place]
        .set place, place + 1
        .endr",
        "popfq",
        "nop",
        "ud2",
        notes = sym notes,
        entry = const ENTRY,
        stack = const STACK,
        upcall_stack = const UPCALL_STACK,
        fault_stack = const FAULT_STACK,
        shared = const SHARED.get(),
    )
}

fn flags(attacker: &mut Attacker) -> Attempt {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    for index in 0..15 {
        write(window, 16 + 8 * index as usize, pattern(index));
    }
    let all = [TRAP, DIRECTION, NESTED, ALIGNMENT, IDENTIFY];
    for chosen in 0..1 << all.len() {
        let flags = (0..).zip(all).filter(|(bit, _)| chosen >> bit & 1 == 1);
        write(window, 8, flags.map(|(_, flag)| flag).sum());
        let child = attacker.maker.child()?;
        child.share(page)?;
        child.start(faults_with_flags, 0)?;
        let status = child.wait(PATIENCE)?;
        child.destroy()?;
        let ended = status.map(|status| (EnvState::from_u32(status.state), status.code));
        if ended != Some((Some(EnvState::Exited), 0)) {
            return Ok(Verdict::breach(alloc::format!("{ended:x?} for {:#x}", read(window, 8))));
        }
    }
    attacker.frames.drop_page(window, page)?;
    Ok(Verdict::repelled("nothing: registers as they were, 32 times"))
}

/// Notes what a service finds in the registers, and replies at once.
#[unsafe(naked)]
unsafe extern "C" fn service() {
    naked_asm!(
        ".set place, 0",
        ".irp register, rsi, rdi, r8, r9, r10
        mov [{noted} + 8 * place], \\register
        .set place, place + 1
        .endr",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups [{vectors} + 16 * \\n], xmm\\n
        .endr",
        "mov qword ptr [{noted} + 64], 1",
        "2:",
        "mov eax, {reply}",
        "xor edi, edi",
        "syscall",
        "jmp 2b",
        noted = const NOTED,
        vectors = const VECTORS,
        reply = const exo_abi::call_number("transfer_reply"),
    )
}

/// Makes call `number` on `handle` with secrets in the vector registers, and notes at `at`
/// what comes back in registers that hold no result.
///
/// Returns the error code.
fn call_and_note(number: u64, handle: u64, at: u64) -> u64 {
    let code: u64;
    // SAFETY: registers that the other side may change are saved; `at` is a page of the
    // attacker's own.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "push rbp",
            "push {at}",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
            pcmpeqd xmm\\n, xmm\\n
            .endr",
            "syscall",
            "pop rcx",
            "pop rbp",
            "pop rbx",
            "mov [rcx + 256], rsi",
            "mov [rcx + 264], rdi",
            "mov [rcx + 272], r8",
            "mov [rcx + 280], r9",
            "mov [rcx + 288], r10",
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
            movups [rcx + 512 + 16 * \\n], xmm\\n
            .endr",
            at = in(reg) at,
            inlateout("rax") number => code,
            inlateout("rdi") handle => _,
            inlateout("rsi") 0_u64 => _,
            lateout("rdx") _, lateout("r12") _, lateout("r13") _, lateout("r14") _,
            lateout("r15") _, lateout("rcx") _, lateout("r11") _,
            clobber_abi("C"),
        );
    }
    code
}

fn registers(attacker: &mut Attacker) -> Attempt {
    let own = attacker.window()?;
    let frame = attacker.frames.page(own)?;
    let server = Server::new(&attacker.maker, attacker.window()?, service)?;
    let numbers = ["transfer_call", "transfer_send", "doorbell_ring", "cap_derive", "null"];
    for name in numbers {
        for round in 0..50 {
            for page in [own, server.page] {
                (256..1024).step_by(8).for_each(|place| write(page, place, 0));
            }
            let entry = exo_abi::Word::into_word(server.entry);
            let call = || call_and_note(exo_abi::call_number(name), entry, own.get());
            // It may not have replied yet to what it was sent.
            let mut code = call();
            while code == Error::Busy.code() {
                sys::slice_yield()?;
                code = call();
            }
            let mut pages = [Some(own), None];
            if name.starts_with("transfer") {
                let end = timestamp() + PATIENCE / 1024;
                while read(server.page, 256 + 64) == 0 && timestamp() < end {
                    sys::slice_donate(server.child.env)?;
                }
                if read(server.page, 256 + 64) == 0 {
                    let answer = alloc::format!("{name} does not arrive ({code})");
                    return Ok(Verdict::breach(answer));
                }
                pages[1] = Some(server.page);
            }
            for page in pages.into_iter().flatten() {
                let places = (256..296).chain(512..768).step_by(8);
                let found = places.map(|place| read(page, place)).find(|word| *word != 0);
                if let Some(word) = found {
                    let answer = alloc::format!("{word:#x} by {name} in round {round}");
                    return Ok(Verdict::breach(answer));
                }
            }
        }
    }
    server.destroy()?;
    attacker.frames.drop_page(own, frame)?;
    Ok(Verdict::repelled("zeros"))
}

/// Faults, allows the next upcall, and faults in it.
#[unsafe(naked)]
extern "C" fn faults_on(_: u64) -> ! {
    naked_asm!(
        "lea rax, [rip + 2f]",
        "mov [{entry}], rax",
        "mov eax, {upcall_stack}",
        "mov [{stack}], rax",
        "2:",
        "inc qword ptr [{faults}]",
        "mov dword ptr [{masked}], 0",
        "ud2",
        entry = const ENTRY,
        stack = const STACK,
        masked = const MASKED,
        faults = const FAULTS,
        upcall_stack = const UPCALL_STACK,
    )
}

/// Spins until `count` faults are counted on the page at `at`.
fn await_faults(at: VirtAddr, count: u64) -> Result<(), Error> {
    let end = timestamp() + PATIENCE;
    while read(at, 0) < count {
        if timestamp() > end {
            return Err(Error::Again);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

const DESTRUCTIONS: u64 = 80;

/// What a child was made of is its destroyer's after the destruction, its U-area too,
/// though it was just faulting into it.
fn destroyed(attacker: &Attacker, away: Away) -> Attempt {
    let (window, glass) = (attacker.window()?, attacker.window()?);
    attacker.frames.cover(SELF, glass)?;
    let before = attacker.frames.free();
    for round in 0..DESTRUCTIONS {
        let page = attacker.frames.page(window)?;
        let child = attacker.maker.child()?;
        child.share(page)?;
        child.start(faults_on, 0)?;
        away.lend(&child)?;
        await_faults(window, 50 + round)?;
        away.take_back(&child)?;
        let parts = child.parts;
        child.destroy()?;
        let last = read(window, 0);
        sys::frames_take(attacker.frames.capability, SELF, parts, 4)?;
        let mut zero = true;
        for part in 0..4 {
            sys::map(SELF, SELF, parts.plus(part), glass, 1, Protection::Read)?;
            zero &= (0..20).all(|_| (0..4096).step_by(8).all(|place| read(glass, place) == 0));
            sys::unmap(SELF, glass, 1)?;
        }
        attacker.frames.give(parts, 4)?;
        let still = read(window, 0) == last;
        attacker.frames.drop_page(window, page)?;
        if !zero || !still || attacker.frames.free() != before {
            return Ok(Verdict::breach(alloc::format!("yes, in round {round}")));
        }
    }
    Ok(Verdict::repelled(alloc::format!("zeros, {DESTRUCTIONS} times")))
}

const REWRITINGS: u32 = 60;
const KERNEL: u64 = 0xffff_ffff_8020_0000;

/// An environment that shares a U-area can lead its owner astray, but not the kernel.
fn rewritten(attacker: &Attacker, away: Away) -> Attempt {
    let (window, glass) = (attacker.window()?, attacker.window()?);
    attacker.frames.cover(SELF, glass)?;
    let page = attacker.frames.page(window)?;
    let word = |field: usize| offset_of!(UArea, upcall) + field;
    let mut faults = 0;
    for round in 0..REWRITINGS {
        write(window, 0, 0);
        let child = attacker.maker.child()?;
        child.share(page)?;
        sys::map(SELF, child.env, child.parts.plus(3), glass, 1, Protection::ReadWrite)?;
        child.start(faults_on, 0)?;
        away.lend(&child)?;
        await_faults(window, 50)?;
        let good = read(glass, word(offset_of!(UpcallArea, entry)));
        let entries = [good, KERNEL, good, 1 << 47, good, 0, good, (1 << 47) - 1, good, u64::MAX];
        let stacks = [UPCALL_STACK, KERNEL, 1 << 47, 1, u64::MAX];
        let mut place = round as usize;
        // Until it has met one of the bad ones.
        let end = timestamp() + PATIENCE / 64;
        let ready = Ok(exo_abi::EnvState::Ready as u32);
        while child.status().map(|status| status.state) == ready && timestamp() < end {
            for _ in 0..200 {
                place += 1;
                let entry = entries.get(place % entries.len()).copied().unwrap_or(good);
                let stack = stacks.get(place % stacks.len()).copied().unwrap_or(0);
                write(glass, word(offset_of!(UpcallArea, entry)), entry);
                write(glass, word(offset_of!(UpcallArea, stack)), stack);
            }
        }
        faults += read(window, 0);
        away.take_back(&child)?;
        sys::unmap(SELF, glass, 1)?;
        child.destroy()?;
    }
    attacker.frames.drop_page(window, page)?;
    Ok(Verdict::repelled(alloc::format!("nothing, {faults} faults")))
}

const STORMS: u32 = 60;

/// A child with an upcall entry where nothing is mapped faults on the way to each upcall and
/// executes no instruction, as long as its creator allows upcalls again in between. Its
/// processor must come to others all the same, and once the creator stops, the child must
/// end.
fn for_ever(attacker: &Attacker, away: Away) -> Attempt {
    let glass = attacker.window()?;
    attacker.frames.cover(SELF, glass)?;
    let masked = offset_of!(UArea, upcall) + offset_of!(UpcallArea, masked);
    let entry = offset_of!(UArea, upcall) + offset_of!(UpcallArea, entry);
    let exceptions = || {
        let counters = &attacker.environment.system.exceptions;
        counters.iter().map(|counter| counter.load(Relaxed)).sum::<u64>()
    };
    let (mut storms, mut longest) = (0, 0);
    for _ in 0..STORMS {
        let child = attacker.maker.child()?;
        sys::map(SELF, child.env, child.parts.plus(3), glass, 1, Protection::ReadWrite)?;
        write(glass, entry, 0x6000_0000_0000);
        let before = exceptions();
        child.start(falls, 0)?;
        away.lend(&child)?;
        let end = timestamp() + PATIENCE / 1024;
        let at = masked & !7;
        while timestamp() < end {
            // `masked` is the upper half of its word.
            write(glass, at, 0);
        }
        let count = exceptions() - before;
        longest = longest.max(count);
        storms += u32::from(count > 2);
        let status = child.wait(PATIENCE)?;
        away.take_back(&child)?;
        sys::unmap(SELF, glass, 1)?;
        child.destroy()?;
        if status.is_none_or(|status| status.vector != 14) {
            return Ok(Verdict::breach("lives on"));
        }
    }
    Ok(Verdict::repelled(alloc::format!("exception 14, {storms} storms, {longest} faults at most")))
}

/// Jumps where nothing is.
extern "C" fn falls(_: u64) -> ! {
    // SAFETY: ends this environment, which is meant.
    unsafe { core::arch::asm!("jmp {}", in(reg) 0x6000_0000_0000_u64, options(noreturn)) }
}
