//! What becomes of an environment that may run while a processor halts that could run it.

use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvState, SLOT_COUNT};

use super::super::{notify, transfer};
use crate::calls::Reply;
use crate::env::Env;
use crate::kernel::Kernel;
use crate::schedule;
use crate::testing::{call, child, machine, reply};

/// Two processors, of which the second halts, and children at 600, 700 and 800 that wait.
fn two_processors() -> (&'static Kernel, [&'static Env; 3]) {
    let (kernel, root) = machine();
    kernel.info.cores.store(2, Relaxed);
    let envs = [600, 700, 800].map(|frame| {
        let (env, handle) = child(kernel, root, frame);
        call(kernel, root, "env_start", &[handle, 0x40_0000, 0x50_0000, 0]).expect("new");
        assert!(matches!(reply(kernel, env, "wait", &[env.events.get(), 0]), Reply::Stop));
        env
    });
    kernel.cores[1].idle.set(true);
    (kernel, envs)
}

/// Gives `env` slot `slot` of processor `core`.
fn assign(kernel: &Kernel, core: usize, slot: usize, env: &'static Env) {
    schedule::assign(kernel, (core * SLOT_COUNT + slot) as u32, Some(env));
}

/// The first processor decides. Its outcome, and whether the second has been woken.
fn decides(kernel: &Kernel, before: Option<&Env>) -> (Option<u32>, bool) {
    kernel.here().running.set(None);
    let next = schedule::next_ready(kernel);
    if let Some(next) = next {
        kernel.pass_on(before, next);
    }
    (next.map(|env| env.id().0), !kernel.cores[1].idle.get())
}

#[test]
fn one_that_is_not_chosen_here_runs_there() {
    let (kernel, [first, second, _]) = two_processors();
    assign(kernel, 0, 0, first);
    for core in [0, 1] {
        assign(kernel, core, 1, second);
    }
    kernel.here().running.set(None);
    for env in [first, second] {
        notify(kernel, env);
    }
    assert!(kernel.cores[1].idle.get(), "it may be the one chosen here");
    assert_eq!(decides(kernel, None), (Some(600), true));
}

#[test]
fn one_that_is_chosen_here_wakes_nobody() {
    let (kernel, [first, ..]) = two_processors();
    for core in [0, 1] {
        assign(kernel, core, 1, first);
    }
    kernel.here().running.set(None);
    notify(kernel, first);
    assert_eq!(decides(kernel, None), (Some(600), false));
}

#[test]
fn one_that_must_give_way_goes_on_there() {
    let (kernel, [first, second, _]) = two_processors();
    assign(kernel, 0, 0, first);
    for core in [0, 1] {
        assign(kernel, core, 1, second);
    }
    kernel.here().running.set(Some(second));
    schedule::set_state(kernel, second, EnvState::Ready);
    // As if the other had looked while it ran here.
    kernel.cores[1].idle.set(true);
    notify(kernel, first);
    kernel.cores[1].idle.set(true);
    assert_eq!(decides(kernel, Some(second)), (Some(600), true));
}

/// The server has no slots. Its caller's are on the processor that halts.
#[test]
fn a_server_wakes_where_its_caller_has_slots() {
    let (kernel, [server, caller, between]) = two_processors();
    assign(kernel, 1, 0, caller);
    for (from, to) in [(caller, between), (between, server)] {
        let switch = transfer::begin(kernel, from, to, (0x40_1000, 0x50_0000), 0, true, |_| Ok(0));
        assert!(switch.is_ok());
    }
    assert!(matches!(reply(kernel, server, "wait", &[server.events.get(), 0]), Reply::Stop));
    kernel.cores[1].idle.set(true);
    notify(kernel, server);
    assert!(!kernel.cores[1].idle.get());
}

/// It has no more to do than one that sleeps itself, and need not look again and again.
#[test]
fn waiting_for_a_server_that_sleeps_is_sleep() {
    let (kernel, [server, caller, _]) = two_processors();
    assign(kernel, 0, 0, caller);
    schedule::set_state(kernel, caller, EnvState::Ready);
    let switch =
        transfer::begin(kernel, caller, server, (0x40_1000, 0x50_0000), 0, true, |_| Ok(0));
    assert!(switch.is_ok());
    assert!(matches!(reply(kernel, server, "wait", &[server.events.get(), 0]), Reply::Stop));
    assert!(schedule::next_ready(kernel).is_none());
    assert!(!kernel.here().schedule.watches());
    notify(kernel, server);
    assert_eq!(schedule::next_ready(kernel).map(Env::id), Some(server.id()));
}
