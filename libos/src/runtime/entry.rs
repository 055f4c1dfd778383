//! The first Rust code of an application.

use exo_abi::UArea;

use super::environment::Environment;
use super::panic::exit;
use super::{START_EXIT, StartError};
use crate::{measure, println};

/// Runs `start` on the U-area at `u_area`, and exits with what it returns.
///
/// Called by the entry point of [`entry!`](crate::entry) with the argument the
/// creator passed, and by nothing else.
pub fn enter_raw(u_area: u64, start: fn(&'static UArea) -> u64) -> ! {
    // SAFETY: the environment's creator maps its U-area, for good, at the
    // address it passes; the kernel changes only the atomic words at its
    // beginning. A creator that passes another address harms only what it owns.
    let u_area = unsafe { &*core::ptr::with_exposed_provenance::<UArea>(u_area as usize) };
    exit(start(u_area))
}

/// Sets up the environment that the start block in `u_area` describes, and
/// runs `main` in it. Returns the exit code.
pub fn enter(u_area: &'static UArea, main: fn(Environment) -> u64) -> u64 {
    match Environment::start(u_area) {
        Ok(environment) => {
            let code = main(environment);
            measure::finish();
            code
        }
        Err(StartError::NoStartBlock) => START_EXIT,
        Err(error) => {
            println!("cannot start: {error}");
            START_EXIT
        }
    }
}
