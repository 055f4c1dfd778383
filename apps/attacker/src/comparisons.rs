//! Filters that are hard to sort with: many that differ in which bits of a field they ask for,
//! so that a packet has to try them all. Ring 0 is not interrupted, so there must be an end.

use alloc::vec::Vec;

use dpf::{Atom, Filter, KEY_WIRE, Step, encode_keys};
use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, Pfn, UserPtr, Word};
use libos::sys;
use selftest::child::until_done;

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::nic::Nic;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "have every packet try hundreds of filters", run: install },
    Attack { name: "have every packet try hundreds of scopes", run: scopes },
    Attack { name: "make scopes for ever deeper", run: deep },
    Attack { name: "make a scope of what is no key", run: no_keys },
];

/// Most ways that an attack tries to make.
const WAYS: u16 = 300;

/// Makes a scope within `net`.
pub(crate) fn narrowed(net: Handle, keys: &[Filter], object: Pfn) -> Result<Handle, Error> {
    let mut wire = [0; 2 * KEY_WIRE];
    let length = encode_keys(keys, &mut wire).ok_or(Error::TooMuch)?;
    narrowed_by(net, wire.get(..length).unwrap_or_default(), object)
}

/// The same from what claims to be encoded keys.
fn narrowed_by(net: Handle, wire: &[u8], object: Pfn) -> Result<Handle, Error> {
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    let answer = sys::net_scope(net, at, wire.len() as u64, object, object.plus(1));
    Handle::from_word(answer?)
}

/// Takes a scope away that was made in `object`.
pub(crate) fn unscope(attacker: &Attacker, object: Pfn) -> Result<(), Error> {
    until_done(|| sys::net_unscope(object))?;
    attacker.frames.give(object, 2)
}

/// Makes as many as it may, and takes them away. How many, and why no more.
fn many(
    attacker: &Attacker,
    make: impl Fn(u16, Pfn) -> Result<u64, Error>,
    unmake: impl Fn(Pfn) -> Result<(), Error>,
) -> Attempt {
    let mut made = Vec::with_capacity(WAYS.into());
    let mut refusal = None;
    while refusal.is_none() && made.len() < WAYS.into() {
        let object = attacker.frames.take(SELF, 2)?;
        match make(made.len() as u16, object) {
            Ok(_) => made.push(object),
            Err(error) => {
                attacker.frames.give(object, 2)?;
                refusal = Some(error);
            }
        }
    }
    let count = made.len();
    for object in made {
        unmake(object)?;
    }
    let bounded = refusal == Some(Error::TooMuch) && count > 0;
    Ok(Verdict::harmless(bounded, alloc::format!("{refusal:?} after {count}")))
}

fn install(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    many(
        attacker,
        |number, object| nic.install(&nic.odd_filter(6000 + number), object),
        |object| {
            sys::filter_remove(nic.binding, object)?;
            attacker.frames.give(object, 2)
        },
    )
}

/// One UDP port of the attacker's, and of the sender's station another bit or two each.
pub(crate) fn odd_key(nic: &Nic, number: u16) -> Result<Filter, Error> {
    let mask = Step::Atom(Atom::masked(6, 2, u64::from(number) + 1, 0));
    let port = nic.harmless_filter(7000 + number);
    let steps: Vec<_> = port.steps().chain([mask]).collect();
    Filter::of_steps(&steps).map_err(|_| Error::BadFilter)
}

fn scopes(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let make = |number, object| {
        let net = narrowed(nic.net, &[odd_key(nic, number)?], object)?;
        sys::cap_drop(net)
    };
    many(attacker, make, |object| unscope(attacker, object))
}

fn deep(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let key = [nic.harmless_filter(7000)];
    let (mut net, mut all) = (nic.net, Vec::new());
    let refusal = loop {
        let object = attacker.frames.take(SELF, 2)?;
        match narrowed(net, &key, object) {
            Ok(inner) => {
                net = inner;
                all.push(object);
            }
            Err(error) => {
                attacker.frames.give(object, 2)?;
                break error;
            }
        }
    };
    let depth = all.len();
    let (first, rest) = all.split_first().ok_or(refusal)?;
    unscope(attacker, *first)?;
    for object in rest {
        attacker.frames.give(*object, 2)?;
    }
    let bounded = refusal == Error::TooMuch && depth < 64;
    Ok(Verdict::harmless(bounded, alloc::format!("{refusal:?} after {depth}")))
}

/// A key that pins nothing, ones that say what a bit is that they do not pin, and pieces of keys.
fn no_keys(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let mut own = [0; KEY_WIRE];
    encode_keys(&[nic.harmless_filter(7000)], &mut own).ok_or(Error::BadFilter)?;
    let values = own.len() / 2;
    let mut none = Vec::from([Vec::new(), [0; KEY_WIRE].to_vec()]);
    none.extend([1, 8, KEY_WIRE - 1].map(|length| own[..length].to_vec()));
    none.push([&own[..], &[0]].concat());
    for bit in (0..8 * values).filter(|bit| own[bit / 8] >> (bit % 8) & 1 == 0) {
        let mut stray = own.to_vec();
        stray[values + bit / 8] ^= 1 << (bit % 8);
        none.push(stray);
    }
    let object = attacker.frames.take(SELF, 2)?;
    let answers: Vec<_> =
        none.iter().map(|key| narrowed_by(nic.net, key, object).map(Word::into_word)).collect();
    attacker.frames.give(object, 2)?;
    Ok(Verdict::every(answers.into_iter(), &[Error::BadFilter]))
}
