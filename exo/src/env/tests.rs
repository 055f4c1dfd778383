//! Life cycle, and that everything comes back.

use exo_abi::{Error, FrameKind, Pfn};

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
    assert_eq!(kernel.schedule.next_ready(kernel).map(super::Env::id), Some(env.id()));
    assert_eq!(destroy(kernel, root, handle), Ok(()));
    assert_eq!(free_frames(kernel), before);
    assert!(kernel.schedule.next_ready(kernel).is_none());
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
    kernel.current.set(env.id());
    assert_eq!(call(kernel, env, "env_destroy", &[copy]), Err(Error::WrongState));
    assert_eq!(call(kernel, env, "env_destroy", &[OWN]), Err(Error::NoRight));
}
