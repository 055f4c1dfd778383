//! How environments begin, sleep, wake and end.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, EnvState, EnvStatus, Error, FrameKind, Handle, Pfn, Rights, UArea};

use super::{events, family, transfer};
use crate::capability::{self, CapRef, Kind, Object};
use crate::object::{self, KernelObject};
use crate::paging::{self, Table};
use crate::slots;
use crate::state::State;
use crate::state::context::{Context, START_FLAGS};
use crate::state::env::Env;

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
pub fn create(kernel: &State, creator: EnvId, parts: Parts) -> Result<&'static Env, Error> {
    let frames = &kernel.frames;
    let all = [parts.object, parts.root_table, parts.cap_table, parts.u_area];
    frames.check_donations(&all, creator)?;
    let id = EnvId(parts.object.0);
    for frame in all {
        frames.give(frame, creator, id);
    }
    let env = object::create::<Env>(frames, parts.object).ok_or(Error::InUse)?;
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
    capability::donate(frames, &env.capabilities, parts.cap_table)?;
    let itself = Object::in_frame(Kind::Env, frames, parts.object);
    let rights = Rights::MEMORY.with(Rights::INSPECT).with(Rights::ENDOW).with(Rights::GRANT);
    let handle = capability::insert(frames, &env.capabilities, itself, rights, CapRef::NONE)?;
    debug_assert_eq!(handle, Handle::first(0));
    Ok(env)
}

/// Lets a new environment run from `entry`.
///
/// # Errors
/// [`Error::WrongState`] unless it is new; [`Error::BadAddress`] for an entry
/// outside user space.
pub fn start(
    kernel: &State,
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
    slots::set_state(kernel, env, EnvState::Ready);
    Ok(())
}

/// Ends an environment: it will not run again. `status` says why. Its creator
/// is told; what it holds stays until it is destroyed.
pub fn end(kernel: &State, env: &Env, status: EnvStatus) {
    env.ended.set(status);
    let state = EnvState::from_u32(status.state).unwrap_or(EnvState::Dying);
    slots::set_state(kernel, env, state);
    transfer::hang_up(kernel, env);
    if kernel.first.get() == env.id() {
        kernel.over.set(true);
    }
    if let Some(creator) = kernel.env(env.creator.get()) {
        events::notify(kernel, creator);
    }
}
