//! The checker on the host: it is content with a kernel that works, and notices each
//! kind of damage.

use exo_abi::{EnvState, FrameKind, Pfn, Rights};

use super::{Broken, all};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::testing::{ALL_FRAMES, ALL_SLOTS, NET, OWN, call, child, machine, tables};

const AT: u64 = 0x40_0000;

/// A machine with something of everything in it.
fn furnished() -> (&'static Kernel, &'static Env, &'static Env) {
    let (kernel, root) = machine();
    crate::env::start(kernel, root, AT, AT, 0).expect("new");
    let (env, handle) = child(kernel, root, 600);
    tables(kernel, root, handle, AT, 610);
    let took = call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 10]);
    took.expect("free");
    call(kernel, root, "map", &[handle, handle, 620, AT, 10, 1]).expect("mappable");
    call(kernel, root, "map", &[handle, handle, 610, AT + 0x10_0000, 1, 0]).expect("a table");
    call(kernel, root, "slots_assign", &[ALL_SLOTS, 3, 5, handle]).expect("slots");
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 700, 20]).expect("free");
    call(kernel, root, "net_bind", &[NET, 700, 1, 719]).expect("a device");
    let narrow = call(kernel, root, "cap_derive", &[ALL_FRAMES, 1 | 2, 600, 100]);
    call(kernel, root, "cap_grant", &[narrow.expect("a range"), handle]).expect("room");
    call(kernel, root, "env_start", &[handle, AT, AT, 0]).expect("new");
    (kernel, root, env)
}

#[test]
fn a_kernel_that_works_passes() {
    let (kernel, root, _) = furnished();
    all(kernel).expect("everything holds");
    let (_, handle) = child(kernel, root, 800);
    while call(kernel, root, "env_destroy", &[handle]) == Err(exo_abi::Error::Again) {
        all(kernel).expect("everything holds between two steps");
    }
    all(kernel).expect("everything holds");
}

/// Does the damage to a furnished machine and returns what the checker says.
fn damaged(damage: impl FnOnce(&Kernel, &'static Env)) -> &'static str {
    let (kernel, _, env) = furnished();
    damage(kernel, env);
    let Broken { name, .. } = all(kernel).expect_err("damage is noticed");
    name
}

#[test]
fn damage_is_noticed() {
    let slot = |kernel: &Kernel, env: &Env, index| {
        crate::capability::table_slot(&kernel.frames, &env.capabilities, index).expect("a slot").1
    };
    assert_eq!(damaged(|kernel, _| kernel.frames.remove_mapping(Pfn(620))), "M1");
    assert_eq!(damaged(|kernel, _| kernel.frames.remove_mapping(Pfn(612))), "M2");
    assert_eq!(damaged(|kernel, _| kernel.frames.unpin(Pfn(700))), "M3");
    assert_eq!(damaged(|kernel, _| kernel.frames.unpin(Pfn(610))), "M3");
    assert_eq!(
        damaged(|kernel, env| kernel.frames.falsify(Pfn(900), FrameKind::Free, 0, Some(env.id()))),
        "M4"
    );
    assert_eq!(
        damaged(|kernel, _| kernel.frames.falsify(Pfn(620), FrameKind::Free, 0, None)),
        "M6"
    );
    assert_eq!(
        damaged(|kernel, _| kernel.frames.falsify(Pfn(611), FrameKind::PageTable, 1, None)),
        "M7"
    );
    assert_eq!(
        damaged(|kernel, _| kernel.frames.falsify(
            Pfn(621),
            FrameKind::Memory,
            0,
            Some(exo_abi::EnvId(5))
        )),
        "M8"
    );
    assert_eq!(
        damaged(|kernel, _| kernel.frames.falsify(Pfn(603), FrameKind::Memory, 0, None)),
        "O1"
    );
    assert_eq!(damaged(|_, env| env.bindings.set(Pfn(719))), "O2");
    assert_eq!(damaged(|_, env| env.children.set(Pfn(600))), "O4");
    assert_eq!(damaged(|_, env| env.set_state(EnvState::Dying)), "O5");
    assert_eq!(
        damaged(|kernel, _| kernel.frames.falsify(Pfn(629), FrameKind::Revoked, 0, None)),
        "O6"
    );
    assert_eq!(damaged(|_, env| env.capabilities.free.set(crate::capability::CapRef::NONE)), "C1");
    assert_eq!(
        damaged(|kernel, env| slot(kernel, env, 1).parent.set(crate::capability::CapRef::NONE)),
        "C2"
    );
    assert_eq!(damaged(|kernel, env| slot(kernel, env, 1).rights.set(Rights::ALL)), "C3");
    assert_eq!(damaged(|kernel, env| slot(kernel, env, 40).revoking.set(true)), "C5");
    assert_eq!(damaged(|_, env| env.slots[0].set(1)), "S1");
    assert_eq!(damaged(|_, env| env.set_state(EnvState::New)), "S2");
    assert_eq!(damaged(|kernel, env| kernel.cores[1].running.set(Some(env))), "S3");
    assert_eq!(damaged(|kernel, _| kernel.cores[1].current.set(exo_abi::EnvId(9))), "S4");
    assert_eq!(damaged(|kernel, env| kernel.cores[0].running.set(Some(env))), "S3");
    assert_eq!(damaged(|_, env| env.set_state(EnvState::Calling)), "T1");
    assert_eq!(damaged(|kernel, env| env.transfer.caller.set(kernel.first.get())), "T2");
    assert_eq!(damaged(|_, env| env.transfer.orphaned.set(true)), "T3");
}
