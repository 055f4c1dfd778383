//! From the assembly entry to [`call`] and back.

use exo_abi::Error;

use super::{Caller, Reply, call};
use crate::arch::entry::{call_context, save_caller_vectors};
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
/// caller, or not at all when another environment is to run.
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
    Kernel::count(&kernel.info.calls, 1);
    let Some(env) = kernel.env(kernel.current.get()) else {
        // Only an environment that exists can have called.
        return Registers { code: Error::WrongState.code(), value: 0 };
    };
    let yielding = match call(Caller { kernel, env }, number, [a, b, c, d, e, f]) {
        Reply::Done(Ok(value)) => return Registers { code: 0, value },
        Reply::Done(Err(error)) => return Registers { code: error.code(), value: 0 },
        Reply::Yield => true,
        Reply::Stop => false,
        Reply::PowerOff(code) => crate::panic::power_off(code),
    };
    env.context.set(call_context(0, env.events.get()));
    // SAFETY: the caller is not running any more, and its saved state is
    // referred to only by the assembly that restores it.
    unsafe { save_caller_vectors(env.vectors.image()) };
    trap::leave(kernel, yielding)
}
