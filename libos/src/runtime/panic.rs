//! What happens on a panic: say what, say where from, end.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::STACK_TOP;

use super::PANIC_EXIT;
use crate::sched::threads;
use crate::{console, sys, upcall};

/// Return addresses printed at most.
const DEPTH: usize = 32;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Read here, so that the chain begins with the function that panicked.
    let (frame, bottom): (u64, u64);
    // SAFETY: reads two registers and nothing else.
    unsafe {
        core::arch::asm!("mov {}, rbp", "mov {}, rsp", out(reg) frame, out(reg) bottom,
            options(nomem, nostack, preserves_flags));
    }
    let place = info.location().map_or(("?", 0), |location| (location.file(), location.line()));
    console::print(format_args!("panic: {} ({}:{})", info.message(), place.0, place.1));
    let backtrace = Backtrace { frame, bottom, end: stack_end(bottom) };
    console::print(format_args!("backtrace: {}{backtrace}", console::name()));
    exit(PANIC_EXIT)
}

/// Ends the environment.
pub(crate) fn exit(code: u64) -> ! {
    loop {
        // The kernel does not return from this; were it to refuse, there is
        // nothing left to do but to ask again.
        let _ = sys::exit(code);
    }
}

/// Where the stack ends that `bottom` points into: the application's first, the running
/// thread's, or that of upcalls.
fn stack_end(bottom: u64) -> u64 {
    let upcalls = upcall::u_area().upcall.stack.load(Relaxed);
    let ends = [STACK_TOP, threads::stack_end().unwrap_or_default(), upcalls];
    // Stacks do not overlap, so the nearest end above is the own.
    ends.into_iter().filter(|&end| end > bottom).min().unwrap_or_default()
}

/// The return addresses on the stack from `frame` on, innermost first.
struct Backtrace {
    frame: u64,
    bottom: u64,
    end: u64,
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut frame = self.frame;
        for _ in 0..DEPTH {
            // A frame pointer that is damaged must not lead to a second fault.
            if frame < self.bottom
                || frame > self.end.saturating_sub(16)
                || !frame.is_multiple_of(8)
            {
                break;
            }
            // SAFETY: `frame` and the word above it lie between a former stack
            // pointer and the end of its stack, all of which is mapped, and
            // `frame` is aligned; any bits there are a valid `u64`.
            let (next, address) = unsafe {
                let words = core::ptr::with_exposed_provenance::<u64>(frame as usize);
                (words.read(), words.add(1).read())
            };
            if address == 0 {
                break;
            }
            write!(f, " {address:#x}")?;
            if next <= frame {
                break;
            }
            frame = next;
        }
        Ok(())
    }
}

/// Named by the prebuilt `core`; never called, because a panic aborts.
// SAFETY: the linker wants the symbol once, and an application has no other.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the prebuilt `alloc`; never called, because a panic aborts.
// SAFETY: as for `rust_eh_personality`.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(PANIC_EXIT)
}
