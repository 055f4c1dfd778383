//! Ring 0 beside others: a child that is elevated, calls another environment from there, loses
//! ring 0 to its creator, dies.

use core::arch::naked_asm;

use exo_abi::{EnvState, Error, Handle, Lowered, Pfn, VirtAddr};
use libos::elevation::{self, Elevation};
use libos::sys;
use libos::transfer::reply;
use selftest::check::{Outcome, holds, same};
use selftest::child::{Child, SHARED, exit};
use selftest::frames::{read, window, write};
use selftest::server::{Server, place};

use crate::bench::{Bench, Check, RIGHTS, WHOLE, drop_cap, in_ring, ring};

pub(crate) const CHECKS: &[Check] = &[
    ("another environment is called from ring 0, in ring 3", called),
    ("an elevated environment is called, and replies", calls_elevated),
    ("a fault in ring 0 that is not wanted ends the environment", dies),
    ("a creator takes ring 0 from a child that loops", taken),
    ("a child is destroyed in ring 0", destroyed),
];

/// Ticks of patience with a child.
const PATIENCE: u64 = 1 << 36;

/// Puts the ring it runs in into the page it shares, and replies.
#[unsafe(naked)]
unsafe extern "C" fn tells_ring() {
    naked_asm!("mov rdi, {page}", "xor eax, eax", "mov ax, cs", "and eax, 3",
        "mov [rdi + {free}], rax", "xor edi, edi", "jmp {reply}",
        page = const SHARED.get(), free = const place::FREE, reply = sym reply)
}

fn called(bench: &mut Bench) -> Outcome {
    let server = Server::new(&bench.maker, window(42), tells_ring)?;
    let stretch = bench.right().begin()?;
    for _ in 0..20 {
        write(server.page, place::FREE, 77);
        sys::transfer_call(server.entry, Handle::NONE)?;
        same("ring of the server", read(server.page, place::FREE), 3)?;
        in_ring(0)?;
    }
    drop(stretch);
    Ok(server.destroy()?)
}

/// Gives `child` the capability `cap`, or what is left of it.
fn give(child: &Child<'_>, cap: Handle) -> Result<u64, Error> {
    sys::cap_grant(cap, child.env)
}

fn handle_in(argument: u64) -> Handle {
    Handle::new(argument as u32, (argument >> 32) as u32)
}

fn calls_elevated(bench: &mut Bench) -> Outcome {
    let server = Server::new(&bench.maker, window(42), elevates)?;
    let cap = Bench::less(bench.handle, RIGHTS, WHOLE)?;
    write(server.page, place::FREE + 8, give(&server.child, cap)?);
    for round in 0..20 {
        write(server.page, place::FREE, 77);
        sys::transfer_call(server.entry, Handle::NONE)?;
        // The first call enters it in ring 3, and it goes to ring 0 before it replies.
        same("ring of the server", read(server.page, place::FREE), if round == 0 { 3 } else { 0 })?;
        in_ring(3)?;
        let stretch = bench.right().begin()?;
        sys::transfer_call(server.entry, Handle::NONE)?;
        same("ring of the server", read(server.page, place::FREE), 0)?;
        in_ring(0)?;
        drop(stretch);
    }
    server.destroy()?;
    Ok(drop_cap(cap)?)
}

/// As `tells_ring`, and elevates itself if it is not.
#[unsafe(naked)]
unsafe extern "C" fn elevates() {
    naked_asm!("mov rdi, {page}", "xor eax, eax", "mov ax, cs", "and eax, 3",
        "mov [rdi + {free}], rax", "test eax, eax", "jz 2f",
        "mov rdi, [rdi + {free} + 8]", "mov eax, {elevate}", "syscall",
        "2:", "xor edi, edi", "jmp {reply}",
        page = const SHARED.get(), free = const place::FREE, reply = sym reply,
        elevate = const exo_abi::call_number("elevate"))
}

extern "C" fn faults(argument: u64) -> ! {
    if sys::elevate(handle_in(argument)).is_ok() && ring() == 0 {
        // SAFETY: ends this environment, which is meant.
        unsafe { core::arch::asm!("ud2", options(noreturn)) }
    }
    exit(1)
}

fn dies(bench: &mut Bench) -> Outcome {
    let child = bench.maker.child()?;
    let cap = Bench::less(bench.handle, RIGHTS, WHOLE)?;
    child.start(faults, give(&child, cap)?)?;
    let status = child.wait(PATIENCE)?.map(|status| (status.state, status.vector));
    same("status", status, Some((EnvState::Faulted as u32, 6)))?;
    child.destroy()?;
    Ok(drop_cap(cap)?)
}

/// Loops in ring 0 until that is taken, and exits with the reason.
extern "C" fn loops(argument: u64) -> ! {
    if sys::elevate(handle_in(argument)).is_err() {
        exit(100);
    }
    write(SHARED, 0, 1);
    while elevation::is_elevated() {
        core::hint::spin_loop();
    }
    exit(elevation::why().map_or(101, |why| u64::from(ring()) * 10 + why as u64))
}

/// A child that loops in ring 0, and the frame of the page at `page` by which it said so.
fn looping(bench: &Bench, cap: Handle, page: VirtAddr) -> Result<(Child<'_>, Pfn), Error> {
    let frame = bench.maker.frames.page(page)?;
    let child = bench.maker.child()?;
    child.share(frame)?;
    child.start(loops, give(&child, cap)?)?;
    while read(page, 0) == 0 {
        sys::slice_yield()?;
    }
    Ok((child, frame))
}

fn taken(bench: &mut Bench) -> Outcome {
    let cap = Bench::less(bench.handle, RIGHTS, WHOLE)?;
    let page = window(43);
    let (child, frame) = looping(bench, cap, page)?;
    sys::cap_revoke(cap)?;
    let status = child.wait(PATIENCE)?.map(|status| (status.state, status.code));
    same("status", status, Some((EnvState::Exited as u32, 30 + Lowered::Revoked as u64)))?;
    child.destroy()?;
    bench.maker.frames.drop_page(page, frame)?;
    Ok(drop_cap(cap)?)
}

fn destroyed(bench: &mut Bench) -> Outcome {
    for _ in 0..5 {
        let cap = Bench::less(bench.handle, RIGHTS, WHOLE)?;
        let page = window(44);
        let (child, frame) = looping(bench, cap, page)?;
        let id = child.id;
        child.destroy()?;
        bench.maker.frames.drop_page(page, frame)?;
        holds("something is left of it", Child::is_gone(&bench.maker, id))?;
        drop_cap(cap)?;
    }
    let stretch = Elevation::new(bench.handle).begin()?;
    in_ring(0)?;
    drop(stretch);
    Ok(())
}
