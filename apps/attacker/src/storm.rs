//! A storm of filters: they come and go as fast as the kernel lets them, and each touches
//! what a neighbour's packets pass on their way.
//!
//! Claims of UDP to one port all begin with the same tests, and then lie in one group of the
//! merged filters, in spite of different owners. So the storm's *siblings* make the
//! neighbour's group long and short again, over and over around the length at which the
//! kernel makes it other code; its *shapes* come and go as other groups at the nodes that the
//! neighbour's packets pass. Between any two changes the kernel looks for packets; with
//! `patience=N` it is the turn of others until there are any, at most N times.
//!
//! A test that watches sends datagrams to [`PORT`]: the answer to each is a line with counts,
//! the storm's and the kernel's.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use dpf::packet::udp_to;
use dpf::{Atom, Filter, FilterError, MAX_WIRE, Shift, Step};
use exo_abi::boot::SELF;
use exo_abi::{Error, Pfn, SystemInfo};
use libos::{println, sys};

use crate::attack::Attacker;
use crate::nic::PORT;

/// Filters that differ from the neighbour's in values only, by UDP port.
const SIBLINGS: u16 = 96;
const FIRST_SIBLING: u16 = 20_000;
/// Filters of each other shape.
const EACH: u16 = 8;

/// A filter of the storm, and where it lies.
struct Claim {
    filter: Filter,
    object: Pfn,
    installed: bool,
}

/// What has happened.
#[derive(Default)]
struct Counts {
    changes: u64,
    /// Those after which packets were received before the next.
    met: u64,
    /// Times that the siblings and the two that are always there became too many for a
    /// chain of comparisons, or few enough.
    crossings: u64,
    /// Frames received, and those among them that are not for this address.
    got: u64,
    strays: u64,
}

/// Values up to which a group is a chain of comparisons (`dpf`).
const CHAIN: usize = 4;
/// Those of the group that are always there: the neighbour's claim and this one's.
const STEADY: usize = 2;

/// Storms for ever.
pub(crate) fn storm(attacker: &mut Attacker) -> Result<(), Error> {
    let mut random = attacker.random;
    let patience = attacker.environment.argument("patience");
    let patience: u32 = patience.and_then(|number| number.parse().ok()).unwrap_or(0);
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let filters = filters(nic.address).map_err(|_| Error::BadFilter)?;
    let mut claims = Vec::with_capacity(filters.len());
    for filter in filters {
        let object = attacker.frames.take(SELF, 2)?;
        claims.push(Claim { filter, object, installed: false });
    }
    let (siblings, shapes) = claims.split_at_mut(SIBLINGS.into());
    for claim in siblings.iter().take(1).chain(shapes.iter().step_by(EACH.into())) {
        show(&claim.filter)?;
    }
    println!("storming");
    let mut counts = Counts::default();
    let (mut length, mut aim) = (0, 0);
    loop {
        let choice = random.word() as usize;
        if choice.is_multiple_of(4) {
            let claim = &mut shapes[choice / 4 % (4 * usize::from(EACH))];
            claim.change(nic)?;
        } else {
            while length == aim {
                // Mostly around the length at which the code changes, now and then far beyond.
                let most = if random.below(64) == 0 { siblings.len() } else { CHAIN };
                aim = random.below(most as u64) as usize;
            }
            let installed = length > aim;
            let (before, after) = siblings.split_at_mut(choice / 4 % usize::from(SIBLINGS));
            let fitting = |claim: &&mut Claim| claim.installed == installed;
            let claim = after.iter_mut().chain(before).find(fitting).ok_or(Error::Vacant)?;
            claim.change(nic)?;
            let was_chain = length + STEADY <= CHAIN;
            length = if installed { length - 1 } else { length + 1 };
            counts.crossings += u64::from(was_chain != (length + STEADY <= CHAIN));
        }
        counts.changes += 1;
        let seen = || attacker.environment.system.received.load(Relaxed);
        let before = seen();
        nic.sync()?;
        // The others' turn, so that what there is of filters now meets packets.
        let mut turns = 0;
        while turns < patience && seen() == before {
            sys::slice_yield()?;
            turns += 1;
        }
        counts.met += u64::from(seen() != before);
        let mut asked = None;
        while let Some(frame) = nic.next() {
            counts.got += 1;
            counts.strays += u64::from(frame.get(30..34) != Some(&nic.address));
            if frame.get(36..38) == Some(&PORT.to_be_bytes()) {
                asked = frame.last_chunk().map(|tag| u32::from_be_bytes(*tag));
            }
        }
        if let Some(tag) = asked {
            // The processor that delivered the question has left the kernel then, and has
            // counted it.
            nic.sync()?;
            answer(tag, &counts, attacker.environment.system);
        }
    }
}

impl Claim {
    fn change(&mut self, nic: &crate::nic::Nic) -> Result<(), Error> {
        if self.installed {
            sys::filter_remove(nic.binding, self.object)?;
        } else {
            nic.install(&self.filter, self.object)?;
        }
        self.installed = !self.installed;
        Ok(())
    }
}

/// All filters of the storm: the siblings, and then [`EACH`] of every other shape. No two of
/// them take the same packet.
fn filters(address: [u8; 4]) -> Result<Vec<Filter>, FilterError> {
    let to = u64::from(u32::from_be_bytes(address));
    let atoms = [
        Atom::exact(12, 2, 0x0800),
        Atom::exact(14, 1, 0x45),
        Atom::masked(20, 2, 0x3fff, 0),
        Atom::exact(23, 1, 17),
        Atom::exact(30, 4, to),
    ];
    let with = |more: &[Atom]| Filter::new(&[&atoms, more].concat());
    let each = || (0..EACH).map(u64::from);
    let mut all: Vec<_> = (0..SIBLINGS).map(|n| udp_to(address, FIRST_SIBLING + n)).collect();
    // At the node where the siblings are: some bits of a port, and a range of them.
    for n in each() {
        let mask = 0xffff & 0xfffe << n;
        all.push(with(&[Atom::masked(36, 2, mask, 0x8000 | n << 8)])?);
    }
    for n in each() {
        all.push(with(&[Atom::range(36, 2, 40_001 + 100 * n, 40_050 + 100 * n)])?);
    }
    // At the root: one sender's datagrams, and headers with options.
    for n in each() {
        all.push(with(&[Atom::exact(26, 4, 0x0a00_0240 + n), Atom::exact(36, 2, 50_000 + n)])?);
    }
    for n in each() {
        let mut steps: Vec<Step> = atoms.iter().copied().map(Step::from).collect();
        steps[1] = Atom::masked(14, 1, 0xf0, 0x40).into();
        steps.push(Step::Shift(Shift { offset: 14, mask: 0x0f, scale: 2 }));
        steps.push(Atom::exact(16, 2, 60_000 + n).into());
        all.push(Filter::of_steps(&steps)?);
    }
    Ok(all)
}

/// Prints a filter, to show what the storm is made of.
fn show(filter: &Filter) -> Result<(), Error> {
    let mut wire = [0; MAX_WIRE];
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    let mut text = alloc::string::String::new();
    for byte in wire.iter().take(length) {
        text += &alloc::format!("{byte:02x}");
    }
    println!("a shape of the storm: {text}");
    Ok(())
}

fn answer(tag: u32, counts: &Counts, system: &SystemInfo) {
    let Counts { changes, met, crossings, got, strays } = counts;
    let load = |counter: &core::sync::atomic::AtomicU64| counter.load(Relaxed);
    println!(
        "asked {tag:08x} changes={changes} met={met} crossings={crossings} got={got} strays={strays} \
         received={} unclaimed={} overflowed={} transmitted={} refused={} copied={}",
        load(&system.received),
        load(&system.unclaimed),
        load(&system.overflowed),
        load(&system.transmitted),
        load(&system.refused),
        load(&system.copied),
    );
}
