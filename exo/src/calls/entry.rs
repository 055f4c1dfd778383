//! From the assembly entry to [`call`] and back.

use exo_abi::{SYSCALLS, call_number};

use super::call;
use super::caller::{Caller, Leaving, Reply};
use crate::arch::exit::{
    call_context, go_on_at, load_initial_vectors, load_saved_vectors, return_place,
    save_caller_vectors, save_vectors,
};
use crate::env::transfer::{self, Switch};
use crate::env::{Env, upcall};
use crate::kernel::{Locked, enter};
use crate::keys;
use crate::state::State;
use crate::trap;

/// What goes back in `rax` and `rdx`.
#[repr(C)]
pub(crate) struct Registers {
    code: u64,
    value: u64,
}

/// Serves one system call of the running environment: called by the assembly entry
/// with the argument registers; returns to the caller, or to the environment it called, or
/// not at all when another one is to run.
pub(crate) type Entry = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Registers;

/// How many calls there are.
pub(crate) const COUNT: usize = SYSCALLS.len();

/// Calls by which most sleepers fall asleep.
const WAITS: [u64; 2] = [call_number("wait"), call_number("net_wait")];

macro_rules! entries {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident($($arg:ident: $ty:ty),*)
        -> $returns:ty $(, $leaves:ident)?;)*) => {
        /// The entry of each call by its number, and last that of numbers that are none.
        /// One function for each, so that a call saves no more registers than it needs.
        pub(crate) static CALLS: [Entry; COUNT + 1] = [$(serve::<$number>,)* serve::<{ COUNT as u64 }>];

        /// The same for calls from ring 0, which enter by a gate and not by `syscall`: only
        /// those that return to their caller, for what others need is not saved there.
        pub(crate) static DIRECT: [Entry; COUNT + 1] =
            [$(if SYSCALLS[$number].leaves { serve::<{ COUNT as u64 }> } else { CALLS[$number] },)*
                serve::<{ COUNT as u64 }>];
    };
}
exo_abi::syscall_table!(entries);

extern "C" fn serve<const NUMBER: u64>(
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
) -> Registers {
    let words = [a, b, c, d, e, f];
    let mut kernel = enter();
    #[cfg(exo_check)]
    crate::check::entered(&kernel, NUMBER, words);
    State::count(&kernel.info.calls, 1);
    let core = kernel.here();
    core.work.begin();
    let env = trap::running(core);
    if core.stale.get() {
        kernel = trap::look_up(kernel, env);
    }
    let reply = call::<false>(Caller { kernel: &kernel, env }, NUMBER, |index| words[index]);
    let registers = match reply {
        Reply::Done(Ok(value)) => Registers { code: 0, value },
        Reply::Done(Err(error)) => Registers { code: error.code(), value: 0 },
        Reply::Refused(error, value) => Registers { code: error.code(), value },
        Reply::Switch(leaving, switch) => go_on(kernel, env, leaving, switch),
        Reply::Resume(value) => {
            save(env, 0, value);
            trap::run(kernel, env)
        }
        Reply::Yield => {
            save(env, 0, env.events.get());
            upcall::expect_begin(env);
            trap::stop(kernel, true)
        }
        Reply::Aside(error) => {
            save(env, error.code(), 0);
            trap::stop(kernel, false)
        }
        // Most sleepers are alone, and wake where they fell asleep.
        Reply::Stop => {
            let mut goes_on = false;
            if WAITS.contains(&NUMBER) {
                (kernel, goes_on) = trap::sleep(kernel, env);
            }
            if !goes_on {
                save(env, 0, env.events.get());
                trap::stop(kernel, false)
            }
            Registers { code: 0, value: env.events.get() }
        }
        Reply::Over => trap::stop(kernel, false),
        Reply::PowerOff(code) => crate::panic::power_off(&kernel, code),
    };
    kernel.leave();
    registers
}

/// Saves the state in which a caller goes on with `code` and `value` when it is its turn again.
#[inline(never)]
fn save(env: &Env, code: u64, value: u64) {
    env.context().set(call_context(code, value));
    // SAFETY: the caller is not running any more, and its saved state is
    // referred to only by the assembly that restores it.
    unsafe { save_caller_vectors(env) };
}

/// Goes on in another environment, with the message registers of this call.
#[inline(always)]
fn go_on(kernel: Locked, env: &Env, leaving: Leaving, switch: Switch) -> ! {
    match leaving {
        Leaving::Waits => {
            transfer::leave_at(env, return_place());
            // SAFETY: as in `save`. The vector registers in it are not restored: see
            // below, and `transfer::hang_up`.
            unsafe { save_vectors() };
        }
        Leaving::Ready => save(env, 0, env.events.get()),
        Leaving::Over => {}
    }
    keys::save(env);
    let area = switch.to.vectors().image();
    trap::switch_to(&kernel, switch.to);
    trap::set_running(&kernel, switch.to, area);
    if leaving == Leaving::Over {
        // SAFETY: saved when the caller began to wait.
        unsafe { load_saved_vectors(area) };
    } else {
        load_initial_vectors();
    }
    kernel.leave();
    let Switch { place, code, value, grant, .. } = switch;
    // SAFETY: the vector registers are those of the environment that goes on, its page tables
    // are loaded, and the place is one in user space: an entry checked by `set_entry`, or
    // where the processor came from.
    unsafe { go_on_at(place.rip, place.flags, place.rsp, code, value, grant) }
}
