//! From the assembly entry to [`call`] and back.

use exo_abi::{EnvState, Error};

use super::{Caller, Leaving, Reply, call};
use crate::arch::entry::{
    call_context, load_vectors, return_place, return_to, save_caller_vectors, save_vectors,
};
use crate::env::transfer::{self, Switch};
use crate::env::{Env, VectorState, upcall};
use crate::kernel::Kernel;
use crate::start::kernel;
use crate::trap;

/// What goes back in `rax` and `rdx`.
#[repr(C)]
pub struct Registers {
    code: u64,
    value: u64,
}

/// Serves a system call of the running environment. Called by the assembly
/// entry with the argument registers and, last, the number; returns to the
/// caller, or whoever it called, or not at all when another environment is to run.
pub extern "C" fn dispatch(
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    number: u64,
) -> Registers {
    let kernel = kernel();
    kernel.come_in();
    #[cfg(exo_check)]
    crate::check::entered(kernel, number, [a, b, c, d, e, f]);
    let registers = serve(kernel, number, [a, b, c, d, e, f]);
    kernel.go_out();
    registers
}

#[inline]
fn serve(kernel: &'static Kernel, number: u64, words: [u64; 6]) -> Registers {
    Kernel::count(&kernel.info.calls, 1);
    let Some(env) = kernel.here().running.get() else {
        // Only an environment that exists can have called.
        return Registers { code: Error::WrongState.code(), value: 0 };
    };
    if env.state() != EnvState::Ready {
        // Another processor began to destroy it while it was on its way in: whatever it
        // asked for now could bring it back to life.
        trap::leave(kernel, false);
    }
    match call(Caller { kernel, env }, number, words) {
        Reply::Done(Ok(value)) => Registers { code: 0, value },
        Reply::Done(Err(error)) => Registers { code: error.code(), value: 0 },
        Reply::Switch(leaving, switch) => go_on(kernel, env, leaving, switch),
        Reply::Yield => {
            save(env);
            upcall::expect_begin(&kernel.frames, env);
            trap::stop(kernel, true)
        }
        Reply::Stop => {
            save(env);
            trap::stop(kernel, false)
        }
        Reply::Over => trap::stop(kernel, false),
        Reply::PowerOff(code) => crate::panic::power_off(code),
    }
}

/// Saves the state in which a caller goes on when it is its turn again.
fn save(env: &Env) {
    env.context().set(call_context(0, env.events.get()));
    // SAFETY: the caller is not running any more, and its saved state is
    // referred to only by the assembly that restores it.
    unsafe { save_caller_vectors(env.vectors().image()) };
}

/// Goes on in another environment, by the way back of this call.
#[inline]
fn go_on(kernel: &Kernel, env: &Env, leaving: Leaving, switch: Switch) -> Registers {
    match leaving {
        Leaving::Waits => {
            transfer::leave_at(env, return_place());
            // SAFETY: as in `save`. What the kernel left in the vector registers is
            // cleared before the caller goes on, whichever way.
            unsafe { save_vectors(env.vectors().image()) };
        }
        Leaving::Ready => save(env),
        Leaving::Over => {}
    }
    trap::make_current(kernel, switch.to);
    let vectors: *const VectorState = match leaving {
        Leaving::Over => switch.to.vectors().image(),
        _ => VectorState::initial(),
    };
    // SAFETY: an image that `fxsave` wrote when the caller waited, or the initial one.
    unsafe { load_vectors(vectors) };
    return_to(switch.place);
    Registers { code: switch.code, value: switch.value }
}
