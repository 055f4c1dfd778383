//! How environments begin, sleep, wake and end.

use core::sync::atomic::Ordering::{Relaxed, Release};

use exo_abi::{
    EVENT_RING_WORDS, EnvId, EnvState, EnvStatus, Error, FrameKind, Handle, Pfn, Rights, UArea,
    Upcall,
};

use super::{Context, Env, family, transfer};
use crate::capability::{self, CapRef, Kind, Object};
use crate::kernel::Kernel;
use crate::object::{self, KernelObject};
use crate::paging::{self, Table};
use crate::schedule;

/// Interrupts on; the bit that is always one.
pub(super) const START_FLAGS: u64 = 1 << 9 | 1 << 1;

/// The frames an environment is made of.
#[derive(Clone, Copy)]
pub struct Parts {
    /// Kernel object.
    pub object: Pfn,
    /// Root page table.
    pub root_table: Pfn,
    /// First frame of the capability table.
    pub cap_table: Pfn,
    /// U-area.
    pub u_area: Pfn,
}

// SAFETY: repr(C), a frame long, plain bytes and atomics; ring 3 may write it,
// and the kernel only stores to its atomics.
unsafe impl KernelObject for UArea {
    const KIND: FrameKind = FrameKind::UArea;
}

/// Makes an environment from frames of `creator`, all different and quiet.
///
/// # Errors
/// [`Error::NotOwned`], [`Error::InUse`], [`Error::BadArgument`] if two frames
/// are the same.
pub fn create(kernel: &Kernel, creator: EnvId, parts: Parts) -> Result<&'static Env, Error> {
    let frames = &kernel.frames;
    let all = [parts.object, parts.root_table, parts.cap_table, parts.u_area];
    for (index, &frame) in all.iter().enumerate() {
        frames.check_donation(frame, creator)?;
        if all[..index].contains(&frame) {
            return Err(Error::BadArgument);
        }
    }
    let id = EnvId(parts.object.0);
    let env = object::create::<Env>(frames, parts.object).ok_or(Error::InUse)?;
    for frame in all {
        frames.set_owner(frame, id);
    }
    let kernel_root = object::get::<Table>(frames, kernel.root_table).ok_or(Error::WrongState)?;
    paging::create_root(frames, parts.root_table, kernel_root).ok_or(Error::InUse)?;
    let u_area = object::create::<UArea>(frames, parts.u_area).ok_or(Error::InUse)?;
    u_area.id.store(id.0, Relaxed);
    u_area.system_info.store(kernel.info_frame.0, Relaxed);
    env.id.set(id.0);
    env.root_table.set(parts.root_table);
    env.u_area.set(parts.u_area);
    env.area.set(Some(u_area));
    env.vectors().reset();
    if let Some(creator) = kernel.env(creator) {
        family::adopt(kernel, creator, env);
    }
    capability::donate(frames, env, parts.cap_table)?;
    let itself = Object::in_frame(Kind::Env, frames, parts.object);
    let rights = Rights::MEMORY.with(Rights::INSPECT).with(Rights::ENDOW).with(Rights::GRANT);
    let handle = capability::insert(frames, env, itself, rights, CapRef::NONE)?;
    debug_assert_eq!(handle, Handle::first(0));
    Ok(env)
}

/// Lets a new environment run from `entry`.
///
/// # Errors
/// [`Error::WrongState`] unless it is new; [`Error::BadAddress`] for an entry
/// outside user space.
pub fn start(
    kernel: &Kernel,
    env: &Env,
    entry: u64,
    stack: u64,
    argument: u64,
) -> Result<(), Error> {
    if env.state() != EnvState::New {
        return Err(Error::WrongState);
    }
    if entry >= exo_abi::USER_TOP || stack > exo_abi::USER_TOP {
        return Err(Error::BadAddress);
    }
    env.context().set(Context { rdi: argument, ..Context::at(entry, stack, START_FLAGS) });
    schedule::set_state(kernel, env, EnvState::Ready);
    Ok(())
}

/// Ends an environment: it will not run again. `status` says why. Its creator
/// is told; what it holds stays until it is destroyed.
pub fn end(kernel: &Kernel, env: &Env, status: EnvStatus) {
    env.ended.set(status);
    let state = EnvState::from_u32(status.state).unwrap_or(EnvState::Dying);
    schedule::set_state(kernel, env, state);
    transfer::hang_up(kernel, env);
    if kernel.first.get() == env.id() {
        kernel.over.set(true);
    }
    if let Some(creator) = kernel.env(env.creator.get()) {
        notify(kernel, creator);
    }
}

/// Counts an event for `env`, and wakes it if it sleeps.
pub fn notify(kernel: &Kernel, env: &Env) {
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
pub fn ring(kernel: &Kernel, env: &Env, badge: u64) {
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
pub fn wake(kernel: &Kernel, env: &Env) {
    if env.state() == EnvState::Waiting {
        env.predicate.clear();
        schedule::set_state(kernel, env, EnvState::Ready);
        env.deadline.set(0);
        // Only the value is new: `wait` has saved the rest, with `rax` zero.
        let context = env.context();
        context.set(Context { rdx: env.events.get(), ..context.get() });
    }
}
