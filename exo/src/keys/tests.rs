//! Which code is admitted, what may be mapped beside pages with a key, and what the kernel itself does not
//! do behind one. What the processor does is tried on the machine (`apps/attacker`).

use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{
    CLOSED, EnvId, EnvState, EnvStatus, Error, FRAME_BYTES, FrameKind, GATE_BYTES, Handle, KEYS,
    Pfn, Rights, UserPtr, Word, gate, opened,
};
use proptest::prelude::*;

use super::processor::RIGHTS;
use crate::capability::{self, CapRef, Kind, Object};
use crate::env::{self, Env, upcall};
use crate::kernel::Kernel;
use crate::memory;
use crate::paging::text::{WRPKRU, is_harmless};
use crate::state::context::Context;
use crate::testing::{ALL_FRAMES, OWN, call, child, machine, tables};
use crate::user::UserSlice;

const PAGE: usize = FRAME_BYTES as usize;
/// Where the tests map.
const AT: u64 = 0x40_0000;
const READ: u64 = 0;
const WRITE: u64 = 1;
const EXECUTE: u64 = 2;

/// A machine, an environment that takes part, with page tables around [`AT`], and root's handle
/// for it.
fn guarded() -> (&'static Kernel, &'static Env, &'static Env, u64) {
    let (kernel, root) = machine();
    let (env, handle) = child(kernel, root, 700);
    assert_eq!(call(kernel, root, "env_guard", &[handle]), Ok(0));
    tables(kernel, root, handle, AT, 710);
    (kernel, root, env, handle)
}

/// Takes `frame` for the environment of `handle`, with `bytes` at `at`.
fn fill(kernel: &Kernel, root: &'static Env, handle: u64, frame: u32, (at, bytes): (usize, &[u8])) {
    call(kernel, root, "frames_take", &[ALL_FRAMES, handle, frame.into(), 1]).expect("free");
    let place = memory::frame(Pfn(frame)).wrapping_add(at);
    assert!(at + bytes.len() <= PAGE);
    // SAFETY: inside a frame of simulated memory.
    unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// Root's capability for the keys from `first` on.
fn keys(kernel: &Kernel, root: &Env, first: u32, count: u32, rights: Rights) -> u64 {
    let object = Object::range(Kind::Keys, first, count);
    capability::insert(&kernel.frames, &root.capabilities, object, rights, CapRef::NONE)
        .map(Word::into_word)
        .expect("room")
}

#[test]
fn code_is_admitted_with_gates_of_keys_that_are_held() {
    let (kernel, root, _, env) = guarded();
    let held = keys(kernel, root, 3, 2, Rights::ALL);
    let none = Handle::NONE.into_word();
    let weak = keys(kernel, root, 3, 2, Rights::GRANT);
    let long = [WRPKRU.as_slice(), &[0x90; 9]].concat();
    /// Bytes, where in their page, the keys named, and what comes of it.
    type Case<'a> = (&'a [u8], usize, u64, Result<u64, Error>);
    let cases: &[Case<'_>] = &[
        (&[], 0, none, Ok(0)),
        (&gate(CLOSED), 0, none, Ok(0)),
        (&gate(CLOSED), PAGE - GATE_BYTES, none, Ok(0)),
        (&gate(CLOSED)[..GATE_BYTES - 1], PAGE - GATE_BYTES + 1, none, Err(Error::NoRight)),
        (&WRPKRU, PAGE - 3, held, Err(Error::NoRight)),
        (&WRPKRU[..2], PAGE - 2, none, Ok(0)),
        (&long, 77, held, Err(Error::NoRight)),
        (&gate(opened(3)), 77, held, Ok(0)),
        (&gate(opened(4)), 77, held, Ok(0)),
        (&gate(opened(5)), 77, held, Err(Error::NoRight)),
        (&gate(opened(3)), 77, none, Err(Error::NoRight)),
        (&gate(opened(3)), 77, weak, Err(Error::NoRight)),
        (&gate(opened(3) & opened(4)), 77, held, Err(Error::NoRight)),
        (&gate(0), 77, held, Err(Error::NoRight)),
        (&[], 0, OWN, Ok(0)),
        (&gate(opened(3)), 77, OWN, Err(Error::NoRight)),
        (&gate(opened(3)), 77, ALL_FRAMES, Err(Error::NoRight)),
    ];
    for (number, (bytes, at, keys, wanted)) in (800..).zip(cases) {
        fill(kernel, root, env, number, (*at, bytes));
        let admitted = call(kernel, root, "code_admit", &[env, number.into(), *keys]);
        assert_eq!(admitted, *wanted, "{number}: {bytes:x?} at {at}");
        let kind = if wanted.is_ok() { FrameKind::Text } else { FrameKind::Memory };
        assert_eq!(kernel.frames.kind(Pfn(number)), Some(kind), "{number}");
    }
    let used = [call(kernel, root, "code_admit", &[env, 800, none]), {
        fill(kernel, root, env, 900, (0, &[]));
        call(kernel, root, "map", &[env, env, 900, AT, 1, READ]).expect("mapped");
        call(kernel, root, "code_admit", &[env, 900, none])
    }];
    assert_eq!(used, [Err(Error::NotOwned), Err(Error::InUse)]);
}

#[test]
fn only_admitted_code_is_executable_and_it_is_never_writable() {
    let (kernel, root, _, env) = guarded();
    let none = Handle::NONE.into_word();
    fill(kernel, root, env, 800, (0, &[0x90]));
    let map = |frame: u64, page: u64, how: u64| {
        call(kernel, root, "map", &[env, env, frame, AT + 0x1000 * page, 1, how])
    };
    assert_eq!(map(800, 0, EXECUTE), Err(Error::NoRight));
    assert_eq!(map(703, 0, EXECUTE), Err(Error::NoRight), "its U-area");
    call(kernel, root, "code_admit", &[env, 800, none]).expect("harmless");
    assert_eq!(map(800, 0, WRITE), Err(Error::NoRight));
    assert_eq!((map(800, 0, EXECUTE), map(800, 1, READ)), (Ok(0), Ok(0)));
    // Nor in an environment that takes no part.
    tables(kernel, root, OWN, AT, 610);
    assert_eq!(call(kernel, root, "map", &[OWN, env, 800, AT, 1, WRITE]), Err(Error::NoRight));
    assert_eq!(call(kernel, root, "map", &[OWN, env, 800, AT, 1, EXECUTE]), Ok(0));
    // Nor is it memory for anything else.
    assert_eq!(call(kernel, root, "cap_grow", &[800]), Err(Error::NotOwned));
    // Its owner may give it back, when it is mapped nowhere: then it is a free frame.
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 801, 1]).expect("free");
    call(kernel, root, "code_admit", &[OWN, 801, none]).expect("zeros");
    call(kernel, root, "map", &[OWN, OWN, 801, AT + 0x1000, 1, READ]).expect("mapped");
    assert_eq!(call(kernel, root, "frames_free", &[801, 1]), Err(Error::InUse));
    call(kernel, root, "unmap", &[OWN, AT + 0x1000, 1]).expect("there");
    assert_eq!(call(kernel, root, "frames_free", &[800, 2]), Err(Error::NotOwned), "of two owners");
    assert_eq!(call(kernel, root, "frames_free", &[801, 1]), Ok(0));
    assert_eq!(kernel.frames.kind(Pfn(801)), Some(FrameKind::Free));
}

#[test]
fn a_seam_hides_nothing() {
    for split in 1..3 {
        for order in [[0, 1], [1, 0]] {
            let (kernel, root, _, env) = guarded();
            fill(kernel, root, env, 800, (PAGE - split, &WRPKRU[..split]));
            fill(kernel, root, env, 801, (0, &WRPKRU[split..]));
            let mut results = order.map(|page: u64| {
                let frame = 800 + page;
                let none = Handle::NONE.into_word();
                call(kernel, root, "code_admit", &[env, frame, none]).expect("half of it");
                call(kernel, root, "map", &[env, env, frame, AT + 0x1000 * page, 1, EXECUTE])
            });
            assert_eq!(results, [Ok(0), Err(Error::NoRight)], "{split} {order:?}");
            // Elsewhere, and the other way round, they are harmless.
            for (place, page) in results.iter_mut().zip([3, 4]) {
                // 801 before 800.
                let frame = 804 - page;
                *place = call(kernel, root, "map", &[env, env, frame, AT + 0x1000 * page, 1, 2]);
            }
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
    }
}

#[test]
fn keys_are_for_those_that_take_part() {
    let (kernel, root, _, env) = guarded();
    fill(kernel, root, env, 800, (0, &[]));
    let map = |space: u64, how: u64, key: u32| {
        call(kernel, root, "map_keyed", &[space, env, 800, AT, how, key.into()])
    };
    tables(kernel, root, OWN, AT, 610);
    assert_eq!(map(OWN, WRITE, 1), Err(Error::WrongState));
    for key in [0, KEYS, 17, u32::MAX] {
        assert_eq!(map(env, WRITE, key), Err(Error::BadArgument), "{key}");
    }
    assert_eq!(map(env, EXECUTE, 1), Err(Error::BadArgument));
    assert_eq!(map(env, WRITE, 15), Ok(0));
    // One that maps something, or runs, does not begin to.
    assert_eq!(call(kernel, root, "env_guard", &[env]), Err(Error::WrongState));
    assert_eq!(call(kernel, root, "env_guard", &[OWN]), Err(Error::NoRight));
    let (_, other) = child(kernel, root, 720);
    call(kernel, root, "env_start", &[other, AT, AT, 0]).expect("started");
    assert_eq!(call(kernel, root, "env_guard", &[other]), Err(Error::WrongState));
}

/// Or else code behind a gate would run on pages that its client has put in the place of the domain's.
#[test]
fn what_another_has_mapped_behind_a_key_or_as_code_stays() {
    let (kernel, root, client, env) = guarded();
    let (store, held) = child(kernel, root, 740);
    let none = Handle::NONE.into_word();
    // The domain's memory and code, and the client's own of both kinds, and memory in common.
    for (owner, frame) in [(held, 800), (held, 801), (env, 802), (env, 803), (held, 804)] {
        fill(kernel, root, owner, frame, (0, &[]));
    }
    for (owner, frame) in [(held, 801), (env, 803)] {
        call(kernel, root, "code_admit", &[owner, frame, none]).expect("zeros");
    }
    let keyed = |owner, frame, page: u64| {
        let words = [env, owner, frame, AT + 0x1000 * page, WRITE, 3];
        call(kernel, root, "map_keyed", &words).expect("mapped");
    };
    let map = |owner, frame, page: u64, how| {
        let words = [env, owner, frame, AT + 0x1000 * page, 1, how];
        call(kernel, root, "map", &words).expect("mapped");
    };
    keyed(held, 800, 0);
    map(held, 801, 1, EXECUTE);
    keyed(env, 802, 2);
    map(env, 803, 3, EXECUTE);
    map(held, 804, 4, WRITE);
    let unmap = |by: &'static Env, space, page: u64, count| {
        call(kernel, by, "unmap", &[space, AT + 0x1000 * page, count])
    };
    for by in [client, root] {
        let space = if by.id() == root.id() { env } else { OWN };
        for (page, count) in [(0, 1), (1, 1), (0, 2), (1, 3), (0, 5)] {
            assert_eq!(unmap(by, space, page, count), Err(Error::NoRight), "{page} {count}");
        }
    }
    assert_eq!(kernel.frames.mappings(Pfn(800)), 1);
    assert_eq!(unmap(client, OWN, 2, 3), Ok(0), "its own");
    // Their owner takes them away.
    let named = Object::in_frame(Kind::Env, &kernel.frames, Pfn(client.id().0));
    let rights = Rights::MEMORY;
    let handle =
        capability::insert(&kernel.frames, &store.capabilities, named, rights, CapRef::NONE);
    assert_eq!(unmap(store, handle.expect("room").into_word(), 0, 2), Ok(0));
    assert_eq!(kernel.frames.mappings(Pfn(800)), 0);
}

#[test]
fn the_kernel_does_not_reach_behind_a_key() {
    let (kernel, root, env, handle) = guarded();
    fill(kernel, root, handle, 800, (0, b"secret"));
    call(kernel, root, "map_keyed", &[handle, handle, 800, AT, WRITE, 2]).expect("mapped");
    let slice = UserSlice::new(env.root_table.get(), UserPtr(AT));
    assert_eq!(slice.copy_in(&kernel.frames, &mut [0; 6]), Err(Error::BadPointer));
    assert_eq!(slice.copy_out(&kernel.frames, b"public"), Err(Error::BadPointer));
    assert_eq!(call(kernel, root, "unmap", &[handle, AT, 1]), Ok(0));
    call(kernel, root, "map", &[handle, handle, 800, AT, 1, WRITE]).expect("its owner's");
    assert_eq!(slice.copy_in(&kernel.frames, &mut [0; 6]), Ok(()));
}

#[test]
fn behind_a_gate_nothing_else_begins() {
    let (_, root, env, _) = guarded();
    let area = &env.area().expect("a U-area").upcall;
    area.entry.store(AT, Relaxed);
    area.wanted.store(u32::MAX, Relaxed);
    let tells = || {
        let mut state = Context::at(AT + 8, AT + 16, 0x202);
        area.masked.store(0, Relaxed);
        upcall::tell_exception(env, &mut state, 0, 0)
    };
    RIGHTS.set(CLOSED);
    assert!(tells());
    RIGHTS.set(opened(1));
    assert!(!tells());
    // What the register said when the environment was left, it says again.
    super::save(env);
    RIGHTS.set(0);
    assert!(super::was_open(env));
    super::load(env);
    assert_eq!(RIGHTS.get(), opened(1));
    super::load(root);
    super::save(root);
    assert_eq!((RIGHTS.get(), root.keys.get()), (0, 0), "of others nothing is kept");
}

/// What is behind a gate when it is to end has turns to finish what is another's; they are counted.
#[test]
fn what_is_behind_a_gate_leaves_it_before_it_ends() {
    for leaves in [Some(1), Some(5), None] {
        let (kernel, root, env, handle) = guarded();
        let schedule = &kernel.here().schedule;
        call(kernel, root, "env_start", &[handle, AT, AT, 0]).expect("started");
        env.keys.set(opened(2));
        let destroy = || call(kernel, root, "env_destroy", &[handle]);
        let mut turns = 0;
        // As often as the destroyer asks without giving its slice away, nothing happens.
        for _ in 0..20 {
            assert_eq!(destroy(), Err(Error::Again));
        }
        while env.state() == EnvState::Ready && env.keys.get() == opened(2) {
            assert_eq!(destroy(), Err(Error::Again));
            if schedule.heir.replace(EnvId::NONE) == env.id() {
                turns += 1;
                schedule.decisions.set(schedule.decisions.get() + 1);
            }
            if leaves == Some(turns) {
                env.keys.set(CLOSED);
            }
        }
        assert_eq!(turns, leaves.unwrap_or(64), "turns");
        while destroy() == Err(Error::Again) {
            assert_eq!(schedule.heir.get(), EnvId::NONE, "no turn more");
        }
        assert_eq!(kernel.frames.kind(Pfn(700)), Some(FrameKind::Free));
    }
    // What has ended has none.
    let (kernel, root, env, handle) = guarded();
    call(kernel, root, "env_start", &[handle, AT, AT, 0]).expect("started");
    env.keys.set(opened(2));
    env::end(kernel, env, EnvStatus { state: EnvState::Faulted as u32, ..EnvStatus::NEW });
    while call(kernel, root, "env_destroy", &[handle]) == Err(Error::Again) {
        assert_eq!(env.state(), EnvState::Dying);
        assert_eq!(kernel.here().schedule.heir.get(), EnvId::NONE);
    }
}

#[test]
fn keys_are_derived_as_ranges() {
    let (kernel, root, ..) = guarded();
    let all = keys(kernel, root, 1, 15, Rights::ALL);
    let rights = Rights::CALL.into_word();
    let derive = |first, count| call(kernel, root, "cap_derive", &[all, rights, first, count]);
    assert!(derive(15, 1).is_ok());
    for (first, count) in [(0, 1), (15, 2), (16, 1), (1, 0)] {
        assert_eq!(derive(first, count), Err(Error::OutOfRange), "{first}, {count}");
    }
}

proptest! {
    /// Wherever it lies and whatever is around it.
    #[test]
    fn no_other_change_of_the_register_is_found_harmless(
        mut code in prop::collection::vec(
            prop_oneof![Just(0x0f_u8), Just(0x01), Just(0xef), any::<u8>()], 64),
        at in 0_usize..62,
        tail in any::<u32>(),
    ) {
        code[at..at + 3].copy_from_slice(&WRPKRU);
        if let Some(rest) = code.get_mut(at + 3..at + 8) {
            rest[0] = 0x3d;
            rest[1..].copy_from_slice(&tail.to_le_bytes());
        }
        let form = code.get(at..at + GATE_BYTES).map(<[u8]>::to_vec);
        let gates: Vec<_> = (1..KEYS).map(opened).chain([CLOSED]).map(gate).collect();
        let known = form.is_some_and(|form| gates.iter().any(|gate| gate[..] == form[..]));
        prop_assert!(known || !is_harmless(&code, |_| true));
    }
}
