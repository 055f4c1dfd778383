//! Life cycle, and that everything comes back.

mod batch;
mod cores;
mod grants;
mod slices;
mod transfers;
mod upcalls;
mod work;

use exo_abi::{Error, FrameKind, Pfn};

use crate::schedule;
use crate::testing::{
    ALL_FRAMES, ALL_SLOTS, OWN, call, child, destroy, free_frames, machine, tables,
};

#[test]
fn create_and_destroy_balance() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let (env, handle) = child(kernel, root, 600);
    tables(kernel, root, handle, 0x40_0000, 610);
    call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 40]).expect("free");
    call(kernel, root, "map", &[handle, handle, 620, 0x40_0000, 40, 1]).expect("mappable");
    call(kernel, root, "slots_assign", &[ALL_SLOTS, 3, 5, handle]).expect("slots");
    call(kernel, root, "env_start", &[handle, 0x40_0000, 0x50_0000, 0]).expect("new");
    assert_eq!(schedule::next_ready(kernel).map(super::Env::id), Some(env.id()));
    assert_eq!(destroy(kernel, root, handle), Ok(()));
    assert_eq!(free_frames(kernel), before);
    assert!(schedule::next_ready(kernel).is_none());
    assert_eq!(call(kernel, root, "env_start", &[handle, 0, 0, 0]), Err(Error::BadHandle));
    assert_eq!(call(kernel, root, "cap_drop", &[handle]), Ok(0), "a stale one can be dropped");
}

#[test]
fn a_foreign_mapping_holds_destruction_up_until_it_is_gone() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let (_, handle) = child(kernel, root, 600);
    call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 1]).expect("free");
    tables(kernel, root, OWN, 0x80_0000, 700);
    call(kernel, root, "map", &[OWN, handle, 620, 0x80_0000, 1, 1]).expect("root may");
    assert_eq!(destroy(kernel, root, handle), Err(Error::InUse));
    assert_eq!(destroy(kernel, root, handle), Err(Error::InUse), "and stays so");
    assert_eq!(kernel.frames.kind(Pfn(620)), Some(FrameKind::Memory), "not given away");
    call(kernel, root, "unmap", &[OWN, 0x80_0000, 1]).expect("mapped");
    assert_eq!(destroy(kernel, root, handle), Ok(()));
    assert_eq!(free_frames(kernel), before - 3, "root's own three tables stay");
}

#[test]
fn nothing_can_be_given_to_a_dying_environment() {
    let (kernel, root) = machine();
    let (_, handle) = child(kernel, root, 600);
    assert_eq!(call(kernel, root, "env_destroy", &[handle]), Err(Error::Again));
    let refused = Err(Error::WrongState);
    assert_eq!(call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 700, 1]), refused);
    assert_eq!(call(kernel, root, "cap_grant", &[ALL_SLOTS, handle]), refused);
    assert_eq!(call(kernel, root, "slots_assign", &[ALL_SLOTS, 0, 1, handle]), refused);
    assert_eq!(call(kernel, root, "env_start", &[handle, 0, 0, 0]), refused);
    assert_eq!(destroy(kernel, root, handle), Ok(()));
}

#[test]
fn parts_must_be_quiet_memory_of_the_creator_and_different() {
    let (kernel, root) = machine();
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 600, 4]).expect("free");
    let create = |parts: [u64; 4]| call(kernel, root, "env_create", &parts);
    assert_eq!(create([600, 601, 602, 602]), Err(Error::BadArgument));
    assert_eq!(create([600, 601, 602, 604]), Err(Error::NotOwned), "free");
    assert_eq!(create([600, 601, 602, 8]), Err(Error::NotOwned), "the kernel's");
    assert_eq!(create([600, 601, 602, 1 << 31]), Err(Error::NotOwned), "no frame");
    tables(kernel, root, OWN, 0x80_0000, 700);
    call(kernel, root, "map", &[OWN, OWN, 603, 0x80_0000, 1, 1]).expect("mappable");
    assert_eq!(create([600, 601, 602, 603]), Err(Error::InUse), "mapped");
    call(kernel, root, "unmap", &[OWN, 0x80_0000, 1]).expect("mapped");
    assert!(create([600, 601, 602, 603]).is_ok());
}

#[test]
fn nobody_destroys_the_first_or_the_running_environment() {
    let (kernel, root) = machine();
    let (env, handle) = child(kernel, root, 600);
    let copy = call(kernel, root, "cap_grant", &[handle, handle]).expect("itself, with CONTROL");
    kernel.here().current.set(env.id());
    assert_eq!(call(kernel, env, "env_destroy", &[copy]), Err(Error::WrongState));
    assert_eq!(call(kernel, env, "env_destroy", &[OWN]), Err(Error::NoRight));
}

#[test]
fn what_an_environment_created_goes_with_it() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let (mut env, handle) = child(kernel, root, 600);
    let first = handle;
    // A chain of 20, each with a sibling, all made of frames of the first.
    for generation in 0..20 {
        let frame = 700 + 16 * generation;
        let wanted = exo_abi::Rights::TAKE.with(exo_abi::Rights::GRANT);
        let wanted = exo_abi::Word::into_word(wanted);
        call(kernel, root, "frames_take", &[ALL_FRAMES, first, frame, 1]).expect("free");
        let range = call(kernel, root, "cap_derive", &[ALL_FRAMES, wanted, frame, 16]).unwrap();
        // Root hands the range to the newest environment, and knows it by a copy.
        let known = crate::capability::insert(
            &kernel.frames,
            &root.capabilities,
            crate::capability::Object::in_frame(
                crate::capability::Kind::Env,
                &kernel.frames,
                Pfn(env.id().0),
            ),
            exo_abi::Rights::ALL,
            crate::capability::CapRef::NONE,
        )
        .map(exo_abi::Word::into_word)
        .unwrap();
        let theirs = call(kernel, root, "cap_grant", &[range, known]).expect("room");
        call(kernel, root, "cap_drop", &[known]).expect("a copy");
        for at in [frame + 1, frame + 8] {
            call(kernel, env, "frames_take", &[theirs, OWN, at, 4]).expect("free");
            call(kernel, env, "env_create", &[at, at + 1, at + 2, at + 3]).expect("a child");
        }
        env = kernel.env(exo_abi::EnvId(frame as u32 + 1)).expect("the first of the two");
    }
    assert!(free_frames(kernel) < before - 160);
    assert_eq!(destroy(kernel, root, first), Ok(()));
    assert_eq!(free_frames(kernel), before);
}

#[test]
fn relatives_that_map_each_other_can_be_destroyed() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let (middle, handle) = child(kernel, root, 600);
    let all = call(kernel, root, "cap_grant", &[ALL_FRAMES, handle]).expect("room");
    let make = |first: u64| {
        call(kernel, middle, "frames_take", &[all, OWN, first, 4]).expect("free");
        call(kernel, middle, "env_create", &[first, first + 1, first + 2, first + 3]).unwrap()
    };
    let (one, two) = (make(700), make(800));
    let at = 0x40_0000;
    let tables = |space: u64, first: u64| {
        for (level, frame) in [(3, first), (2, first + 1), (1, first + 2)] {
            call(kernel, middle, "frames_take", &[all, space, frame, 1]).expect("free");
            call(kernel, middle, "table_install", &[space, at, level, frame]).expect("a table");
        }
    };
    for (space, first) in [(OWN, 610), (one, 710), (two, 810)] {
        tables(space, first);
        call(kernel, middle, "frames_take", &[all, space, first + 5, 1]).expect("free");
    }
    // Creator, first and second child map each other's frames in a circle.
    call(kernel, middle, "map", &[OWN, one, 715, at, 1, 1]).expect("creator maps first");
    call(kernel, middle, "map", &[one, two, 815, at, 1, 1]).expect("first maps second");
    call(kernel, middle, "map", &[two, one, 715, at, 1, 1]).expect("second maps first");
    // Alone, a child cannot go while its creator maps its frame; half-way
    // destroyed it can still go with its creator.
    assert_eq!(destroy(kernel, middle, one), Err(Error::InUse));
    assert_eq!(destroy(kernel, root, handle), Ok(()));
    assert_eq!(free_frames(kernel), before);
}

/// A child that runs while its creator is taken apart, and has children of its
/// own faster than destruction makes steps.
#[test]
fn destruction_cannot_be_outrun() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let (middle, handle) = child(kernel, root, 600);
    let all = call(kernel, root, "cap_grant", &[ALL_FRAMES, handle]).expect("room");
    call(kernel, middle, "frames_take", &[all, OWN, 700, 4]).expect("free");
    let runner = call(kernel, middle, "env_create", &[700, 701, 702, 703]).expect("a child");
    let theirs = call(kernel, middle, "cap_grant", &[all, runner]).expect("room");
    let runner = kernel.env(exo_abi::EnvId(700)).expect("the child");
    let mut frame = 704;
    for _ in 0..1000 {
        match call(kernel, root, "env_destroy", &[handle]) {
            Err(Error::Again) => {}
            result => {
                assert_eq!(result, Ok(0));
                assert_eq!(free_frames(kernel), before);
                return;
            }
        }
        for _ in 0..3 {
            let runs = kernel.env(runner.id()).is_some_and(|_| {
                !matches!(runner.state(), exo_abi::EnvState::Dying) && frame < 2000
            });
            if runs {
                call(kernel, runner, "frames_take", &[theirs, OWN, frame, 4]).expect("free");
                let parts = [frame, frame + 1, frame + 2, frame + 3];
                let _ = call(kernel, runner, "env_create", &parts);
                frame += 4;
            }
        }
    }
    panic!("not destroyed after 1000 steps");
}

#[test]
fn no_generation_comes_twice() {
    let (kernel, root) = machine();
    // SAFETY: the entry of frame 700 in the simulated frame table; its generation.
    let generation = unsafe { crate::memory::frame(Pfn(16)).add(700 * 16 + 12).cast::<u32>() };
    // SAFETY: as above.
    unsafe { generation.write(u32::MAX - 2) };
    let take = || call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 700, 1]);
    let free = || call(kernel, root, "frames_free", &[700, 1]);
    assert_eq!((take(), free()), (Ok(0), Ok(0)));
    assert_eq!((take(), free()), (Ok(0), Ok(0)), "its last generation");
    assert_eq!(take(), Err(Error::NotFree));
    assert_eq!(kernel.frames.kind(Pfn(700)), Some(FrameKind::Reserved));
}

#[test]
fn slots_can_be_passed_on_only_by_who_owns_them() {
    let (kernel, root) = machine();
    let (one, one_handle) = child(kernel, root, 600);
    let (_, two_handle) = child(kernel, root, 700);
    call(kernel, root, "slots_assign", &[ALL_SLOTS, 3, 2, one_handle]).expect("slots");
    let twos = call(kernel, root, "cap_grant", &[two_handle, one_handle]).expect("room");
    let pass =
        |first: u64, count: u64| call(kernel, one, "slots_assign", &[OWN, first, count, twos]);
    for (first, count) in [(2, 1), (3, 3), (64, 1), (0, 65), (63, 2), (u64::from(u32::MAX), 1)] {
        assert_eq!(pass(first, count), Err(Error::OutOfRange), "{count} from {first}");
    }
    assert_eq!(pass(3, 1), Ok(0));
    assert_eq!(pass(3, 1), Err(Error::OutOfRange), "given away");
    assert_eq!(pass(4, 1), Ok(0));
}

#[test]
fn a_deadline_without_slots_is_not_forgotten() {
    let (kernel, root) = machine();
    let (env, handle) = child(kernel, root, 600);
    call(kernel, root, "env_start", &[handle, 0x40_0000, 0x50_0000, 0]).expect("new");
    env.deadline.set(100);
    schedule::set_state(kernel, env, exo_abi::EnvState::Waiting);
    kernel.here().schedule.expect(100);
    assert_eq!(schedule::wake_expired(kernel, 200), None, "no environment with a slot waits");
    assert_eq!(env.state(), exo_abi::EnvState::Waiting);
    call(kernel, root, "slots_assign", &[ALL_SLOTS, 7, 1, handle]).expect("slots");
    schedule::wake_expired(kernel, 300);
    assert_eq!(env.state(), exo_abi::EnvState::Ready);
}
