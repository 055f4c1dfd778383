//! Events: telling an environment that something happened, and ending its sleep.

use core::sync::atomic::Ordering::{Relaxed, Release};

use exo_abi::{EVENT_RING_WORDS, EnvState, Upcall};

use crate::slots;
use crate::state::State;
use crate::state::context::Context;
use crate::state::env::Env;

/// Counts an event for `env`, and wakes it if it sleeps.
pub fn notify(kernel: &State, env: &Env) {
    let events = env.events.get().wrapping_add(1);
    env.events.set(events);
    if let Some(area) = env.area() {
        area.events.store(events, Relaxed);
        if area.upcall.wanted.load(Relaxed) & Upcall::Event as u32 != 0 {
            env.pending.set(env.pending.get() | Upcall::Event as u32);
        }
    }
    if !env.predicate.is_set() {
        wake(kernel, env);
    }
}

/// Puts `badge` into the event ring of `env`, if there is room, and counts an event.
pub fn ring(kernel: &State, env: &Env, badge: u64) {
    if let Some(area) = env.area() {
        let ring = &area.ring;
        let produced = env.rung.get();
        let waiting = produced.wrapping_sub(ring.consumed.load(Relaxed));
        match ring.badges.get((produced % EVENT_RING_WORDS) as usize) {
            Some(place) if waiting < EVENT_RING_WORDS => {
                place.store(badge, Relaxed);
                env.rung.set(produced.wrapping_add(1));
                ring.produced.store(env.rung.get(), Release);
            }
            _ => ring.lost.store(ring.lost.load(Relaxed).wrapping_add(1), Relaxed),
        }
    }
    notify(kernel, env);
}

/// Ends a sleep: `wait` returns the event count.
pub fn wake(kernel: &State, env: &Env) {
    if env.state() == EnvState::Waiting {
        env.predicate.clear();
        slots::set_state(kernel, env, EnvState::Ready);
        env.deadline.set(0);
        // Only the value is new: `wait` has saved the rest, with `rax` zero.
        let context = env.context();
        context.set(Context { rdx: env.events.get(), ..context.get() });
    }
}
