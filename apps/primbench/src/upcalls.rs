//! Exceptions, page faults and ends of slices that come as upcalls.
//!
//! Measured twice where it matters: with a handler of some instructions that saves no
//! more than it needs, which is all that the kernel's part asks for, and with the
//! library OS's, which saves everything and calls a Rust function.

use alloc::boxed::Box;
use alloc::vec;
use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use exo_abi::boot::{SELF, U_AREA};
use exo_abi::{Error, FRAME_BYTES, Pfn, Protection, UArea, Upcall, UpcallArea, VirtAddr};
use libos::sys;
use libos::upcall::{self, BELOW_STACK, Frame, Reason};
use ruler::{Counter, SAMPLES, WARM_UP};
use selftest::frames::{Frames, window, write};

use crate::u_area;

/// A page of address space that nothing else uses, and one that stays empty.
const WINDOW: u32 = 18;
const EMPTY: u32 = 19;
/// Bytes of the stack that upcalls run on.
const STACK: usize = 16 << 10;
/// Bytes of each instruction that handlers go on behind.
const SKIPPED: u64 = 2;
/// Slices; each takes a million instructions.
const SLICES: usize = SAMPLES / 10;

/// Upcalls that handlers have seen: nothing is stated that did not happen.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// The frame that [`pager`] maps.
static FRAME: AtomicU32 = AtomicU32::new(0);

pub(crate) fn measure(counter: &Counter, frames: Frames) -> Result<(), Error> {
    // For good: whatever fails from here on may still cause an upcall.
    let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
    let top = stack.as_mut_ptr_range().end.expose_provenance() as u64 & !15;
    bare(counter, top)?;
    whole(counter, top)?;
    paged(counter, frames, top)?;
    slices(counter, top);
    upcall::remove(u_area());
    Ok(())
}

/// Exceptions with the handler that saves nothing.
fn bare(counter: &Counter, stack_top: u64) -> Result<(), Error> {
    let area = &u_area().upcall;
    area.stack.store(stack_top, Relaxed);
    area.wanted.store(0, Relaxed);
    area.masked.store(0, Relaxed);
    area.entry.store(skip_bare as *const () as u64, Relaxed);
    counter.measure("exception", invalid_opcode)?;
    let empty = window(EMPTY).get();
    counter.measure("fault", || {
        // SAFETY: `mov al, [rdi]`, two bytes, reads where nothing is mapped; the handler
        // goes on behind it.
        unsafe { asm!(".byte 0x8a, 0x07", in("rdi") empty, out("al") _, options(nostack)) };
        Ok(())
    })
}

/// Exceptions with the library OS's.
fn whole(counter: &Counter, stack_top: u64) -> Result<(), Error> {
    // SAFETY: the stack is leaked, of this module alone, and has room for both.
    unsafe { upcall::install(u_area(), stack_top, &[], skip) };
    let seen = SEEN.load(Relaxed);
    counter.measure("exception-libos", invalid_opcode)?;
    all_seen(seen)
}

/// Page faults that the program serves itself, by mapping the page again.
fn paged(counter: &Counter, frames: Frames, stack_top: u64) -> Result<(), Error> {
    let at = window(WINDOW);
    let frame = frames.page(at)?;
    FRAME.store(frame.0, Relaxed);
    // SAFETY: as above; what `pager` calls needs little of it.
    unsafe { upcall::install(u_area(), stack_top, &[], pager) };
    let seen = SEEN.load(Relaxed);
    counter.measure("prot1-trap-unprot", || {
        sys::unmap(SELF, at, 1)?;
        // Faults; the handler maps the page, and it is done again.
        write(at, 0, 1);
        Ok(())
    })?;
    all_seen(seen)?;
    frames.drop_page(at, frame)
}

/// What the end of a slice takes from a loop that only reads the counter: the upcall,
/// a yield, to which no other is ready, and going on.
fn slices(counter: &Counter, stack_top: u64) {
    // SAFETY: as above.
    unsafe { upcall::install(u_area(), stack_top, &[Upcall::SliceEnd], give_way) };
    let slice = |_| {
        let seen = SEEN.load(Relaxed);
        ruler::interruption(|| SEEN.load(Relaxed) != seen)
    };
    counter.print("slice-end", 1, (0..SLICES).map(slice).collect());
}

fn invalid_opcode() -> Result<(), Error> {
    // SAFETY: the handler goes on behind it; it changes no register.
    unsafe { asm!("ud2", options(nostack)) };
    Ok(())
}

/// Fails unless every run of a measurement since `before` was an upcall.
fn all_seen(before: u64) -> Result<(), Error> {
    let all = SEEN.load(Relaxed) - before == (SAMPLES + WARM_UP) as u64;
    if all { Ok(()) } else { Err(Error::WrongState) }
}

fn skip(_: Reason, frame: &mut Frame) {
    SEEN.store(SEEN.load(Relaxed) + 1, Relaxed);
    frame.rip += SKIPPED;
}

fn pager(reason: Reason, _: &mut Frame) {
    SEEN.store(SEEN.load(Relaxed) + 1, Relaxed);
    let Reason::Exception(exception) = reason else { return };
    let Some(page) = VirtAddr::new(exception.address & !(FRAME_BYTES - 1)) else { return };
    let frame = Pfn(FRAME.load(Relaxed));
    // Refused, it would fault for ever; without upcalls the fault ends the program.
    if sys::map(SELF, SELF, frame, page, 1, Protection::ReadWrite).is_err() {
        upcall::remove(u_area());
    }
}

fn give_way(_: Reason, _: &mut Frame) {
    SEEN.store(SEEN.load(Relaxed) + 1, Relaxed);
    // A yield is not refused.
    let _ = sys::slice_yield();
}

/// Where a field of the upcall words lies: below 2 GiB, so an absolute operand.
const fn word(offset: usize) -> u64 {
    U_AREA + (offset_of!(UArea, upcall) + offset) as u64
}

/// Goes on behind the instruction, of [`SKIPPED`] bytes, that caused the exception. It
/// uses `rax`, which it saves, and `rdi`, which the kernel has saved.
#[unsafe(naked)]
unsafe extern "C" fn skip_bare() {
    naked_asm!(
        "push rax",
        "mov rax, [{rsp}]",
        "lea rax, [rax - {below}]",
        "mov rdi, [{flags}]",
        "mov [rax], rdi",
        "mov rdi, [{rdi}]",
        "mov [rax + 8], rdi",
        "mov rdi, [{rip}]",
        "add rdi, {skipped}",
        "mov [rax + 16], rdi",
        "mov rdi, rax",
        "pop rax",
        "mov rsp, rdi",
        "mov dword ptr [{masked}], 0",
        "popfq",
        "pop rdi",
        "ret 128",
        rsp = const word(offset_of!(UpcallArea, rsp)),
        flags = const word(offset_of!(UpcallArea, flags)),
        rip = const word(offset_of!(UpcallArea, rip)),
        rdi = const word(offset_of!(UpcallArea, rdi)),
        masked = const word(offset_of!(UpcallArea, masked)),
        below = const BELOW_STACK,
        skipped = const SKIPPED,
    )
}
