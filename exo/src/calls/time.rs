//! Calls on processor time, the console and the machine.

use exo_abi::{EnvId, EnvState, EnvStatus, Error, EventCount, Handle, Rights, SLOT_COUNT, UserPtr};

use super::caller::{Caller, Reply};
use crate::capability::Kind;
use crate::env;
use crate::schedule;

/// Most bytes printed in one call.
const LINE_MAX: usize = 1024;

#[inline]
pub(super) fn null(_: Caller<'_>) -> Result<(), Error> {
    Ok(())
}

#[inline(never)]
pub(super) fn exit(caller: Caller<'_>, code: u64) -> Reply {
    let status = EnvStatus { state: EnvState::Exited as u32, code, ..EnvStatus::NEW };
    env::end(caller.kernel, caller.env, status);
    Reply::Stop
}

pub(super) fn slice_yield(_: Caller<'_>) -> Reply {
    Reply::Yield
}

#[inline(always)]
pub(super) fn wait(caller: Caller<'_>, seen: EventCount, deadline: u64) -> Reply {
    let events = caller.env.events.get();
    if events != seen.0 {
        return Reply::Done(Ok(events));
    }
    sleep(caller, deadline)
}

/// The caller sleeps, until `deadline` at the latest if that is not zero.
#[inline(always)]
fn sleep(caller: Caller<'_>, deadline: u64) -> Reply {
    caller.env.transfer.sleeps(caller.env.events.get());
    caller.env.deadline.set(deadline);
    if deadline != 0 {
        caller.kernel.here().schedule.expect(deadline);
    }
    schedule::set_state(caller.kernel, caller.env, EnvState::Waiting);
    Reply::Stop
}

#[inline(never)]
pub(super) fn wait_until(
    caller: Caller<'_>,
    predicate: UserPtr,
    length: u64,
    memory: UserPtr,
    deadline: u64,
) -> Reply {
    let mut wire = [0; dpf::MAX_WIRE];
    let set = caller.copy_in(predicate, length, &mut wire).and_then(|wire| {
        let filter = dpf::Filter::decode(wire).ok_or(Error::BadFilter)?;
        env::predicate::set(caller.kernel, caller.env, filter, memory)
    });
    match set {
        Ok(()) => sleep(caller, deadline),
        Err(error) => Reply::Done(Err(error)),
    }
}

#[inline(never)]
pub(super) fn slots_assign(
    caller: Caller<'_>,
    slots: Handle,
    first: u32,
    count: u32,
    env: Handle,
) -> Result<(), Error> {
    let kernel = caller.kernel;
    if count > SLOT_COUNT as u32 {
        return Err(Error::OutOfRange);
    }
    let (_, slot) = caller.env.lookup(&kernel.frames, slots, Rights::NONE)?;
    let (from, rights) = (slot.object(), slot.rights());
    let (allowed, covered) = match from.kind {
        Kind::Slots => (rights.allows(Rights::ASSIGN), from.covers(first, count)),
        // The caller may pass on its own time, and that of an environment it controls.
        Kind::Env => (
            from.first == caller.env.id().0 || rights.allows(Rights::CONTROL),
            kernel.env(EnvId(from.first)).is_some_and(|owner| schedule::owns(owner, first, count)),
        ),
        _ => return Err(Error::BadHandle),
    };
    if !allowed {
        return Err(Error::NoRight);
    }
    if !covered {
        return Err(Error::OutOfRange);
    }
    let heir = caller.live_env_with(env, Rights::CONTROL)?;
    caller.work().spend(count * schedule::ASSIGN);
    for slot in first..first + count {
        schedule::assign(kernel, slot, Some(heir));
    }
    Ok(())
}

fn check(caller: Caller<'_>, handle: Handle, kind: Kind, needed: Rights) -> Result<(), Error> {
    let (_, slot) = caller.env.lookup(&caller.kernel.frames, handle, needed)?;
    if slot.object().kind == kind { Ok(()) } else { Err(Error::BadHandle) }
}

#[inline(never)]
pub(super) fn console_write(
    caller: Caller<'_>,
    console: Handle,
    text: UserPtr,
    length: u64,
) -> Result<u64, Error> {
    check(caller, console, Kind::Console, Rights::PRINT)?;
    let mut line = [0; LINE_MAX];
    let line = caller.copy_in(text, length.min(LINE_MAX as u64), &mut line)?;
    if print(caller, line) { Ok(line.len() as u64) } else { Err(Error::Again) }
}

#[cfg(exo_guest)]
fn print(caller: Caller<'_>, line: &[u8]) -> bool {
    let payer = schedule::Payer::new(caller.kernel, caller.env.id());
    crate::arch::serial::print(&caller.kernel.console, line, payer, caller.work())
}

#[cfg(not(exo_guest))]
fn print(_caller: Caller<'_>, _line: &[u8]) -> bool {
    true
}

#[inline(never)]
pub(super) fn machine_exit(caller: Caller<'_>, machine: Handle, code: u64) -> Reply {
    if let Err(error) = check(caller, machine, Kind::Machine, Rights::POWER) {
        return Reply::Done(Err(error));
    }
    match u8::try_from(code) {
        Ok(code) if code < 127 => Reply::PowerOff(code),
        _ => Reply::Done(Err(Error::BadArgument)),
    }
}
