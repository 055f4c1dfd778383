//! Programs of this source tree for Linux guests.

use std::path::PathBuf;

use anyhow::Result;

use super::packages::directory;
use crate::guest::run;
use crate::workspace::{self, GUEST_PROFILE, GUEST_TARGET};

/// Builds the program of the package of the same name, statically, so that it is all a
/// guest needs; optimised as what runs in our own guest is. Says where it is.
///
/// # Errors
/// It cannot be built.
pub fn build(program: &str) -> Result<PathBuf> {
    let target = directory().join("build");
    let mut command = workspace::cargo();
    command
        .args(["build", "--profile", GUEST_PROFILE, "--target", GUEST_TARGET])
        .args(["--package", program, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        // Every byte of it is unpacked by the guest each time it boots.
        .env("CARGO_PROFILE_GUEST_STRIP", "debuginfo")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(command, &format!("building {program} for Linux"))?;
    Ok(target.join(GUEST_TARGET).join(GUEST_PROFILE).join(program))
}
