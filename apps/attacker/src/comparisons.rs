//! Filters that are hard to compare: nothing that they pin keeps them apart, and they differ in
//! the last bit of a range only, in each of 16 times 16 cases. Ring 0 is not
//! interrupted, so it must give up soon.

use alloc::vec::Vec;

use dpf::{Atom, Filter, MAX_WIRE, Shift, Step};
use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, RingOrder, UserPtr, Word};
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::nic::Nic;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "install beside filters hard to compare with", run: install },
    Attack { name: "make a scope of filters hard to compare", run: scope },
    Attack { name: "read a filter hard to compare with a scope", run: read },
];

const M: u64 = 0x5555_5555_5555_5554;

/// To the attacker's address, shifted by a byte of its own.
fn make(
    nic: &Nic,
    port: Option<u64>,
    ranges: [(u16, u64, u64); 4],
    shifted_at: u16,
) -> Result<Filter, Error> {
    let address = u32::from_be_bytes(nic.address);
    let mut atoms = alloc::vec![Atom::exact(12, 2, 0x800), Atom::exact(30, 4, address.into())];
    atoms.extend(port.map(|port| Atom::exact(36, 2, port)));
    atoms.extend(ranges.map(|(at, lo, hi)| Atom::range(at, 8, lo, hi)));
    let mut steps: Vec<_> = atoms.into_iter().map(Step::Atom).collect();
    steps.push(Step::Shift(Shift { offset: shifted_at, mask: 0x0f, scale: 0 }));
    steps.push(Step::Atom(Atom::masked(60, 1, 0, 0)));
    Filter::of_steps(&steps).map_err(|_| Error::BadFilter)
}

const fn free(at: u16) -> (u16, u64, u64) {
    (at, 1, u64::MAX - 2)
}

fn own(nic: &Nic, port: u64) -> Result<Filter, Error> {
    make(nic, Some(port), [free(100), free(108), free(116), (200, M - 5, M)], 51)
}

fn beside(nic: &Nic) -> Result<Filter, Error> {
    make(nic, None, [free(130), free(138), free(146), (200, M + 1, M + 4)], 50)
}

fn refused(answer: Result<u64, Error>, expected: Error) -> Attempt {
    Ok(Verdict::harmless(answer == Err(expected), alloc::format!("{answer:?}")))
}

/// A network capability for these filters only.
fn narrowed(attacker: &Attacker, net: Handle, filters: &[Filter]) -> Result<u64, Error> {
    let mut wire = Vec::new();
    for filter in filters {
        let mut one = [0; MAX_WIRE];
        let length = filter.encode(&mut one).ok_or(Error::TooMuch)?;
        wire.extend_from_slice(&one[..length]);
    }
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    let object = attacker.frames.take(SELF, 1)?;
    sys::net_scope(net, at, wire.len() as u64, object)
}

fn install(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    for port in 0..20 {
        // These are told apart by their ports.
        nic.install(&own(nic, port)?, attacker.frames.take(SELF, 2)?)?;
    }
    let answer = nic.install(&beside(nic)?, attacker.frames.take(SELF, 2)?);
    refused(answer, Error::TooMuch)
}

fn scope(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let ranges = [100, 108, 116, 124].map(|at| (at, M / 5, M));
    let outer = narrowed(attacker, nic.net, &[make(nic, None, ranges, 50)?])?;
    let within = make(nic, None, ranges, 51)?;
    refused(narrowed(attacker, Handle::from_word(outer)?, &[within; 8]), Error::TooMuch)
}

fn read(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let object = attacker.frames.take(SELF, 2)?;
    nic.install(&own(nic, 9999)?, object)?;
    let net = Handle::from_word(narrowed(attacker, nic.net, &[beside(nic)?; 8])?)?;
    let order = RingOrder::new(4).ok_or(Error::BadArgument)?;
    let run = attacker.frames.take(SELF, order.frames())?;
    let binding = sys::net_bind(net, run, order, attacker.frames.take(SELF, 1)?)?;
    let answer = sys::filter_read(Handle::from_word(binding)?, object, UserPtr(0), 0);
    refused(answer, Error::NoRight)
}
