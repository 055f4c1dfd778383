//! Where things are: the source tree and its build directories.
//!
//! Guest artefacts have a target directory of their own, because they are built
//! with other flags and would otherwise evict the host's on every change of side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The Rust target of the guest: the host's own, without its runtime.
pub const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// The cargo profile of everything that runs in the guest.
pub const GUEST_PROFILE: &str = "guest";
/// Flags of everything that runs in the guest: `cfg(exo_guest)`, and frame
/// pointers so that the kernel and root can walk a stack without tables.
pub const GUEST_RUSTFLAGS: &str = "--cfg exo_guest -C force-frame-pointers=yes";

/// The root of the source tree: the one that cargo runs this in (it sets
/// `EXO_WORKSPACE`, see `.cargo/config.toml`), otherwise the one this was built from.
/// The two differ when checkouts share a target directory.
#[must_use]
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let built_from = || Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = std::env::var_os("EXO_WORKSPACE").map_or_else(built_from, PathBuf::from);
        root.canonicalize().unwrap_or(root)
    });
    &ROOT
}

/// `boot/manifests/NAME.toml` in the source tree.
#[must_use]
pub fn manifest(name: &str) -> PathBuf {
    root().join("boot/manifests").join(name).with_extension("toml")
}

/// `target`, or `CARGO_TARGET_DIR` if that is set.
#[must_use]
pub fn target_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    root().join(target.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// `guest` within [`target_dir`].
#[must_use]
pub fn guest_target_dir() -> PathBuf {
    target_dir().join("guest")
}

/// The ELF file of a guest program, once built.
#[must_use]
pub fn guest_elf(program: &str) -> PathBuf {
    guest_target_dir().join(GUEST_TARGET).join(GUEST_PROFILE).join(program)
}

/// A cargo command that works on the host's side of this workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What `cargo run` has set for this process describes this package, not the next.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let inherited = name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if inherited || name == "CARGO_BIN_NAME" || name == "CARGO_PRIMARY_PACKAGE" {
            command.env_remove(name);
        }
    }
    command
}

/// A cargo command `verb` for guest code, with the guest's flags and target directory.
#[must_use]
pub fn guest_cargo(verb: &str) -> Command {
    let mut command = cargo();
    command
        .args([verb, "--profile", GUEST_PROFILE, "--target", GUEST_TARGET, "--target-dir"])
        .arg(guest_target_dir())
        .env("RUSTFLAGS", GUEST_RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}
