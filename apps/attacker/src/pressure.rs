//! Being a bad neighbour without breaking any rule: as much of everything shared as
//! one can get, for ever. What neighbours lose by it is for a test to see.

use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{Error, EventCount};
use libos::sys;

use crate::attack::Attacker;

/// Sends legal frames as fast as the device takes them.
pub(crate) fn flood(attacker: &mut Attacker) -> Result<(), Error> {
    let nic = attacker.nic.as_mut().ok_or(Error::NoDevice)?;
    // Cheap for whoever is at the other end, so that it is the machine that is busy.
    let own = nic.arp_reply(nic.address);
    for _ in 0..nic.order.slots() {
        nic.write(&own);
        nic.commit(own.len() as u16);
    }
    libos::println!("flooding");
    loop {
        // The buffers hold what they held: all of the ring, again.
        nic.commit_ring();
        nic.sync()?;
    }
}

/// Installs filters as long as there are frames for them, and sleeps: every received
/// frame must be told apart from all of theirs. Half of them are alike but for a port,
/// half have nothing in common.
pub(crate) fn hoard(attacker: &mut Attacker) -> Result<(), Error> {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let mut installed = Vec::with_capacity(4096);
    for port in 20_000..24_000 {
        let Ok(object) = attacker.frames.take(SELF, 2) else { break };
        let filter = match port % 2 {
            0 => nic.harmless_filter(port),
            _ => nic.odd_filter(port),
        };
        nic.install(&filter, object)?;
        installed.push(object);
    }
    libos::println!("hoarding {} filters", installed.len());
    loop {
        let seen = sys::wait(EventCount(u64::MAX), 0)?;
        sys::wait(EventCount(seen), 0)?;
    }
}
