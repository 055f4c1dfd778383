//! The second platform: an ordinary process of Linux.
//!
//! The same source of an application runs there (`cargo exo run --hosted NAME`), under a debugger, a
//! profiler, a sanitizer: memory is the process's, time is the processor's counter, packets come
//! through UDP sockets of the host. It is built with `cfg(exo_hosted)` in place of `cfg(exo_guest)`,
//! and finds what it asks for under the same names.
//!
//! | of the machine | here |
//! |---|---|
//! | page frames, an address space | numbers of frames under the same grant, regions of the process's memory; the kernel's rules are a [model's](crate::memory::model) |
//! | a binding to packets | the same rings, filled by a thread that receives from a socket ([`bind`]) |
//! | the kernel's clock | the same line through the time-stamp counter, held against the host's clock |
//! | memory of several applications, doorbells | a file that several processes map ([`share`]), Unix sockets |
//! | conditions on memory | the memory, looked at every few microseconds ([`condition`](crate::condition)) |
//! | an extent of the disk | a file ([`FileDisk`]) |
//! | a heap of the application's own | the same, over pages of the process ([`GlobalHeap`]) |
//! | sleeping | a condition variable |
//! | the console | standard output |
//!
//! What cannot be had is a typed error: a network without a forwarded UDP port
//! ([`BindError::NoForward`](bind::BindError)), frames for a device
//! ([`MemoryError::NotHosted`](crate::memory::MemoryError)), entry points ([`NotHosted`]). What is
//! named by no type here (upcalls, and threads and pagers over them; transfers; TCP) does not
//! compile: the modules for it are the guest's.

pub mod bind;
mod disk;
mod environment;
mod grant;
mod heap;
mod memory;
mod park;
pub mod share;
#[cfg(any(test, exo_hosted))]
mod wire;

use core::fmt;
use std::sync::OnceLock;

pub use disk::FileDisk;
pub use environment::{Environment, Start};
pub use grant::{Forward, Grant};
pub use heap::GlobalHeap;
pub use memory::{HostCalls, Memory};
pub use park::HostPark;
pub use share::NotHosted;

static NAME: OnceLock<&'static str> = OnceLock::new();

/// Prints one line. [`println!`](crate::println) calls it.
pub fn print(text: fmt::Arguments<'_>) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // A reader that has gone is no reason to end.
    let _ = writeln!(out, "{}: {text}", name()).and_then(|()| out.flush());
}

/// The name that stands before each line.
pub fn name() -> &'static str {
    NAME.get().copied().unwrap_or("?")
}

/// Runs `main` in the environment that the process's arguments describe, and ends the process with
/// what it returns. [`app!`](crate::app) calls it.
pub fn enter(main: fn(Environment) -> u64) -> ! {
    let code = match Grant::of_arguments(std::env::args().skip(1)) {
        Ok(grant) => {
            let _ = NAME.set(grant.name);
            main(Environment::new(grant))
        }
        Err(problem) => {
            std::eprintln!("{problem}; started by hand? `cargo exo run --hosted NAME` does it");
            crate::runtime::START_EXIT
        }
    };
    std::process::exit(i32::from(u8::try_from(code).unwrap_or(126)))
}
