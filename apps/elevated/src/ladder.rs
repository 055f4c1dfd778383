//! What single operations take in ring 3, in ring 0, and by a direct call: counted, not timed.

use exo_abi::boot::SELF;
use exo_abi::{EnvStatus, Error, UserPtr};
use libos::elevation::{Elevation, direct};
use libos::runtime::Environment;
use libos::{println, sys};
use ruler::Counter;

/// Prints a line for each. Returns 1 if something was refused.
pub(crate) fn run(environment: &Environment) -> u64 {
    match measure(environment) {
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
    let right = Elevation::new(environment.start.elevation.ok_or(Error::BadHandle)?);
    let counter = Counter::new(|line| println!("{line}"));
    counter.check();
    let mut status = [0_u8; EnvStatus::BYTES];
    // A call that looks at a capability and copies to the program's memory.
    let to = UserPtr((&raw mut status).expose_provenance() as u64);
    counter.measure("null/ring-3", || sys::null().map(drop))?;
    counter.measure("env_status/ring-3", || sys::env_status(SELF, to).map(drop))?;
    counter.measure("there-and-back", || right.begin().map(drop))?;
    let mut stretch = right.begin()?;
    counter.measure("null/ring-0", || sys::null().map(drop))?;
    counter.measure("env_status/ring-0", || sys::env_status(SELF, to).map(drop))?;
    stretch.keep()?;
    counter.measure("null/direct", || direct::null().map(drop))?;
    counter.measure("env_status/direct", || direct::env_status(SELF, to).map(drop))?;
    drop(stretch);
    Ok(())
}
