//! How an environment fares.

use exo_abi::{EnvStatus, Error, Handle, UserPtr};

use crate::sys;

/// How the environment behind `env` fares.
///
/// # Errors
/// The kernel's refusal.
pub fn status(env: Handle) -> Result<EnvStatus, Error> {
    let mut bytes = [0; EnvStatus::BYTES];
    sys::env_status(env, UserPtr(bytes.as_mut_ptr().expose_provenance() as u64))?;
    // The kernel wrote behind the compiler's back.
    Ok(EnvStatus::from_bytes(&core::hint::black_box(bytes)))
}
