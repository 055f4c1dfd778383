//! Being a bad neighbour without breaking any rule: as much of everything shared as
//! one can get, for ever. What neighbours lose by it is for a test to see.

use exo_abi::boot::SELF;
use exo_abi::{Error, EventCount};
use libos::sys;

use crate::attack::Attacker;
use crate::comparisons::{narrowed, odd_key};

/// Sends legal frames as fast as the device takes them.
pub(crate) fn flood(attacker: &mut Attacker) -> Result<(), Error> {
    let nic = attacker.nic.as_mut().ok_or(Error::NoDevice)?;
    // Cheap for the other end, so that it is the machine that is busy.
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

/// Makes as many odd scopes as it may, and installs filters as long as there are frames for
/// them, and sleeps: the kernel must distinguish every received packet from all of theirs. As many
/// filters as it may have nothing in common, the others are alike but for a port.
pub(crate) fn hoard(attacker: &mut Attacker) -> Result<(), Error> {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let mut scopes = 0;
    for number in 0..256 {
        let object = attacker.frames.take(SELF, 2)?;
        match narrowed(nic.net, &[odd_key(nic, number)?], object).and_then(sys::cap_drop) {
            Ok(_) => scopes += 1,
            Err(_) => {
                attacker.frames.give(object, 2)?;
                break;
            }
        }
    }
    let (mut installed, mut odd) = (0, 0);
    for port in 20_000..24_000 {
        let Ok(object) = attacker.frames.take(SELF, 2) else { break };
        if port % 2 == 1 && nic.install(&nic.odd_filter(port), object).is_ok() {
            odd += 1;
        } else {
            nic.install(&nic.harmless_filter(port), object)?;
        }
        installed += 1;
    }
    libos::println!("hoarding {installed} filters, {odd} of them odd, and {scopes} scopes");
    sleep()
}

/// Sleeps with nothing but what every attacker has, and reads no packet: to be compared with.
pub(crate) fn sleep() -> Result<(), Error> {
    libos::println!("sleeping");
    loop {
        let seen = sys::wait(EventCount(u64::MAX), 0)?;
        sys::wait(EventCount(seen), 0)?;
    }
}
