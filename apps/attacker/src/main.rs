//! Attacks the kernel and the neighbours from ring 3.
//!
//! An ordinary application with frames, a console and a network address. It tries
//! what it must not be able to do, and prints for each attempt what the kernel
//! said. A child environment makes any attempt that would end the application, and its death
//! is then examined. The attacks are in tables, a file for each family; an attack that is
//! refused for another reason than the one it is meant to meet counts as a breach, since it
//! may have tested nothing. One that needs another machine is not tried, and counted apart.
//!
//! Arguments: `then=spin` never gives the processor back when all attacks are
//! done; `only=FAMILY` or `only=FAMILY+FAMILY` runs some; `as=orphan` leaves a running child behind,
//! which holds on to the attacker's memory; `as=lingerer` tries to keep the processor
//! after frames that a host outside must send; `as=scribbler` writes over its requests while a
//! store on another processor reads them; `as=flooder`, `as=hoarder`, `as=sleeper` and
//! `as=stormer` press their neighbours without breaking a rule.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod attack;
#[cfg(exo_guest)]
mod batches;
#[cfg(exo_guest)]
mod claims;
#[cfg(exo_guest)]
mod clients;
#[cfg(exo_guest)]
mod comparisons;
#[cfg(exo_guest)]
mod cores;
#[cfg(exo_guest)]
mod disk;
#[cfg(exo_guest)]
mod doorbells;
#[cfg(exo_guest)]
mod elevation;
#[cfg(exo_guest)]
mod environments;
#[cfg(exo_guest)]
mod exceptions;
#[cfg(exo_guest)]
mod exhaustion;
#[cfg(exo_guest)]
mod frames;
#[cfg(exo_guest)]
mod gates;
#[cfg(exo_guest)]
mod grants;
#[cfg(exo_guest)]
mod handles;
#[cfg(exo_guest)]
mod instructions;
#[cfg(exo_guest)]
mod keys;
#[cfg(exo_guest)]
mod large_pages;
#[cfg(exo_guest)]
mod linger;
#[cfg(exo_guest)]
mod mappings;
#[cfg(exo_guest)]
mod memory;
#[cfg(exo_guest)]
mod nic;
#[cfg(exo_guest)]
mod noise;
#[cfg(exo_guest)]
mod orphan;
#[cfg(exo_guest)]
mod pointers;
#[cfg(exo_guest)]
mod predicates;
#[cfg(exo_guest)]
mod pressure;
#[cfg(exo_guest)]
mod repossession;
#[cfg(exo_guest)]
mod rings;
#[cfg(exo_guest)]
mod senders;
#[cfg(exo_guest)]
mod storm;
#[cfg(exo_guest)]
mod time;
#[cfg(exo_guest)]
mod transfers;
#[cfg(exo_guest)]
mod upcalls;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::println;
    use libos::runtime::Environment;

    use crate::attack::{Attack, Attacker, Outcome, Verdict};
    use crate::{
        batches, claims, clients, comparisons, cores, disk, doorbells, elevation, environments,
        exceptions, exhaustion, frames, gates, grants, handles, instructions, keys, large_pages,
        linger, mappings, memory, noise, orphan, pointers, predicates, pressure, repossession,
        rings, senders, storm, time, transfers, upcalls,
    };

    /// Families in order, with the name that `only=` takes.
    const FAMILIES: &[(&str, &[Attack])] = &[
        ("memory", memory::ATTACKS),
        ("instructions", instructions::ATTACKS),
        ("frames", frames::ATTACKS),
        ("mappings", mappings::ATTACKS),
        ("handles", handles::ATTACKS),
        ("environments", environments::ATTACKS),
        ("pointers", pointers::ATTACKS),
        ("claims", claims::ATTACKS),
        ("senders", senders::ATTACKS),
        ("rings", rings::ATTACKS),
        ("disk", disk::ATTACKS),
        ("exhaustion", exhaustion::ATTACKS),
        ("time", time::ATTACKS),
        ("upcalls", upcalls::ATTACKS),
        ("transfers", transfers::ATTACKS),
        ("grants", grants::ATTACKS),
        ("doorbells", doorbells::ATTACKS),
        ("batches", batches::ATTACKS),
        ("predicates", predicates::ATTACKS),
        ("repossession", repossession::ATTACKS),
        ("large", large_pages::ATTACKS),
        ("cores", cores::ATTACKS),
        ("exceptions", exceptions::ATTACKS),
        ("elevation", elevation::ATTACKS),
        ("keys", keys::ATTACKS),
        ("clients", clients::ATTACKS),
        ("gates", gates::ATTACKS),
        ("noise", noise::ATTACKS),
        // Leaves handles behind, which others would find by guessing.
        ("comparisons", comparisons::ATTACKS),
    ];

    pub(crate) fn main(environment: Environment) -> u64 {
        let then_spin = environment.argument("then") == Some("spin");
        let role = environment.argument("as");
        let only = environment.argument("only");
        let mut attacker = match Attacker::new(environment) {
            Ok(attacker) => attacker,
            Err(error) => {
                println!("cannot set up: {error}");
                return 1;
            }
        };
        match role {
            Some("orphan") => return report("no orphan", orphan::leave_behind(attacker)),
            Some("lingerer") => {
                let verdict = linger::attempt(&mut attacker).unwrap_or_else(Verdict::not_set_up);
                println!("01 outstay a slice after a long sleep: {verdict}");
                return report("cannot clean up", attacker.close());
            }
            Some("flooder") => return report("no flood", pressure::flood(&mut attacker)),
            Some("sleeper") => return report("no sleep", pressure::sleep()),
            Some("hoarder") => return report("no hoard", pressure::hoard(&mut attacker)),
            Some("scribbler") => return report("no scribble", clients::scribble(&mut attacker)),
            Some("stormer") => return report("no storm", storm::storm(&mut attacker)),
            _ => {}
        }
        let (mut count, mut not_tried, mut breaches) = (0, 0, 0);
        let mut number = 0;
        for (family, attacks) in FAMILIES {
            for attack in *attacks {
                number += 1;
                if only.is_some_and(|only| !only.split('+').any(|only| only == *family)) {
                    continue;
                }
                let verdict = (attack.run)(&mut attacker).unwrap_or_else(Verdict::not_set_up);
                println!("{number:02} {}: {verdict}", attack.name);
                count += 1;
                not_tried += u64::from(verdict.outcome == Outcome::NotTried);
                breaches += u64::from(verdict.outcome == Outcome::Breach);
            }
        }
        println!("done, {count} attacks, {not_tried} not tried, {breaches} breaches");
        if then_spin {
            loop {
                core::hint::spin_loop();
            }
        }
        breaches.max(report("cannot clean up", attacker.close()))
    }

    /// Exit code for a result that should be none.
    fn report(what: &str, result: Result<(), exo_abi::Error>) -> u64 {
        let Err(error) = result else { return 0 };
        println!("{what}: {error}");
        1
    }
}

#[cfg(not(exo_guest))]
use {dpf as _, exo_abi as _, kvstore_local as _, selftest as _};
