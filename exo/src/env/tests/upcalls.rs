//! Upcalls and doorbells: what is written where, and when nothing is.

use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{EVENT_RING_WORDS, Error, Rights, Upcall, UpcallArea, Word};

use super::super::upcall;
use crate::env::{Context, Env};
use crate::testing::{call, child, machine};

const ENTRY: u64 = 0x40_2000;
const STACK: u64 = 0x60_0000;
const FLAGS: u64 = 0x24_0fd7;

fn wants(env: &Env, wanted: u32) -> &'static UpcallArea {
    let area = &env.area().expect("a U-area").upcall;
    area.entry.store(ENTRY, Relaxed);
    area.stack.store(STACK, Relaxed);
    area.wanted.store(wanted, Relaxed);
    area
}

fn state() -> Context {
    Context {
        rdi: 5,
        rsi: 6,
        rax: 7,
        vector: 14,
        error: 4,
        ..Context::at(0x40_0123, 0x5123, FLAGS)
    }
}

#[test]
fn four_registers_change_and_are_kept() {
    let (_, root) = machine();
    let area = wants(root, Upcall::SliceEnd as u32);
    let mut now = state();
    assert!(upcall::make(root, &mut now, Upcall::SliceEnd));
    assert_eq!((now.rip, now.rsp, now.rdi), (ENTRY, STACK, Upcall::SliceEnd as u64));
    assert_eq!(now.flags, FLAGS & !(1 << 8 | 1 << 10 | 1 << 18));
    assert_eq!((now.rsi, now.rax), (6, 7));
    let saved = [&area.rip, &area.rsp, &area.flags, &area.rdi].map(|word| word.load(Relaxed));
    assert_eq!(saved, [0x40_0123, 0x5123, FLAGS, 5]);
    assert_eq!(area.masked.load(Relaxed), 1);
    now.rip += 1;
    assert!(!upcall::make(root, &mut now, Upcall::SliceEnd), "masked");
    assert_eq!((now.rip, area.rip.load(Relaxed)), (ENTRY + 1, 0x40_0123), "nothing was touched");
}

#[test]
fn nothing_leads_out_of_user_space() {
    let (_, root) = machine();
    let area = wants(root, u32::MAX);
    for entry in [0, 1 << 47, 0xffff_ffff_8020_0000, u64::MAX] {
        area.entry.store(entry, Relaxed);
        let mut now = state();
        assert!(!upcall::make(root, &mut now, Upcall::SliceEnd), "{entry:#x}");
        assert_eq!((now.rip, now.rsp), (0x40_0123, 0x5123));
        assert_eq!(area.masked.load(Relaxed), 0);
    }
}

#[test]
fn only_what_is_wanted_comes_and_waits_while_masked() {
    let (_, root) = machine();
    let area = wants(root, Upcall::SliceBegin as u32);
    let mut now = state();
    assert!(!upcall::make(root, &mut now, Upcall::SliceEnd));
    root.context().set(state());
    area.masked.store(1, Relaxed);
    upcall::expect_begin(root);
    upcall::make_pending(root);
    assert_eq!(root.context().get().rip, 0x40_0123, "masked");
    area.masked.store(0, Relaxed);
    upcall::make_pending(root);
    assert_eq!(root.context().get().rip, ENTRY);
    assert_eq!(root.context().get().rdi, Upcall::SliceBegin as u64);
    assert_eq!(root.pending.get(), 0);
}

#[test]
fn a_doorbell_rings_at_its_owner_until_the_ring_is_full() {
    let (kernel, root) = machine();
    let (visitor, handle) = child(kernel, root, 600);
    let bell = call(kernel, root, "doorbell_create", &[]).expect("room");
    let marked = call(kernel, root, "cap_badge", &[bell, 77]).expect("room");
    let theirs = call(kernel, root, "cap_grant", &[marked, handle]).expect("room");
    let ring = &root.area().expect("a U-area").ring;
    let events = root.events.get();
    for _ in 0..EVENT_RING_WORDS + 5 {
        assert_eq!(call(kernel, visitor, "doorbell_ring", &[theirs]), Ok(0));
    }
    assert_eq!(ring.produced.load(Relaxed), EVENT_RING_WORDS);
    assert_eq!(ring.lost.load(Relaxed), 5);
    assert!(ring.badges.iter().all(|badge| badge.load(Relaxed) == 77));
    assert_eq!(root.events.get(), events + u64::from(EVENT_RING_WORDS) + 5);
    ring.consumed.store(1, Relaxed);
    call(kernel, root, "doorbell_ring", &[bell]).expect("its own doorbell");
    assert_eq!((ring.badges[0].load(Relaxed), ring.lost.load(Relaxed)), (0, 5));
    // What the application writes leads only itself astray.
    ring.consumed.store(u32::MAX, Relaxed);
    ring.produced.store(12345, Relaxed);
    call(kernel, visitor, "doorbell_ring", &[theirs]).expect("rung");
    let mute = call(kernel, root, "cap_derive", &[bell, Rights::GRANT.into_word(), 0, 0]).unwrap();
    assert_eq!(call(kernel, root, "doorbell_ring", &[mute]), Err(Error::NoRight));
    let entry = call(kernel, root, "entry_create", &[0, ENTRY, STACK]).expect("room");
    assert_eq!(call(kernel, root, "doorbell_ring", &[entry]), Err(Error::BadHandle));
}

/// Its U-area's frame is given back before its object: by then it may be another's.
#[test]
fn nothing_rings_at_one_that_is_being_destroyed() {
    let (kernel, root) = machine();
    let (owner, handle) = child(kernel, root, 600);
    let known = call(kernel, root, "cap_grant", &[handle, handle]).expect("room");
    let bell = call(kernel, owner, "doorbell_create", &[]).expect("room");
    let (visitor, other) = child(kernel, root, 700);
    let others = call(kernel, root, "cap_grant", &[other, handle]).expect("room");
    let theirs = call(kernel, owner, "cap_grant", &[bell, others]).expect("room");
    let ring = || call(kernel, visitor, "doorbell_ring", &[theirs]);
    assert_eq!(ring(), Ok(0));
    while call(kernel, root, "env_destroy", &[handle]) == Err(Error::Again) {
        assert_eq!(ring(), Err(Error::WrongState));
    }
    assert_eq!(ring(), Err(Error::BadHandle));
    let _ = known;
}
