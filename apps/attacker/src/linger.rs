//! Keeping the processor by way of a timer that was set for something else.
//!
//! All environments sleep, and the nearest deadline, for which the kernel has set its timer,
//! is seconds away. A frame wakes the attacker before. The slice that begins then must end as
//! any other, and not when that deadline comes.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, EventCount};
use libos::sys;
use libos::time::timestamp;

use crate::attack::{Attacker, Attempt, Verdict};

/// Frames to wait for.
const ROUNDS: u32 = 10;

/// Waits for frames, and spins after each until it is interrupted.
pub(crate) fn attempt(attacker: &mut Attacker) -> Attempt {
    let system = attacker.environment.system;
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    libos::println!("send me frames");
    let (mut done, mut outstayed) = (0, 0);
    while done < ROUNDS {
        let seen = EventCount(sys::wait(EventCount(u64::MAX), 0)?);
        let deadline = timestamp() + 3 * system.tsc_hz.load(Relaxed);
        let woken = EventCount(sys::wait(seen, deadline)?);
        nic.drain();
        if woken == seen {
            continue;
        }
        let midway = timestamp() / 2 + deadline / 2;
        let traps = system.traps.load(Relaxed);
        while system.traps.load(Relaxed) == traps {
            core::hint::spin_loop();
        }
        outstayed += u32::from(timestamp() >= midway);
        done += 1;
    }
    // A slice is a thousandth of what is left until the deadline. A single long one
    // can be the host's doing, which may have slept itself.
    if outstayed > ROUNDS / 2 {
        let answer = alloc::format!("nothing until the deadline, {outstayed} times");
        return Ok(Verdict::breach(answer));
    }
    Ok(Verdict::repelled(alloc::format!("your time is over, {ROUNDS} times")))
}
