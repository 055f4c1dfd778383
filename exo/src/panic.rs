//! How the kernel itself ends: power-off, and panics with a backtrace.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use exo_abi::EnvState;

use crate::arch::cpu::{halt_forever, out8};
use crate::arch::serial::flush;
use crate::kernel::of_the_end;
use crate::say;
use crate::state::State;

/// QEMU's `isa-debug-exit` device: writing `v` ends QEMU with status `2v + 1`.
const EXIT_PORT: u16 = 0xf4;
/// Exit code of a kernel panic.
const PANICKED: u8 = 127;
const BACKTRACE_FRAMES: usize = 24;

/// Ends the machine with `code`, when all that was printed has gone out.
pub fn power_off(kernel: &State, code: u8) -> ! {
    flush(&kernel.console);
    off(code)
}

fn off(code: u8) -> ! {
    // SAFETY: the port belongs to the exit device or to nothing.
    unsafe { out8(EXIT_PORT, code) };
    halt_forever()
}

/// The first environment has ended: no environment is left that could do anything.
pub fn first_ended(kernel: &State) -> ! {
    flush(&kernel.console);
    if let Some(status) = kernel.env(kernel.first.get()).map(crate::env::Env::status)
        && status.state == EnvState::Faulted as u32
    {
        say!(
            "the first environment ended: exception {} at {:#x}, address {:#x}",
            status.vector,
            status.rip,
            status.address
        );
        print_backtrace("root", core::iter::once(status.rip).chain(status.backtrace));
        off(PANICKED);
    }
    say!("the first environment ended");
    off(0)
}

fn print_backtrace(image: &str, addresses: impl Iterator<Item = u64>) {
    use core::fmt::Write;
    let serial = &mut crate::arch::serial::Serial;
    let _ = write!(serial, "exo: backtrace: {image}");
    for address in addresses.take_while(|address| *address != 0) {
        let _ = write!(serial, " {address:#x}");
    }
    let _ = writeln!(serial);
}

/// Return addresses along the frame-pointer chain of the kernel stack.
fn return_addresses() -> impl Iterator<Item = u64> {
    let mut base: u64;
    // SAFETY: reading a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) base, options(nomem, nostack)) };
    core::iter::from_fn(move || {
        // The entries clear rbp, and frames only lie in the kernel's image.
        if base < exo_boot::layout::KERNEL_BASE || !base.is_multiple_of(8) {
            return None;
        }
        // SAFETY: an aligned address in the kernel image, which is mapped as a
        // whole where stacks are; a wrong one can at worst fault, and this is
        // the end anyway.
        let (next, address) =
            unsafe { ((base as *const u64).read(), (base as *const u64).add(1).read()) };
        base = next;
        Some(address)
    })
    .take(BACKTRACE_FRAMES)
}

/// Set by the first panic: one inside the report must not start another.
static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if PANICKING.swap(true, Ordering::Relaxed) {
        off(PANICKED);
    }
    if let Some(kernel) = of_the_end() {
        flush(&kernel.console);
    }
    match info.location() {
        Some(place) => say!("panic: {} ({}:{})", info.message(), place.file(), place.line()),
        None => say!("panic: {}", info.message()),
    }
    print_backtrace("exokernel", return_addresses());
    off(PANICKED)
}
