//! Destruction: everything an environment held goes back, in bounded steps.

use exo_abi::{EnvState, Error, FrameKind, Pfn};

use super::family::{self, Next};
use super::transfer;
use crate::capability;
use crate::disk;
use crate::kernel::Kernel;
use crate::keys;
use crate::net;
use crate::object;
use crate::paging;
use crate::schedule;
use crate::slots;
use crate::state::env::{Env, stage};
use crate::work::Work;

/// What looking at an entry of the frame table costs, and freeing the frame.
const LOOK: u32 = 24;
/// What looking at a capability slot costs.
const SLOT: u32 = 24;

/// How often an environment that is behind a gate when it is to end gets the rest of a slice of its
/// destroyer's, to finish what is not its own.
const TURNS: u32 = 64;

/// Goes on destroying `env`, and first all it created, as far as there is `work`. When that is done its
/// object is gone.
///
/// # Errors
/// [`Error::Again`] while there is more to do; [`Error::WrongState`] for the running environment itself;
/// [`Error::InUse`] while another environment maps one of its frames or the
/// device still uses one: call again when that has changed.
pub fn destroy_step(kernel: &Kernel, env: &Env, work: &Work) -> Result<(), Error> {
    if kernel.here().current.get() == env.id() || kernel.first.get() == env.id() {
        return Err(Error::WrongState);
    }
    let frames = &kernel.frames;
    let (stage, position) = env.destruction.get();
    let next = match stage {
        stage::STOP => {
            // What has ended does not come back to life.
            let position = if env.state() == EnvState::Ready { position } else { 1 };
            slots::set_state(kernel, env, EnvState::Dying);
            // Its U-area may soon belong to another environment.
            env.area.set(None);
            // Another processor may be about to serve a call of it.
            kernel.is_loaded_elsewhere(env);
            let slots: u32 = env.slots.iter().map(|slots| slots.get().count_ones()).sum();
            work.spend(slots * slots::ASSIGN);
            slots::forget(kernel, env);
            transfer::hang_up(kernel, env);
            (stage::LEAVE, position)
        }
        stage::LEAVE if kernel.is_loaded_elsewhere(env) => (stage::LEAVE, position),
        stage::LEAVE if position == 0 && keys::was_open(env) => {
            slots::set_state(kernel, env, EnvState::Ready);
            (stage::GATE, decisions(kernel))
        }
        stage::LEAVE => (stage::PAGE_TABLES, 0),
        stage::GATE if keys::was_open(env) && decisions(kernel).wrapping_sub(position) < TURNS => {
            schedule::donate(kernel, env);
            (stage::GATE, position)
        }
        stage::GATE => (stage::STOP, 1),
        stage::PAGE_TABLES => scan(kernel, env, position, stage, work, |pfn, kind| {
            kind != FrameKind::PageTable || paging::clear_table(frames, pfn, work)
        }),
        stage::CHILDREN => match family::next_child(kernel, env) {
            Next::Done => (stage::SILENCED, 0),
            Next::Again => (stage, 0),
            // It is not stopped yet or has no family: it goes no deeper than this.
            Next::Child(child) if child.destruction.get().0 <= stage::PAGE_TABLES => {
                destroy_step(kernel, child, work)?;
                (stage, 0)
            }
            Next::Child(child) => {
                family::silence(kernel, env, child);
                (stage, 0)
            }
        },
        stage::SILENCED => match family::next_silenced(kernel, env) {
            Next::Child(child) => {
                destroy_step(kernel, child, work)?;
                (stage, 0)
            }
            _ => (stage::BINDINGS, 0),
        },
        stage::BINDINGS => {
            net::unbind_first(kernel, env)?;
            disk::unbind_first(kernel, env)?;
            (stage::SCOPES, 0)
        }
        stage::SCOPES => {
            let mut found = None;
            let next = scan(kernel, env, position, stage, work, |pfn, kind| {
                found = (kind == FrameKind::Scope).then_some(pfn);
                found.is_none()
            });
            if let Some(scope) = found.and_then(|pfn| object::get(frames, pfn)) {
                env.destruction.set(next);
                net::scope::remove_step(kernel, scope)?;
            }
            next
        }
        stage::CAPABILITIES => drop_capabilities(kernel, env, position, work),
        stage::CHECK => {
            let mut foreign = false;
            let next = scan(kernel, env, position, stage, work, |pfn, _| {
                foreign = frames.is_referred_to(pfn);
                !foreign
            });
            if foreign {
                env.destruction.set((stage::CHECK, 0));
                return Err(Error::InUse);
            }
            next
        }
        _ => {
            let next = scan(kernel, env, position, stage, work, |pfn, kind| {
                if kind != FrameKind::Env {
                    frames.release(pfn);
                }
                true
            });
            if next.0 > stage::FRAMES {
                family::leave(kernel, env);
                frames.release(Pfn(env.id().0));
                return Ok(());
            }
            next
        }
    };
    env.destruction.set(next);
    Err(Error::Again)
}

/// How often this processor has chosen what runs.
fn decisions(kernel: &Kernel) -> u32 {
    kernel.here().schedule.decisions.get() as u32
}

fn drop_capabilities(kernel: &Kernel, env: &Env, position: u32, work: &Work) -> (u32, u32) {
    let mut index = position;
    while work.draw(SLOT) {
        let Some((place, slot)) = capability::table_slot(&kernel.frames, &env.capabilities, index)
        else {
            return (stage::CHECK, 0);
        };
        if !slot.is_empty() && capability::drop_step(&kernel.frames, place, slot, work).is_err() {
            break;
        }
        index += 1;
    }
    (stage::CAPABILITIES, index)
}

/// Visits the frames `env` pays for, as far as there is `work`; stops at one for which the
/// visitor returns false. Returns the stage and position to go on with.
fn scan(
    kernel: &Kernel,
    env: &Env,
    position: u32,
    stage: u32,
    work: &Work,
    mut visit: impl FnMut(Pfn, FrameKind) -> bool,
) -> (u32, u32) {
    for number in position..kernel.frames.count() {
        let pfn = Pfn(number);
        let mine = || kernel.frames.owner(pfn) == Some(env.id());
        if !work.draw(LOOK)
            || mine() && kernel.frames.kind(pfn).is_some_and(|kind| !visit(pfn, kind))
        {
            return (stage, number);
        }
    }
    (stage + 1, 0)
}
