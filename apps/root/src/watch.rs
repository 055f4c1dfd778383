//! Waiting for applications to end, and clearing up after them.

use core::sync::atomic::Ordering::Relaxed;

use alloc::vec::Vec;

use exo_abi::{EnvState, Error, EventCount, FrameInfo, Handle, UArea};
use libos::environment::status;
use libos::memory::frames::count_free;
use libos::time::timestamp;
use libos::{println, sys};
use root::manifest::OnExit;

use crate::child::{self, Child};
use crate::guest::{Started, power_off};

/// How often a device that still has frames is waited for at once.
const PATIENCE: u32 = 100_000;
/// How often a second it is tried to destroy what could not be destroyed.
const AGAIN: u64 = 10;
/// Machine exit code when an application that ends it ended by a fault.
const FAULTED: u64 = 126;

/// Watches until no application is left.
pub(crate) fn run(mut machine: Started, u_area: &'static UArea) -> u64 {
    // What a device still has frames of.
    let mut lingering: Vec<Child> = Vec::new();
    loop {
        let seen = u_area.events.load(Relaxed);
        lingering.retain(|child| !clear_up(child, machine.frame_table, 0));
        let (ended, running): (Vec<_>, Vec<_>) =
            machine.children.into_iter().partition(|child| has_ended(child.env));
        machine.children = running;
        for child in ended {
            let code = report(&child);
            let gone = clear_up(&child, machine.frame_table, PATIENCE);
            if child.on_exit == OnExit::PowerOff {
                power_off(code);
            }
            if !gone {
                println!("{} is destroyed when its devices are done with it", child.name);
                lingering.push(child);
            }
        }
        if machine.children.is_empty() && lingering.is_empty() {
            println!("nothing left to run");
            power_off(0);
        }
        // When a device is done is not told to root, but to the owner, which is no more.
        let again = timestamp().saturating_add(machine.system.tsc_hz.load(Relaxed) / AGAIN);
        let _ = sys::wait(EventCount(seen), if lingering.is_empty() { 0 } else { again });
    }
}

fn has_ended(env: Handle) -> bool {
    status(env).map_or(true, |status| {
        matches!(
            EnvState::from_u32(status.state),
            Some(EnvState::Exited | EnvState::Faulted | EnvState::Dying) | None
        )
    })
}

/// Prints how `child` ended. Returns the code the machine would end with.
fn report(child: &Child) -> u64 {
    let name = &child.name;
    let Ok(status) = status(child.env) else {
        println!("{name} ended: state unknown");
        return FAULTED;
    };
    if EnvState::from_u32(status.state) != Some(EnvState::Faulted) {
        println!("{name} ended: exit code {}", status.code);
        return status.code;
    }
    let at = status.rip;
    match status.vector {
        14 if child::is_below_stack(status.address) => {
            println!("{name} ended: stack overflow at {at:#x}, the stack is used up");
        }
        14 => {
            let access = match status.code {
                code if code & 16 != 0 => "executing",
                code if code & 2 != 0 => "writing",
                _ => "reading",
            };
            println!("{name} ended: page fault {access} {:#x} at {at:#x}", status.address);
        }
        vector => println!("{name} ended: {} at {at:#x}", exception(vector)),
    }
    let mut trace = alloc::format!("backtrace: {} {at:#x}", child.image);
    for address in status.backtrace.iter().take_while(|address| **address != 0) {
        use core::fmt::Write;
        let _ = write!(trace, " {address:#x}");
    }
    println!("{trace}");
    FAULTED
}

/// Names of the exceptions ring 3 can cause (SDM vol. 3, table 6-1).
fn exception(vector: u32) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        16 => "floating-point error",
        17 => "alignment check",
        19 => "vector floating-point error",
        _ => "exception",
    }
}

/// Destroys the environment, with all that it made and that may still run, and checks that
/// all it had is back. False if a device is not done with it yet: it is to be tried again.
fn clear_up(child: &Child, table: &[FrameInfo], patience: u32) -> bool {
    match within(patience, || sys::env_destroy(child.env)) {
        Ok(_) => {}
        Err(Error::InUse) => return false,
        Err(error) => println!("{} cannot be destroyed: {error}", child.name),
    }
    let _ = until_done(|| sys::cap_drop(child.env));
    for derived in &child.derived {
        let _ = until_done(|| sys::cap_revoke(*derived));
        let _ = until_done(|| sys::cap_drop(*derived));
    }
    if let Some((net, [object, code])) = child.scope {
        let _ = until_done(|| sys::cap_drop(net));
        let _ = until_done(|| sys::net_unscope(object));
        for frame in [object, code] {
            let _ = libos::memory::guest::Memory::get().give_frame(frame);
        }
    }
    let after = count_free(table, child.range);
    println!("leak check: {} frames free before, {after} after", child.free_before);
    true
}

/// Repeats a call that is done in bounded steps. A device that still sends from
/// the environment's frames finishes by itself, so that is waited for.
fn until_done(call: impl FnMut() -> Result<u64, Error>) -> Result<u64, Error> {
    within(PATIENCE, call)
}

/// The same, but a device is waited for only so often.
fn within(patience: u32, mut call: impl FnMut() -> Result<u64, Error>) -> Result<u64, Error> {
    let mut tries = 0;
    loop {
        match call() {
            Err(Error::Again) => {}
            Err(Error::InUse) if tries < patience => {
                tries += 1;
                let _ = sys::slice_yield();
            }
            result => return result,
        }
    }
}
