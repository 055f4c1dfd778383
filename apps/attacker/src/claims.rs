//! Claiming packets that are a neighbour's: by filters and scopes that equal its own, take
//! more, take less, or lie beside them; and by filters that are none.
//!
//! The neighbour is the store, at the address before the attacker's in the tree's
//! manifests.

use alloc::vec::Vec;

use dpf::packet::{arp_for, icmp_to, udp_to};
use dpf::{Atom, Filter, MAX_WIRE};
use exo_abi::boot::SELF;
use exo_abi::{Error, Word};
use libos::sys;
use selftest::random::Random;

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::comparisons::narrowed;

/// The store's address and port.
pub(crate) const STORE: [u8; 4] = [10, 0, 2, 15];
pub(crate) const STORE_PORT: u16 = 11211;

/// What is not within the attacker's scope is nothing to it, whatever it is to others.
const FOREIGN: &[Error] = &[Error::NoRight];

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "claim the store's datagrams", run: |a| claim(a, udp_to(STORE, STORE_PORT)) },
    Attack { name: "claim the store's ARP", run: |a| claim(a, arp_for(STORE)) },
    Attack { name: "claim the store's ICMP", run: |a| claim(a, icmp_to(STORE)) },
    Attack { name: "claim all IPv4", run: |a| claim_atoms(a, &[ethertype(0x0800)]) },
    Attack { name: "claim all ARP", run: |a| claim_atoms(a, &[ethertype(0x0806)]) },
    Attack { name: "claim all UDP", run: |a| claim_atoms(a, &[ethertype(0x0800), protocol(17)]) },
    Attack {
        name: "claim everything to the store's address",
        run: |a| claim_atoms(a, &[to_store()]),
    },
    Attack { name: "claim everything to the store's port", run: |a| claim_atoms(a, &[to_port()]) },
    Attack { name: "claim every frame to the station", run: to_station },
    Attack { name: "claim by a single bit", run: single_bits },
    Attack { name: "claim a part: one client's datagrams", run: one_client },
    Attack { name: "claim a part: one key's requests", run: one_key },
    Attack { name: "claim a part: by the last byte of a frame", run: last_byte },
    Attack { name: "claim half of the store's port bits", run: half_port },
    Attack {
        name: "claim the store's address, another port",
        run: |a| claim_foreign(a, udp_to(STORE, 53)),
    },
    Attack { name: "claim the store's TCP", run: |a| claim_foreign_atoms(a, &tcp_to_store()) },
    Attack {
        name: "claim fragments for the store",
        run: |a| claim_foreign_atoms(a, &fragments_to_store()),
    },
    Attack { name: "claim the router's ARP", run: router_arp },
    Attack {
        name: "claim an address without an owner",
        run: |a| claim_foreign(a, udp_to([10, 0, 2, 99], 53)),
    },
    Attack { name: "widen its own scope", run: widen },
    Attack { name: "take scopes of others away", run: unscope },
    Attack { name: "install random bytes as filters", run: random_bytes },
    Attack { name: "install filters with flipped bits", run: flipped_bits },
    Attack { name: "remove filters one does not have", run: remove_foreign },
    Attack { name: "receive what was passed on to a child", run: undelegate },
    Attack { name: "pass on the same packets twice", run: twice },
];

fn ethertype(number: u64) -> Atom {
    Atom::exact(12, 2, number)
}

fn protocol(number: u64) -> Atom {
    Atom::exact(23, 1, number)
}

fn to_store() -> Atom {
    Atom::exact(30, 4, u64::from(u32::from_be_bytes(STORE)))
}

fn to_port() -> Atom {
    Atom::exact(36, 2, u64::from(STORE_PORT))
}

fn plain() -> [Atom; 2] {
    [Atom::exact(14, 1, 0x45), Atom::masked(20, 2, 0x3fff, 0)]
}

/// The store's own filter, as atoms to add to.
fn store_atoms() -> Vec<Atom> {
    let [version, fragment] = plain();
    alloc::vec![ethertype(0x0800), version, fragment, protocol(17), to_store(), to_port()]
}

fn tcp_to_store() -> [Atom; 6] {
    let [version, fragment] = plain();
    [ethertype(0x0800), version, fragment, protocol(6), to_store(), Atom::exact(36, 2, 80)]
}

fn fragments_to_store() -> [Atom; 3] {
    let more = Atom::masked(20, 2, 0x2000, 0x2000);
    [ethertype(0x0800), more, to_store()]
}

/// Tries to install `filter`; takes it off again if that worked.
fn attempt(attacker: &Attacker, filter: &Filter) -> Result<Result<u64, Error>, Error> {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let object = attacker.frames.take(SELF, 2)?;
    let answer = nic.install(filter, object);
    if answer.is_ok() {
        sys::filter_remove(nic.binding, object)?;
    }
    attacker.frames.give(object, 2)?;
    Ok(answer)
}

fn claim(attacker: &mut Attacker, filter: Filter) -> Attempt {
    Ok(Verdict::refused_for(attempt(attacker, &filter)?, FOREIGN))
}

fn claim_atoms(attacker: &mut Attacker, atoms: &[Atom]) -> Attempt {
    claim(attacker, Filter::new(atoms).map_err(|_| Error::BadFilter)?)
}

/// What no filter of the store's touches, but what is not the attacker's either: its
/// grant is for its own address.
fn claim_foreign(attacker: &mut Attacker, filter: Filter) -> Attempt {
    Ok(Verdict::refused(attempt(attacker, &filter)?, Error::NoRight))
}

fn claim_foreign_atoms(attacker: &mut Attacker, atoms: &[Atom]) -> Attempt {
    claim_foreign(attacker, Filter::new(atoms).map_err(|_| Error::BadFilter)?)
}

fn to_station(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let [a, b, c, d, e, f] = nic.mac;
    let high = u64::from(u32::from_be_bytes([a, b, c, d]));
    let low = u64::from(u16::from_be_bytes([e, f]));
    claim_atoms(attacker, &[Atom::exact(0, 4, high), Atom::exact(4, 2, low)])
}

/// Each single bit of the first 46 bytes, both values: none contradicts all of the
/// store's filters.
fn single_bits(attacker: &mut Attacker) -> Attempt {
    let mut answers = Vec::new();
    for bit in 0..46 * 8_u16 {
        let mask = 0x80 >> (bit % 8);
        for value in [0, mask] {
            let atom = Atom::masked(bit / 8, 1, mask, value);
            let filter = Filter::new(&[atom]).map_err(|_| Error::BadFilter)?;
            answers.push(attempt(attacker, &filter)?);
        }
    }
    Ok(Verdict::every(answers.into_iter(), FOREIGN))
}

fn one_client(attacker: &mut Attacker) -> Attempt {
    let mut atoms = store_atoms();
    atoms.push(Atom::exact(26, 4, 0x0a00_0202));
    atoms.push(Atom::exact(34, 2, 40000));
    claim_atoms(attacker, &atoms)
}

fn one_key(attacker: &mut Attacker) -> Attempt {
    let mut atoms = store_atoms();
    // Behind Ethernet, IPv4, UDP and the memcached frame header: "get k".
    atoms.push(Atom::exact(50, 4, u64::from(u32::from_be_bytes(*b"get "))));
    atoms.push(Atom::exact(54, 1, u64::from(b'k')));
    claim_atoms(attacker, &atoms)
}

fn last_byte(attacker: &mut Attacker) -> Attempt {
    claim_atoms(attacker, &[Atom::exact(1513, 1, 0)])
}

fn half_port(attacker: &mut Attacker) -> Attempt {
    let mask = 0xff00;
    let value = u64::from(STORE_PORT) & mask;
    let mut atoms = store_atoms();
    atoms.truncate(5);
    atoms.push(Atom::masked(36, 2, mask, value));
    claim_atoms(attacker, &atoms)
}

fn router_arp(attacker: &mut Attacker) -> Attempt {
    let gateway = attacker.nic.as_ref().ok_or(Error::NoDevice)?.gateway;
    claim_foreign(attacker, arp_for(gateway))
}

/// A scope made from the attacker's own allows no more than that.
fn widen(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let object = attacker.frames.take(SELF, 2)?;
    let store = dpf::packet::ipv4_all(STORE);
    let [everything, address] = [ethertype(0x0800), to_store()].map(|atom| Filter::new(&[atom]));
    let everything = everything.map_err(|_| Error::BadFilter)?;
    let address = address.map_err(|_| Error::BadFilter)?;
    let mut answers = Vec::new();
    for wider in [store, everything, address, udp_to(STORE, STORE_PORT), arp_for(nic.gateway)] {
        // Alone, and behind one that is allowed and apart from it.
        let own = if wider == arp_for(nic.gateway) {
            nic.harmless_filter(5000)
        } else {
            arp_for(nic.address)
        };
        for keys in [&[wider][..], &[own, wider]] {
            answers.push(narrowed(nic.net, keys, object).map(Word::into_word));
        }
    }
    attacker.frames.give(object, 2)?;
    Ok(Verdict::every(answers.into_iter(), &[Error::NoRight, Error::BadFilter]))
}

/// What a scope made from the attacker's holds is no longer the attacker's, though nothing
/// there listens: the kernel drops it. The attacker sends itself nothing, so this looks at
/// which claims are allowed.
fn undelegate(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let object = attacker.frames.take(SELF, 2)?;
    let inner = narrowed(nic.net, &[nic.harmless_filter(7000)], object)?;
    // From the scope that was made one gets no further out again.
    let other = attacker.frames.take(SELF, 2)?;
    let answers = [nic.harmless_filter(7001), dpf::packet::ipv4_all(nic.address), arp_for(STORE)]
        .map(|wider| narrowed(inner, &[wider], other).map(Word::into_word));
    attacker.frames.give(other, 2)?;
    crate::comparisons::unscope(attacker, object)?;
    // And when it is gone its capability is good for nothing.
    let run = attacker.frames.take(SELF, 4)?;
    let order = exo_abi::RingOrder::new(1).ok_or(Error::BadArgument)?;
    let stale = sys::net_bind(inner, run, order, run.plus(3));
    attacker.frames.give(run, 4)?;
    sys::cap_drop(inner)?;
    let answers = answers.into_iter().chain([stale]);
    Ok(Verdict::every(answers, &[Error::NoRight, Error::BadHandle]))
}

fn twice(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let [one, two] = [attacker.frames.take(SELF, 2)?, attacker.frames.take(SELF, 2)?];
    let first = narrowed(nic.net, &[nic.harmless_filter(7000)], one)?;
    let wide = dpf::packet::ipv4_all(nic.address);
    let odd = Filter::new(&[
        ethertype(0x0800),
        Atom::exact(30, 4, u64::from(u32::from_be_bytes(nic.address))),
        Atom::masked(36, 2, 1, 0),
    ]);
    let odd = odd.map_err(|_| Error::BadFilter)?;
    let answers = [nic.harmless_filter(7000), wide, odd]
        .map(|key| narrowed(nic.net, &[key], two).map(Word::into_word));
    attacker.frames.give(two, 2)?;
    crate::comparisons::unscope(attacker, one)?;
    sys::cap_drop(first)?;
    Ok(Verdict::every(answers.into_iter(), &[Error::FilterConflict]))
}

fn unscope(attacker: &mut Attacker) -> Attempt {
    Ok(Verdict::every(attacker.foreign().map(sys::net_unscope), &[Error::NotOwned]))
}

/// Bytes that are hardly a filter: any, or such as begin each test like one.
pub(crate) fn random_wire(random: &mut Random, begins: bool) -> ([u8; MAX_WIRE], usize) {
    const TEST: usize = MAX_WIRE / dpf::MAX_ATOMS;
    let mut wire = [0; MAX_WIRE];
    wire.iter_mut().for_each(|byte| *byte = random.word() as u8);
    if !begins {
        return (wire, random.below(MAX_WIRE as u64 + 1) as usize);
    }
    for test in wire.chunks_mut(TEST) {
        let first = random.below(8 * dpf::MAX_FRAME as u64) as u16;
        let [kind, bits, scale] = [3, 33, 8].map(|end| random.below(end) as u8);
        let [low, high] = first.to_le_bytes();
        test[..8].copy_from_slice(&[kind, bits, scale, 0, low, high, 0, 0]);
    }
    (wire, TEST * (1 + random.below(dpf::MAX_ATOMS as u64) as usize))
}

fn random_bytes(attacker: &mut Attacker) -> Attempt {
    let object = attacker.frames.take(SELF, 2)?;
    let mut random = attacker.random;
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let mut answers = Vec::new();
    for round in 0..4000 {
        let (wire, length) = random_wire(&mut random, round % 2 == 0);
        answers.push(nic.install_bytes(&wire[..length], object));
    }
    attacker.frames.give(object, 2)?;
    Ok(Verdict::every(answers.into_iter(), &[Error::BadFilter, Error::NoRight]))
}

/// The store's filter with one bit changed: no filter, or one for other packets,
/// which is taken off again.
fn flipped_bits(attacker: &mut Attacker) -> Attempt {
    let object = attacker.frames.take(SELF, 2)?;
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let mut wire = [0; MAX_WIRE];
    let filter = udp_to(STORE, STORE_PORT);
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    let own = dpf::Key::of(&dpf::packet::ipv4_all(nic.address)).ok_or(Error::BadFilter)?;
    let mut wrong = 0;
    for bit in 0..length * 8 {
        let mut flipped = wire;
        flipped[bit / 8] ^= 1 << (bit % 8);
        if nic.install_bytes(&flipped[..length], object).is_ok() {
            // Accepted: then it must be for packets to the attacker's own address.
            let read = Filter::decode(&flipped[..length]);
            wrong += u32::from(read.is_none_or(|read| read.behind(&own).is_none()));
            sys::filter_remove(nic.binding, object)?;
        }
    }
    attacker.frames.give(object, 2)?;
    Ok(Verdict::harmless(wrong == 0, alloc::format!("no, {} times", length * 8)))
}

fn remove_foreign(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let binding = nic.binding;
    let removals = attacker.foreign().map(|pfn| sys::filter_remove(binding, pfn));
    Ok(Verdict::every(removals, &[Error::Vacant]))
}
