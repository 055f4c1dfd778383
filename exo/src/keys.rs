//! Protection keys: pages that an environment reaches only behind a gate.
//!
//! Ring 3 changes the key register itself, by `wrpkru`. So what the kernel does is to see to it that
//! an environment that takes part executes no `wrpkru` but those of gates ([`exo_abi::gate`]), which
//! is [`crate::paging::text`]'s part: which code may be mapped there. The rest is here: the register is saved
//! and loaded with the environment, and whatever goes on elsewhere than behind its gate begins
//! closed. An upcall is not made and no transfer comes in while the register says anything
//! else, and an exception then ends the environment. Calls to the kernel do not reach behind a key
//! at all ([`crate::paging::translate`]).

#[cfg(exo_guest)]
use crate::arch::keys as processor;
#[cfg(test)]
mod tests;

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{CLOSED, EnvState, Error};

use crate::state::State;
use crate::state::env::Env;

/// Lets `env`, which is new and maps nothing, take part.
///
/// # Errors
/// [`Error::NoDevice`], [`Error::WrongState`].
pub fn guard(kernel: &State, env: &Env) -> Result<(), Error> {
    if kernel.info.keys.load(Relaxed) == 0 {
        return Err(Error::NoDevice);
    }
    if env.state() != EnvState::New || kernel.frames.mappings(env.root_table.get()) != 0 {
        return Err(Error::WrongState);
    }
    env.keys.set(CLOSED);
    Ok(())
}

/// Whether `env` takes part.
#[inline]
pub fn is_guarded(env: &Env) -> bool {
    env.keys.get() != 0
}

/// Whether `env`, which runs, is behind a gate.
#[inline]
pub fn is_open(env: &Env) -> bool {
    is_guarded(env) && processor::rights() != CLOSED
}

/// Whether `env`, which does not run, is behind a gate.
#[inline]
pub fn was_open(env: &Env) -> bool {
    !matches!(env.keys.get(), 0 | CLOSED)
}

/// `env` no longer runs on this processor.
#[inline]
pub fn save(env: &Env) {
    if is_guarded(env) {
        env.keys.set(processor::rights());
    }
}

/// `env` runs next on this processor.
#[inline(always)]
pub fn load(env: &Env) {
    processor::load(env.keys.get());
}

/// The processor of tests on the host.
#[cfg(not(exo_guest))]
mod processor {
    use std::cell::Cell;

    thread_local! {
        pub(super) static RIGHTS: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn rights() -> u32 {
        RIGHTS.get()
    }

    pub(super) fn load(rights: u32) {
        RIGHTS.set(rights);
    }
}
