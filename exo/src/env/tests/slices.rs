//! Directed yield, and what overrunning the end of a slice costs.

use exo_abi::EnvId;

use super::super::transfer;
use crate::calls::Reply;
use crate::env::Env;
use crate::kernel::Kernel;
use crate::schedule::{self, Payer, Slice};
use crate::testing::{ALL_SLOTS, call, child, destroy, machine, reply};

/// Ticks of a slice of the simulated machine.
const SLICE: u64 = 1_000_000;

/// Environments 600 and 700, started; with these slots each.
fn two(
    first: std::ops::Range<u64>,
    second: std::ops::Range<u64>,
) -> (&'static Kernel, [&'static Env; 2]) {
    let (kernel, root) = machine();
    let envs = [(600, first), (700, second)].map(|(frame, slots)| {
        let (env, handle) = child(kernel, root, frame);
        call(kernel, root, "env_start", &[handle, 0x40_0000, 0x50_0000, 0]).expect("new");
        if !slots.is_empty() {
            let count = slots.end - slots.start;
            call(kernel, root, "slots_assign", &[ALL_SLOTS, slots.start, count, handle]).unwrap();
        }
        env
    });
    (kernel, envs)
}

/// The environments that run in the next `count` slices.
fn runs(kernel: &Kernel, count: usize) -> Vec<u32> {
    (0..count)
        .map(|_| {
            let env = schedule::next_ready(kernel).map_or(EnvId(0), Env::id);
            kernel.here().schedule.end_slice();
            env.0
        })
        .collect()
}

#[test]
fn an_overrun_costs_one_slot() {
    let (kernel, [first, _]) = two(0..2, 2..3);
    first.debt.set(SLICE);
    assert_eq!(runs(kernel, 6), [600, 700, 600, 600, 700, 600], "slot 0 was lost");
    first.debt.set(3 * SLICE);
    assert_eq!(runs(kernel, 6), [700, 700, 600, 600, 700, 600], "1, 0 and 1 were lost");
}

/// Little by little is as much as all at once.
#[test]
fn all_lateness_is_paid_for() {
    let (kernel, [first, _]) = two(0..2, 2..3);
    let slice = Slice { slot: 0, payer: Payer::of_slot(kernel, 0), end: 5000 };
    for _ in 0..9 {
        slice.charge(kernel, 5000 + SLICE / 10, 0);
        slice.charge(kernel, 4000, 0);
    }
    assert_eq!(first.debt.get(), SLICE * 9 / 10);
    assert_eq!(runs(kernel, 3), [600, 600, 700], "not a slice yet");
    slice.charge(kernel, 5000 + SLICE / 10, 0);
    assert_eq!(runs(kernel, 4), [600, 700, 600, 600], "slot 0 was lost");
    assert_eq!(first.debt.get(), 0);
    slice.charge(kernel, 50 * SLICE, 0);
    assert_eq!(first.debt.get(), SLICE, "a slice is more than ring 0 can take");
}

/// Neither the environment that was given the slot meanwhile, nor one made of the same frame.
#[test]
fn only_whose_slot_it_was_pays() {
    let (kernel, [first, second]) = two(0..1, 1..2);
    let root = kernel.env(kernel.first.get()).expect("root");
    let payer = Payer::of_slot(kernel, 0);
    let firsts = handle_of(kernel, root, first.id());
    call(kernel, root, "slots_assign", &[ALL_SLOTS, 0, 1, handle_of(kernel, root, second.id())])
        .expect("slots");
    payer.charge(kernel, 7);
    assert_eq!((first.debt.get(), second.debt.get()), (7, 0));
    destroy(kernel, root, firsts).expect("destroyed");
    let (again, _) = child(kernel, root, 600);
    assert_eq!(again.id(), EnvId(600));
    payer.charge(kernel, SLICE);
    assert_eq!((again.debt.get(), second.debt.get()), (0, 0), "it is not the same");
}

/// Root's handle of a child.
fn handle_of(kernel: &Kernel, root: &'static Env, id: EnvId) -> u64 {
    let names = |handle: &u64| {
        let word = |shift: u64| handle >> shift & 0xffff_ffff;
        let handle = exo_abi::Handle::new(word(0) as u32, word(32) as u32);
        let found = root.lookup(&kernel.frames, handle, exo_abi::Rights::CONTROL);
        found.is_ok_and(|(_, slot)| slot.object().first == id.0)
    };
    (0..64).map(|index| index | 1 << 32).find(names).expect("a handle")
}

#[test]
fn nobody_elses_time_is_lost() {
    let (kernel, [first, second]) = two(0..8, 8..9);
    schedule::set_state(kernel, second, exo_abi::EnvState::Waiting);
    first.debt.set(3 * SLICE);
    assert_eq!(runs(kernel, 2), [600, 600], "no other environment wants it");
    assert_eq!(first.debt.get(), 0, "but it is paid for");
}

/// One that was alone for long would otherwise hardly ever run again.
#[test]
fn debt_does_not_grow_while_nobody_is_harmed() {
    let (kernel, [first, second]) = two(0..1, 1..2);
    schedule::set_state(kernel, second, exo_abi::EnvState::Waiting);
    for _ in 0..1000 {
        first.debt.set(first.debt.get() + SLICE);
        assert_eq!(runs(kernel, 1), [600]);
    }
    schedule::set_state(kernel, second, exo_abi::EnvState::Ready);
    let run = runs(kernel, 6);
    assert!(run.iter().filter(|env| **env == 600).count() >= 2, "{run:?}");
}

/// A slot that looks used but is not must not keep the one that overran from running.
#[test]
fn the_processor_does_not_rest_while_an_environment_is_ready() {
    let (kernel, [first, second]) = two(0..1, 1..2);
    // It calls an environment that sleeps: its slot is looked at, and found to be idle.
    let root = kernel.env(kernel.first.get()).expect("root");
    let (sleeper, handle) = child(kernel, root, 800);
    call(kernel, root, "env_start", &[handle, 0x40_0000, 0x50_0000, 0]).expect("new");
    call(kernel, sleeper, "entry_create", &[0, 0x40_1000, 0x50_0000]).expect("room");
    let switch =
        transfer::begin(kernel, second, sleeper, (0x40_1000, 0x50_0000), 0, true, |_| Ok(0));
    assert!(switch.is_ok_and(|switch| switch.to.id() == sleeper.id()));
    assert!(matches!(reply(kernel, sleeper, "wait", &[sleeper.events.get(), 0]), Reply::Stop));
    first.debt.set(SLICE);
    assert_eq!(runs(kernel, 1), [600]);
}

#[test]
fn the_rest_of_a_slice_goes_to_whom_it_is_given() {
    let (kernel, [first, second]) = two(0..2, 0..0);
    let itself = crate::testing::OWN;
    assert!(matches!(reply(kernel, first, "slice_donate", &[itself]), Reply::Stop));
    schedule::donate(kernel, second);
    assert_eq!(schedule::next_ready(kernel).map(Env::id), Some(second.id()));
    assert_eq!(schedule::next_ready(kernel).map(Env::id), Some(first.id()), "only the rest");
    // Not if there is no rest, and not if it sleeps.
    schedule::donate(kernel, second);
    kernel.here().schedule.end_slice();
    assert_eq!(schedule::next_ready(kernel).map(Env::id), Some(first.id()));
    schedule::set_state(kernel, second, exo_abi::EnvState::Waiting);
    schedule::donate(kernel, second);
    assert_eq!(schedule::next_ready(kernel).map(Env::id), Some(first.id()));
}
