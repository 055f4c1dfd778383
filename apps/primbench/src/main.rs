//! The exokernel's primitive operations, counted from ring 3: the other side of
//! `bench/linux-primitives`.
//!
//! Under `-icount shift=0` the time-stamp counter counts instructions, of the kernel as
//! well as of programs; [`ruler`] checks that it does. One line per measurement,
//!
//! ```text
//! primitive NAME instructions=MEDIAN least=LEAST most=MOST samples=COUNT
//! ```
//!
//! and `done` at the end. The names are those of the table in
//! `qemu/src/bench/primitives/rows.rs`; an operation without a line is one that the
//! system does not have. Wants a grant of two time slots, one for itself and one for
//! its partner, so that each waits only for the other.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod environments;
#[cfg(exo_guest)]
mod grants;
#[cfg(exo_guest)]
mod memory;
#[cfg(exo_guest)]
mod predicates;
#[cfg(exo_guest)]
mod revocation;
#[cfg(exo_guest)]
mod transfers;
#[cfg(exo_guest)]
mod upcalls;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use exo_abi::Error;
    use libos::runtime::Environment;
    use libos::{println, sys};
    use selftest::child::Maker;

    use ruler::Counter;

    use crate::{environments, memory, upcalls};

    /// Returns 1 if something was refused that should not be.
    pub(crate) fn main(environment: Environment) -> u64 {
        match measure(&environment) {
            Ok(()) => {
                println!("done");
                0
            }
            Err(error) => {
                println!("failed: {error}");
                1
            }
        }
    }

    fn measure(environment: &Environment) -> Result<(), Error> {
        let counter = Counter::new(|line| println!("{line}"));
        counter.check();
        counter.measure("null", || sys::null().map(drop))?;
        let maker = Maker::new(environment)?;
        memory::measure(&counter, maker.frames)?;
        upcalls::measure(&counter, maker.frames)?;
        environments::measure(&counter, &maker)?;
        maker.close()
    }
}

/// The program's own U-area.
#[cfg(exo_guest)]
fn u_area() -> &'static exo_abi::UArea {
    let area = core::ptr::with_exposed_provenance(exo_abi::boot::U_AREA as usize);
    // SAFETY: the creator mapped it here for good, and all in it that changes is atomic.
    unsafe { &*area }
}

#[cfg(not(exo_guest))]
use {dpf as _, ruler as _, selftest as _};
