//! Destruction: everything an environment held goes back, in bounded steps.

use exo_abi::{EnvState, Error, FrameKind, Pfn};

use super::family::{self, Next};
use super::{Env, transfer};
use crate::capability::{self, Kind, Progress};
use crate::kernel::Kernel;
use crate::net;
use crate::object;
use crate::paging;
use crate::schedule;

/// Frame-table entries looked at in one step.
const SCAN: u32 = 2048;
/// Page tables emptied in one step.
const TABLES: u32 = 8;
/// Capability slots looked at in one step.
const SLOTS: u32 = 64;

/// The stages, in order. Stage and position are kept in the environment, so
/// that the caller may stop and resume between any two steps.
mod stage {
    pub(super) const STOP: u32 = 0;
    pub(super) const LEAVE: u32 = 1;
    pub(super) const PAGE_TABLES: u32 = 2;
    pub(super) const CHILDREN: u32 = 3;
    pub(super) const SILENCED: u32 = 4;
    pub(super) const BINDINGS: u32 = 5;
    pub(super) const SCOPES: u32 = 6;
    pub(super) const CAPABILITIES: u32 = 7;
    pub(super) const CHECK: u32 = 8;
    pub(super) const FRAMES: u32 = 9;
}

/// Goes on destroying `env`, and first all it created. After [`Progress::Done`] its object is gone.
///
/// # Errors
/// [`Error::WrongState`] for the running environment itself;
/// [`Error::InUse`] while another environment maps one of its frames or the
/// device still sends from one: call again when that has changed.
pub fn destroy_step(kernel: &Kernel, env: &Env) -> Result<Progress, Error> {
    if kernel.here().current.get() == env.id() || kernel.first.get() == env.id() {
        return Err(Error::WrongState);
    }
    let frames = &kernel.frames;
    let (stage, position) = env.destruction.get();
    let next = match stage {
        stage::STOP => {
            schedule::set_state(kernel, env, EnvState::Dying);
            // Its U-area may soon be somebody else's.
            env.area.set(None);
            // Another processor may be about to serve a call of it.
            kernel.is_loaded_elsewhere(env);
            schedule::forget(kernel, env);
            transfer::hang_up(kernel, env);
            (stage::LEAVE, 0)
        }
        stage::LEAVE if kernel.is_loaded_elsewhere(env) => (stage::LEAVE, 0),
        stage::LEAVE => (stage::PAGE_TABLES, 0),
        stage::PAGE_TABLES => {
            let mut tables = 0;
            scan(kernel, env, position, stage, |pfn, kind| {
                if kind == FrameKind::PageTable {
                    paging::clear_table(frames, pfn);
                    tables += 1;
                }
                tables < TABLES
            })
        }
        stage::CHILDREN => match family::next_child(kernel, env) {
            Next::Done => (stage::SILENCED, 0),
            Next::Again => (stage, 0),
            // It is not stopped yet or has no family: it goes no deeper than this.
            Next::Child(child) if child.destruction.get().0 <= stage::PAGE_TABLES => {
                destroy_step(kernel, child)?;
                (stage, 0)
            }
            Next::Child(child) => {
                family::silence(kernel, env, child);
                (stage, 0)
            }
        },
        stage::SILENCED => match family::next_silenced(kernel, env) {
            Next::Child(child) => {
                destroy_step(kernel, child)?;
                (stage, 0)
            }
            _ => (stage::BINDINGS, 0),
        },
        stage::BINDINGS => match net::unbind_first(kernel, env)? {
            Progress::Again => (stage::BINDINGS, 0),
            Progress::Done => (stage::SCOPES, 0),
        },
        stage::SCOPES => {
            let mut found = None;
            let next = scan(kernel, env, position, stage, |pfn, kind| {
                found = (kind == FrameKind::Scope).then_some(pfn);
                found.is_none()
            });
            match found.and_then(|pfn| object::get::<net::scope::Scope>(frames, pfn)) {
                Some(scope) if net::scope::remove_step(kernel, scope)? == Progress::Again => {
                    (stage, scope.frame().0)
                }
                _ => next,
            }
        }
        stage::CAPABILITIES => drop_capabilities(kernel, env, position),
        stage::CHECK => {
            let mut foreign = false;
            let next = scan(kernel, env, position, stage, |pfn, _| {
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
            let next = scan(kernel, env, position, stage, |pfn, kind| {
                if kind != FrameKind::Env {
                    frames.release(pfn);
                }
                true
            });
            if next.0 > stage::FRAMES {
                family::leave(kernel, env);
                frames.release(Pfn(env.id().0));
                return Ok(Progress::Done);
            }
            next
        }
    };
    env.destruction.set(next);
    Ok(Progress::Again)
}

fn drop_capabilities(kernel: &Kernel, env: &Env, position: u32) -> (u32, u32) {
    for index in position..position.saturating_add(SLOTS) {
        let Some((place, slot)) = capability::table_slot(&kernel.frames, env, index) else {
            return (stage::CHECK, 0);
        };
        if slot.kind() != Kind::Empty
            && capability::drop_step(&kernel.frames, place, slot) == Progress::Again
        {
            return (stage::CAPABILITIES, index);
        }
    }
    (stage::CAPABILITIES, position.saturating_add(SLOTS))
}

/// Visits a stretch of the frames `env` pays for; stops early when the visitor
/// returns false. Returns the stage and position to go on with.
fn scan(
    kernel: &Kernel,
    env: &Env,
    position: u32,
    stage: u32,
    mut visit: impl FnMut(Pfn, FrameKind) -> bool,
) -> (u32, u32) {
    let end = position.saturating_add(SCAN).min(kernel.frames.len());
    for number in position..end {
        let pfn = Pfn(number);
        if kernel.frames.owner(pfn) == Some(env.id())
            && let Some(kind) = kernel.frames.kind(pfn)
            && !visit(pfn, kind)
        {
            return (stage, number + 1);
        }
    }
    if end == kernel.frames.len() { (stage + 1, 0) } else { (stage, end) }
}
