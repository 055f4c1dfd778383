//! The primitive operations of Linux, counted from ring 3: what `cargo exo bench
//! primitives` holds the exokernel's against.
//!
//! Runs as the first and only program of a Linux guest on one processor, started from
//! an initramfs under `-icount shift=0`: there the time-stamp counter counts
//! instructions, of the kernel as well as of programs ([`ruler`] checks that it does).
//! It prints one line per measurement,
//!
//! ```text
//! primitive NAME instructions=MEDIAN least=LEAST most=MOST samples=COUNT
//! ```
//!
//! besides `linux KEY: VALUE` for the conditions, and `done` at the end. `apps/primbench`
//! prints the same for the exokernel.
//!
//! | file | what it measures |
//! |---|---|
//! | [`calls`] | system calls and small pages |
//! | [`large`] | pages of 2 MiB |
//! | [`descriptors`] | descriptors given away |
//! | [`signals`] | exceptions, page faults and timers that come as signals |
//! | [`processes`] | two processes that take turns |

mod calls;
mod conditions;
mod descriptors;
mod large;
mod processes;
mod signals;

use std::io;

use ruler::Counter;

fn main() {
    match measure() {
        Ok(()) => println!("done"),
        Err(error) => println!("failed: {error}"),
    }
    // The kernel panics when its first process ends; the command that started the guest ends it.
    loop {
        std::thread::park();
    }
}

fn measure() -> io::Result<()> {
    conditions::print()?;
    let counter = Counter::new(|line| println!("{line}"));
    counter.check();
    calls::measure(&counter)?;
    large::measure(&counter)?;
    descriptors::measure(&counter)?;
    signals::measure(&counter)?;
    processes::measure(&counter)
}

/// What a system call of the C library returned, or why it failed.
fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
