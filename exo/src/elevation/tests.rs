//! How long a capability lasts, and which one pays for a stretch. What the processor does is tested on the
//! machine (`tests/s88_elevation.rs`).

use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{Allowance, Error, Handle, Lowered, Rights, Upcall, Word};

use super::processor::{GATE, NOW};
use super::{look, selectors};
use crate::capability::{self, CapRef, Kind, Object};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::state::context::{Context, KERNEL_CODE, USER_CODE};
use crate::testing::{Reply, call, machine, reply};

const FALLBACK: u64 = 0x40_1000;

/// A machine, and a capability of its environment for `allowance`.
fn with(allowance: Allowance) -> (&'static Kernel, &'static Env, Handle) {
    let (kernel, env) = machine();
    NOW.set(1000);
    let Allowance { cores, stretch, total } = allowance;
    let object = Object { badge: total, ..Object::range(Kind::Elevation, cores, stretch) };
    let rights = Rights::CONTROL.with(Rights::CALL).with(Rights::GRANT);
    let handle =
        capability::insert(&kernel.frames, &env.capabilities, object, rights, CapRef::NONE)
            .expect("room in the table");
    env.area().expect("a U-area").elevation.fallback.store(FALLBACK, Relaxed);
    (kernel, env, handle)
}

fn some() -> Allowance {
    Allowance { cores: 1, stretch: 100, total: 250 }
}

/// Elevates, or stays so: until when.
fn elevate(kernel: &Kernel, env: &'static Env, handle: Handle) -> Result<u64, Error> {
    match reply(kernel, env, "elevate", &[handle.into_word()]) {
        Reply::Resume(until) => Ok(until),
        Reply::Done(result) => result,
        _ => panic!("elevate goes elsewhere"),
    }
}

fn lower(kernel: &Kernel, env: &'static Env) {
    assert!(matches!(reply(kernel, env, "lower", &[]), Reply::Resume(0)));
}

fn derive(
    kernel: &Kernel,
    env: &'static Env,
    from: Handle,
    allowance: Allowance,
) -> Result<Handle, Error> {
    let (first, count) = allowance.into_words();
    let rights = Rights::CONTROL.with(Rights::GRANT).into_word();
    call(kernel, env, "cap_derive", &[from.into_word(), rights, first, count])
        .and_then(Handle::from_word)
}

#[test]
fn time_is_taken_first_and_given_back() {
    let (kernel, env, handle) = with(some());
    assert_eq!(elevate(kernel, env, handle), Ok(1100));
    assert_eq!(selectors(env).0, KERNEL_CODE);
    NOW.set(1010);
    lower(kernel, env);
    assert_eq!(selectors(env).0, USER_CODE);
    // 240 are left: two whole stretches and part of one.
    for until in [1110, 1210, 1250] {
        assert_eq!(elevate(kernel, env, handle), Ok(until));
        NOW.set(until);
        lower(kernel, env);
    }
    assert_eq!(elevate(kernel, env, handle), Err(Error::OutOfRange));
    assert!(!env.elevated.is_set());
    let area = &env.area().expect("a U-area").elevation;
    assert_eq!((area.count.load(Relaxed), area.ticks.load(Relaxed)), (4, 250));
    assert_eq!(kernel.info.elevated.load(Relaxed), 250);
}

#[test]
fn what_is_renewed_is_not_paid_for_twice() {
    let (kernel, env, handle) = with(some());
    for now in (1000..1150).step_by(10) {
        NOW.set(now);
        assert_eq!(elevate(kernel, env, handle), Ok(now + 100));
    }
    NOW.set(1150);
    assert_eq!(elevate(kernel, env, handle), Ok(1250));
    // Refused, and the stretch goes on.
    NOW.set(1249);
    assert_eq!(elevate(kernel, env, handle), Err(Error::OutOfRange));
    assert!(env.elevated.is_set());
}

#[test]
fn copies_share_the_time_of_what_they_come_from() {
    let (kernel, env, handle) = with(some());
    let copies = [0; 3].map(|_| derive(kernel, env, handle, some()).expect("a copy"));
    for (copy, until) in copies.into_iter().zip([1100, 1200, 1250]) {
        assert_eq!(elevate(kernel, env, copy), Ok(until));
        NOW.set(until);
        lower(kernel, env);
    }
    for handle in copies.into_iter().chain([handle]) {
        assert_eq!(elevate(kernel, env, handle), Err(Error::OutOfRange));
    }
}

#[test]
fn what_is_dropped_in_ring_0_gives_nothing_back() {
    let (kernel, env, handle) = with(some());
    let copy = derive(kernel, env, handle, some()).expect("a copy");
    assert_eq!(elevate(kernel, env, copy), Ok(1100));
    call(kernel, env, "cap_drop", &[copy.into_word()]).expect("dropped");
    let mut state = Context::at(0x40_0000, 0x50_0000, 0x202);
    NOW.set(1001);
    look(kernel, env, &mut state);
    assert!(!env.elevated.is_set());
    assert_eq!(kernel.info.lowered[Lowered::Revoked as usize].load(Relaxed), 1);
    assert_eq!(elevate(kernel, env, handle), Ok(1101));
    NOW.set(1101);
    lower(kernel, env);
    assert_eq!(elevate(kernel, env, handle), Ok(1151));
}

#[test]
fn the_end_of_a_stretch_is_seen_wherever_the_code_is() {
    for (at, goes_on) in [(0x40_0000, 0x40_0000), (GATE, FALLBACK), (GATE + 1, GATE + 1)] {
        let (kernel, env, handle) = with(some());
        let area = env.area().expect("a U-area");
        area.upcall.wanted.store(Upcall::Lowered as u32, Relaxed);
        assert_eq!(elevate(kernel, env, handle), Ok(1100));
        assert_eq!(area.elevation.call.load(Relaxed), GATE);
        let mut state = Context::at(at, 0x50_0000, 0x202);
        NOW.set(1099);
        look(kernel, env, &mut state);
        assert!(env.elevated.is_set());
        assert_eq!((state.rip, env.pending.get()), (at, 0));
        NOW.set(1100);
        look(kernel, env, &mut state);
        assert!(!env.elevated.is_set());
        assert_eq!((state.rip, env.pending.get()), (goes_on, Upcall::Lowered as u32));
        assert_eq!(area.elevation.call.load(Relaxed), FALLBACK);
        assert_eq!(area.elevation.why.load(Relaxed), Lowered::Deadline as u64);
    }
}

#[test]
fn more_cannot_be_derived() {
    let (kernel, env, handle) = with(some());
    for more in [
        Allowance { cores: 2, ..some() },
        Allowance { stretch: 101, ..some() },
        Allowance { total: 251, ..some() },
    ] {
        assert_eq!(derive(kernel, env, handle, more), Err(Error::OutOfRange));
    }
    let elsewhere = Allowance { cores: 0, ..some() };
    let elsewhere = derive(kernel, env, handle, elsewhere).expect("less");
    assert_eq!(elevate(kernel, env, elsewhere), Err(Error::OutOfRange));
}

#[test]
fn ring_0_is_for_its_capability_alone() {
    let (kernel, env, handle) = with(some());
    assert_eq!(elevate(kernel, env, Handle::first(0)), Err(Error::BadHandle));
    assert_eq!(elevate(kernel, env, Handle::NONE), Err(Error::BadHandle));
    assert_eq!(call(kernel, env, "lower", &[]), Err(Error::WrongState));
    let (first, count) = some().into_words();
    let rights = Rights::GRANT.into_word();
    let idle = call(kernel, env, "cap_derive", &[handle.into_word(), rights, first, count]);
    let idle = idle.and_then(Handle::from_word).expect("less");
    assert_eq!(elevate(kernel, env, idle), Err(Error::NoRight));
}
