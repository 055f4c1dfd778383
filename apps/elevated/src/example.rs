//! The worked example of `docs/elevation.md`: what a system call costs, with the ring crossed and
//! without.

use exo_abi::{Error, Handle, Lowered};
use libos::elevation::{self, Elevation, direct};
use libos::println;
use libos::sys;
use libos::time::timestamp;

/// Ticks that one of 1000 calls takes.
fn cost(call: impl Fn() -> Result<u64, Error>) -> Result<u64, Error> {
    let begin = timestamp();
    for _ in 0..1000 {
        call()?;
    }
    Ok((timestamp() - begin) / 1000)
}

/// Runs in ring 3, in ring 0, and beyond the end of what was granted of it. `handle` is what
/// the manifest gave (`environment.start.elevation`), or derived from it.
pub(crate) fn run(handle: Handle) -> Result<(), Error> {
    let in_ring_3 = cost(sys::null)?;

    let stretch = Elevation::new(handle).begin()?;
    let in_ring_0 = cost(sys::null)?;
    let called = cost(direct::null)?;
    println!("ticks of a null call: {in_ring_3}, in ring 0 {in_ring_0}, called {called}");

    // What never comes back is brought back: the stretch is over some time, and the
    // program goes on, at the same instruction, in ring 3.
    while elevation::is_elevated() {
        core::hint::spin_loop();
    }
    assert_eq!(elevation::why(), Some(Lowered::Deadline));
    drop(stretch);

    // The same code is right in ring 3.
    direct::null().map(drop)
}
