//! Revocation: the whole tree below a capability goes, in bounded steps, whatever its shape
//! and in whichever tables it lies.

use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{DERIVATION_DEPTH, Error, Handle, Rights, Word};
use libos::sys;
use selftest::child::{SHARED, exit, until_done};
use selftest::frames::{read, write};

use crate::capabilities::derive;
use selftest::check::{Outcome, holds, refused, same};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("dropping keeps what was derived", drop_keeps),
    ("revoking reaches through what was dropped", through_dropped),
    ("many children are revoked in steps", wide),
    ("long chains are revoked in steps", deep),
    ("nothing is derived below what is being revoked", marked),
    ("many children are handed up in steps", drop_in_steps),
    ("revoking takes it from another environment", foreign),
];

/// More than are removed in one step.
const MANY: usize = 700;

const SHARING: Rights = Rights::GRANT.with(Rights::INSPECT);

fn is_live(handle: Handle) -> bool {
    selftest::child::status(handle) != Err(Error::BadHandle)
}

/// Room for `count` more capabilities.
fn make_room(bench: &Bench, count: usize) -> Result<(), Error> {
    for _ in 0..count.div_ceil(64) {
        sys::cap_grow(bench.frames.take(SELF, 1)?)?;
    }
    Ok(())
}

fn drop_keeps(_: &mut Bench) -> Outcome {
    let top = derive(SELF, SHARING, 0, 0)?;
    let middle = derive(top, SHARING, 0, 0)?;
    let bottom = derive(middle, SHARING, 0, 0)?;
    sys::cap_drop(middle)?;
    holds("the lowest went with the middle", is_live(bottom) && is_live(top))?;
    sys::cap_drop(bottom)?;
    sys::cap_drop(top)?;
    Ok(())
}

fn through_dropped(_: &mut Bench) -> Outcome {
    let top = derive(SELF, SHARING, 0, 0)?;
    let middle = derive(top, SHARING, 0, 0)?;
    let bottom = derive(middle, SHARING, 0, 0)?;
    let beside = derive(SELF, SHARING, 0, 0)?;
    sys::cap_drop(middle)?;
    sys::cap_revoke(top)?;
    holds("the lowest survived", !is_live(bottom))?;
    holds("the revoked itself went", is_live(top))?;
    holds("a neighbour went", is_live(beside))?;
    sys::cap_drop(top)?;
    sys::cap_drop(beside)?;
    Ok(())
}

/// Revokes `top` and checks that it took more than one step and all are gone.
fn revoke_all(top: Handle, below: &[Handle]) -> Outcome {
    refused(sys::cap_revoke(top), Error::Again)?;
    until_done(|| sys::cap_revoke(top))?;
    holds("some survived", !below.iter().copied().any(is_live))?;
    sys::cap_drop(top)?;
    Ok(())
}

fn wide(bench: &mut Bench) -> Outcome {
    make_room(bench, MANY)?;
    let top = derive(SELF, SHARING, 0, 0)?;
    let below: Result<Vec<_>, _> = (0..MANY).map(|_| derive(top, SHARING, 0, 0)).collect();
    revoke_all(top, &below?)
}

fn deep(_: &mut Bench) -> Outcome {
    let top = derive(SELF, SHARING, 0, 0)?;
    let mut below = Vec::new();
    for _ in 0..11 {
        let mut lowest = top;
        for _ in 0..DERIVATION_DEPTH - 3 {
            lowest = derive(lowest, SHARING, 0, 0)?;
            below.push(lowest);
        }
        below.push(derive(lowest, SHARING, 0, 0)?);
        let deeper = below.last().map(|last| derive(*last, SHARING, 0, 0));
        same("deeper", deeper, Some(Err(Error::TooMuch)))?;
    }
    revoke_all(top, &below)
}

fn marked(_: &mut Bench) -> Outcome {
    let top = derive(SELF, SHARING, 0, 0)?;
    let middle = derive(top, SHARING, 0, 0)?;
    let below: Result<Vec<_>, _> = (0..MANY).map(|_| derive(middle, SHARING, 0, 0)).collect();
    below?;
    refused(sys::cap_revoke(top), Error::Again)?;
    same("derived from it", derive(top, SHARING, 0, 0), Err(Error::WrongState))?;
    same("derived below it", derive(middle, SHARING, 0, 0), Err(Error::WrongState))?;
    refused(sys::cap_grant(top, SELF), Error::WrongState)?;
    until_done(|| sys::cap_revoke(top))?;
    sys::cap_drop(derive(top, SHARING, 0, 0)?)?;
    sys::cap_drop(top)?;
    Ok(())
}

fn drop_in_steps(_: &mut Bench) -> Outcome {
    let top = derive(SELF, SHARING, 0, 0)?;
    let middle = derive(top, SHARING, 0, 0)?;
    let below: Result<Vec<_>, _> = (0..MANY).map(|_| derive(middle, SHARING, 0, 0)).collect();
    let below = below?;
    refused(sys::cap_drop(middle), Error::Again)?;
    until_done(|| sys::cap_drop(middle))?;
    holds("dropping took some along", below.iter().copied().all(is_live))?;
    revoke_all(top, &below)
}

/// Uses the handle in slot `index` until it is refused; says so on the shared page.
extern "C" fn uses(index: u64) -> ! {
    let handle = Handle::first(index as u32);
    let mut status = [0_u8; exo_abi::EnvStatus::BYTES];
    let at = exo_abi::UserPtr(status.as_mut_ptr().expose_provenance() as u64);
    loop {
        match sys::env_status(handle, at) {
            Ok(_) => write(SHARED, 0, read(SHARED, 0) + 1),
            Err(error) => exit(error.code()),
        }
        let _ = sys::slice_yield();
    }
}

fn foreign(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let child = bench.maker.child()?;
    child.share(page)?;
    let top = derive(SELF, SHARING, 0, 0)?;
    let handle = Handle::from_word(sys::cap_grant(top, child.env)?)?;
    child.start(uses, u64::from(handle.index()))?;
    while read(window, 0) == 0 {
        sys::slice_yield()?;
    }
    sys::cap_revoke(top)?;
    let status = child.wait(PATIENCE)?;
    let code = status.map(|status| status.code);
    same("the child's answer", code, Some(Error::BadHandle.code()))?;
    child.destroy()?;
    sys::cap_drop(top)?;
    bench.frames.drop_page(window, page)?;
    Ok(())
}
