//! Outliving its own end.
//!
//! The attacker leaves behind a child that runs, holds frames of the grant, and has
//! a page of the attacker's own mapped. If destroying the attacker leaves the child alone, no
//! environment can ever end it, and the attacker's frames are never free again.

use exo_abi::Error;

use crate::attack::Attacker;

extern "C" fn lives_on(_: u64) -> ! {
    loop {
        let _ = libos::sys::slice_yield();
    }
}

/// Makes the child, lets it run, and forgets it. Exiting is up to the caller.
pub(crate) fn leave_behind(attacker: Attacker) -> Result<(), Error> {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    let child = attacker.maker.child()?;
    child.share(page)?;
    child.start(lives_on, 0)?;
    child.abandon()?;
    core::mem::forget(attacker);
    Ok(())
}
