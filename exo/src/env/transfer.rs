//! Protected control transfer: from one environment into another, at an entry point
//! the other has named, in the caller's slice.
//!
//! After Aegis (SOSP'95, 5.4). The kernel changes address space and program counter, and
//! names the caller; the message registers it does not touch. While a call lasts, the slots
//! of the caller run the server, so a server needs no time of its own and the schedule does
//! not hold up a call.
//!
//! An environment has two activities: what it does otherwise, and the one a transfer
//! began; the first rests while the second is there. So it serves one call at a
//! time, and nothing of it is saved that is not needed.

use exo_abi::{EnvId, EnvState, Error};

use super::{events, predicate};
use crate::keys;
use crate::slots::{self, last_of_line};
use crate::state::State;
use crate::state::context::{Context, START_FLAGS};
use crate::state::env::Env;
use crate::state::transfer::{At, CHAIN, Place};

/// The environment that the processor goes on with, and where.
#[derive(Clone, Copy)]
pub struct Switch {
    /// The environment.
    pub to: &'static Env,
    /// Where.
    pub place: Place,
    /// What it finds in `rax`, `rdx` and `rsi`.
    pub code: u64,
    /// See [`Switch::code`].
    pub value: u64,
    /// See [`Switch::code`]: the handle of what was granted with the transfer, or zero.
    pub grant: u64,
}

/// Begins an activity of `callee` at its entry point; `caller` waits if `waits`. When
/// nothing is in the way any more, `grant` puts what comes with it into the table of the
/// callee, and returns its handle there.
///
/// # Errors
/// [`Error::Busy`], [`Error::WrongState`], [`Error::TooMuch`], and
/// those of `grant`.
#[inline(always)]
pub fn begin(
    kernel: &State,
    caller: &Env,
    callee: &'static Env,
    (rip, rsp): At,
    badge: u64,
    waits: bool,
    grant: impl FnOnce(&Env) -> Result<u64, Error>,
) -> Result<Switch, Error> {
    let state = callee.state();
    let (from, to) = (&caller.transfer, &callee.transfer);
    if !matches!(state, EnvState::Ready | EnvState::Waiting)
        || to.serving()
        // In a gate: its activities have one key register.
        || keys::was_open(callee)
        || core::ptr::eq(caller, callee)
        || kernel.runs_elsewhere(callee)
    {
        // One that ended while it served will not be free again.
        let lives = matches!(state, EnvState::Ready | EnvState::Waiting | EnvState::Calling);
        return Err(if lives { Error::Busy } else { Error::WrongState });
    }
    let depth = if from.serving() { from.depth.get() + 1 } else { 1 };
    if depth >= CHAIN {
        return Err(Error::TooMuch);
    }
    let grant = grant(callee)?;
    // Its predicate is forgotten: what it did otherwise is woken after the activity.
    let watched = callee.predicate.is_set();
    callee.predicate.clear();
    to.depth.set(depth);
    to.serving.set(true);
    to.slept.set(state == EnvState::Waiting);
    if watched {
        to.seen.set(callee.events.get().wrapping_sub(1));
    }
    to.orphaned.set(false);
    to.caller.set(if waits { caller.id() } else { EnvId::NONE });
    if state == EnvState::Waiting {
        slots::set_state(kernel, callee, EnvState::Ready);
    }
    if waits {
        from.callee.set(callee.id());
        caller.set_state(EnvState::Calling); // Its slots stay worth a look.
    }
    let place = Place { rip, rsp, flags: START_FLAGS };
    Ok(Switch { to: callee, place, code: badge, value: u64::from(caller.id().0), grant })
}

/// Notes where `caller` goes on after its call.
#[inline(always)]
pub fn leave_at(caller: &Env, place: Place) {
    caller.transfer.place.set(place);
}

/// How an activity ends.
pub enum End {
    /// The caller goes on.
    Reply(Switch),
    /// No caller waits for it.
    Quiet,
}

/// Ends the activity of `env` that a transfer began. If a caller waits for it, `grant` is as
/// in [`begin`].
///
/// # Errors
/// [`Error::WrongState`] if there is none; [`Error::PeerGone`], once, if the caller
/// has ended; and those of `grant`.
#[inline(always)]
pub fn end(
    kernel: &State,
    env: &Env,
    grant: impl FnOnce(&Env) -> Result<u64, Error>,
) -> Result<End, Error> {
    let own = &env.transfer;
    if !own.serving() {
        return Err(Error::WrongState);
    }
    if own.orphaned.replace(false) {
        return Err(Error::PeerGone);
    }
    let caller = kernel.env(own.caller.get());
    let grant = caller.map_or(Ok(0), grant)?;
    own.caller.set(EnvId::NONE);
    own.serving.set(false);
    if own.slept.get() {
        slots::set_state(kernel, env, EnvState::Waiting);
        if env.events.get() != own.seen.get() {
            events::wake(kernel, env);
        } else if env.deadline.get() != 0 {
            kernel.here().schedule.expect(env.deadline.get());
        }
    }
    let Some(caller) = caller else { return Ok(End::Quiet) };
    caller.set_state(EnvState::Ready);
    let place = caller.transfer.place.get();
    Ok(End::Reply(Switch { to: caller, place, code: 0, value: 0, grant }))
}

/// `env` will not run again: its callee and its caller are told.
pub fn hang_up(kernel: &State, env: &Env) {
    let own = &env.transfer;
    if let Some(callee) = kernel.env(own.callee.replace(EnvId::NONE))
        && callee.transfer.caller.get() == env.id()
    {
        callee.transfer.caller.set(EnvId::NONE);
        callee.transfer.orphaned.set(true);
    }
    if let Some(caller) = kernel.env(own.caller.replace(EnvId::NONE))
        && caller.state() == EnvState::Calling
    {
        let Place { rip, rsp, flags } = caller.transfer.place.get();
        let rax = Error::PeerGone.code();
        caller.context().set(Context { rax, ..Context::at(rip, rsp, flags) });
        // They were saved as the kernel had left them.
        caller.vectors().clear_registers();
        slots::set_state(kernel, caller, EnvState::Ready);
    }
}

/// The environment that runs when it is the turn of `env`: itself, or the end of the chain of
/// calls that it waits for.
#[inline]
pub fn end_of_line(kernel: &State, env: &'static Env) -> Option<&'static Env> {
    let last = last_of_line(kernel, env)?;
    match last.state() {
        EnvState::Ready => (!kernel.runs_elsewhere(last)).then_some(last),
        EnvState::Waiting if last.predicate.is_set() && predicate::holds(kernel, last) => {
            events::wake(kernel, last);
            Some(last)
        }
        _ => None,
    }
}
