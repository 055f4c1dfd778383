//! From the processor's first instruction to `main`, and out again.
//!
//! An environment is started at an entry point with a stack and one argument,
//! the address of its U-area; nothing else exists yet. [`app!`](crate::app) puts
//! an entry point into the application that turns this into an `Environment`:
//! console, memory, clock, what the start block grants. The value `main`
//! returns becomes the exit code. A panic prints the message and the chain of
//! return addresses, and exits with [`PANIC_EXIT`].
//!
//! An application that is started in another way (the root environment, which
//! gets a boot bundle instead of a start block) uses [`entry!`](crate::entry)
//! and sets up what it wants by hand.

#[cfg(any(exo_guest, test))]
mod bytes;
mod entropy;
#[cfg(exo_guest)]
mod entry;
#[cfg(exo_guest)]
mod environment;
#[cfg(exo_guest)]
mod local;
#[cfg(exo_guest)]
mod panic;

#[cfg(exo_hosted)]
pub use crate::hosted::Environment;
#[cfg(exo_guest)]
pub use entry::{enter, enter_raw};
#[cfg(exo_guest)]
pub use environment::{Environment, StartError};
#[cfg(exo_guest)]
pub use local::Local;

pub use entropy::seed;

/// Exit code after a panic.
pub const PANIC_EXIT: u64 = 101;
/// Exit code of an application that could not be set up.
pub const START_EXIT: u64 = 102;

/// Makes `$main`, a `fn(Environment) -> u64`, the application's entry point,
/// and gives the application a heap: the buddy heap, or the
/// [`Heap`](crate::memory::heap::Heap) named.
///
/// On the host, where there is no kernel to run on, it is an empty `main`; with `cfg(exo_hosted)` it is
/// the application as a process, with the process's heap unless one is named.
#[macro_export]
macro_rules! app {
    ($main:path) => {
        $crate::app!(@guest $main, $crate::memory::heap::Buddy);
    };
    ($main:path, heap: $heap:ty) => {
        $crate::app!(@guest $main, $heap);
        #[cfg(exo_hosted)]
        #[global_allocator]
        static HEAP: $crate::hosted::GlobalHeap<$heap> = $crate::hosted::GlobalHeap::new();
    };
    (@guest $main:path, $heap:ty) => {
        #[cfg(exo_guest)]
        const _: () = {
            fn start(u_area: &'static $crate::abi::UArea) -> u64 {
                $crate::runtime::enter(u_area, $main)
            }
            $crate::entry!(start, heap: $heap);
        };
        #[cfg(exo_hosted)]
        fn main() {
            $crate::hosted::enter($main)
        }
        #[cfg(not(any(exo_guest, exo_hosted)))]
        fn main() {}
    };
}

/// Makes `$start`, a `fn(&'static UArea) -> u64`, the entry point, and sets up
/// nothing but a heap, which stays empty until
/// `memory::guest::init`.
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        $crate::entry!($start, heap: $crate::memory::heap::Buddy);
    };
    ($start:path, heap: $heap:ty) => {
        #[cfg(exo_guest)]
        const _: () = {
            #[global_allocator]
            static HEAP: $crate::memory::guest::GlobalHeap<$heap> =
                $crate::memory::guest::GlobalHeap::new();

            extern "C" fn enter(u_area: u64) -> ! {
                $crate::runtime::enter_raw(u_area, $start)
            }

            /// Where the processor arrives: `rdi` is the address of the U-area.
            /// The frame-pointer chain ends here.
            // SAFETY: the linker script names this symbol as the entry point,
            // and no other crate of an application defines it.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            extern "C" fn _start() -> ! {
                ::core::arch::naked_asm!(
                    "xor ebp, ebp",
                    "and rsp, -16",
                    "call {enter}",
                    "ud2",
                    enter = sym enter
                )
            }
        };
    };
}
