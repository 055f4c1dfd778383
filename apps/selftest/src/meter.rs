//! An application that says what it gets: used to watch the network from inside.
//!
//! It has two bindings. One claims everything to its address, the other one UDP
//! port and no more, so that the kernel must choose. For each frame it prints which
//! binding got it, its length and its last four bytes; for a datagram to the port
//! [`ASKED`] it prints the counters that the kernel publishes.

use core::sync::atomic::Ordering::Relaxed;

use dpf::packet::{arp_for, ipv4_all, udp_to};
use dpf::{Filter, MAX_WIRE};
use exo_abi::{Error, RingOrder, SystemInfo, UserPtr, Word};
use libos::net::NetDevice;
use libos::net::bind::KernelBell;
use libos::net::rings::Rings;
use libos::println;
use libos::runtime::Environment;
use libos::sched::Park;
use libos::sys;

/// Port of the narrow binding.
const NARROW: u16 = 4001;
/// A datagram to this port asks for the counters.
const ASKED: u16 = 4002;
/// A datagram to this port ends it.
const END: u16 = 4003;

/// Prints what comes until it is told to end.
pub(crate) fn run(environment: Environment) -> u64 {
    match measure(environment) {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

fn measure(environment: Environment) -> Result<(), Error> {
    let address = environment.start.address.ok_or(Error::NoDevice)?;
    let mut wide = bind(&environment, &[ipv4_all(address), arp_for(address)])?;
    let mut narrow = bind(&environment, &[udp_to(address, NARROW)])?;
    println!("listening");
    let mut park = environment.park;
    let mut asked = false;
    loop {
        let seen = park.seen();
        // One crossing looks for every environment's packets; each ring is its own.
        wide.sync()?;
        narrow.sync()?;
        let mut any = false;
        for (name, rings) in [("wide", &mut wide), ("narrow", &mut narrow)] {
            while let Some(frame) = rings.slots().received {
                any = true;
                let (length, last) = (frame.len(), frame.last_chunk().copied());
                let last = u32::from_be_bytes(last.unwrap_or_default());
                println!("{name} got {length} bytes, {last:08x}");
                let port = frame.get(36..38).map(|port| u16::from_be_bytes([port[0], port[1]]));
                rings.consume();
                match port {
                    Some(ASKED) => asked = true,
                    Some(END) => return Ok(()),
                    _ => {}
                }
            }
        }
        if any {
            continue;
        }
        // Only when both rings are empty: what came before the question, in either, is
        // printed before the answer.
        if core::mem::take(&mut asked) {
            print(environment.system);
        }
        park.park(seen, None);
    }
}

fn print(system: &SystemInfo) {
    let load = |counter: &core::sync::atomic::AtomicU64| counter.load(Relaxed);
    println!(
        "counters calls={} traps={} switches={} halts={} received={} unclaimed={} \
         overflowed={} transmitted={} refused={} notifications={} tsc_hz={}",
        load(&system.calls),
        load(&system.traps),
        load(&system.switches),
        load(&system.halts),
        load(&system.received),
        load(&system.unclaimed),
        load(&system.overflowed),
        load(&system.transmitted),
        load(&system.refused),
        load(&system.notifications),
        load(&system.tsc_hz),
    );
}

fn bind(environment: &Environment, filters: &[Filter]) -> Result<Rings<KernelBell>, Error> {
    let net = environment.start.net.ok_or(Error::NoDevice)?;
    let memory = environment.memory;
    let order = RingOrder::new(8).ok_or(Error::BadArgument)?;
    let (run, first) = memory.map_device_run(order.frames()).map_err(|_| Error::NotFree)?;
    let object = memory.take_frame().map_err(|_| Error::NotFree)?;
    let binding = Word::from_word(sys::net_bind(net, first, order, object)?)?;
    for filter in filters {
        let mut wire = [0; MAX_WIRE];
        let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
        let frame = || memory.take_frame().map_err(|_| Error::NotFree);
        let (object, code) = (frame()?, frame()?);
        let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
        sys::filter_install(binding, at, length as u64, object, code)?;
    }
    // SAFETY: the run is page aligned, mapped read and write for good, zeroed by the kernel
    // when it was taken, and handed out nowhere else.
    Ok(unsafe { Rings::new(run, order, KernelBell { binding, direct: false }) })
}
