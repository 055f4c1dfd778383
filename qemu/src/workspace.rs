//! Where things are: the source tree and its build directories.
//!
//! Guest artefacts have a target directory of their own, because they are built
//! with other flags and would otherwise evict the host's on every change of side.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Result, anyhow};
use cargo_metadata::{Metadata, MetadataCommand};

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
        let root = env::var_os("EXO_WORKSPACE").map_or_else(built_from, PathBuf::from);
        root.canonicalize().unwrap_or(root)
    });
    &ROOT
}

/// `boot/manifests/NAME.toml` in the source tree.
#[must_use]
pub fn manifest(name: &str) -> PathBuf {
    root().join("boot/manifests").join(format!("{name}.toml"))
}

/// `apps/NAME/NAME.toml`: the manifest that an application of one's own has beside it.
#[must_use]
pub fn manifest_of_app(name: &str) -> PathBuf {
    root().join("apps").join(name).join(format!("{name}.toml"))
}

/// What the workspace consists of and where it is built; dependencies left out.
///
/// # Errors
/// If cargo cannot be asked, or does not understand the workspace.
pub(crate) fn metadata() -> Result<&'static Metadata> {
    static METADATA: LazyLock<Result<Metadata, String>> = LazyLock::new(|| {
        let mut command = MetadataCommand::new();
        command.no_deps().manifest_path(root().join("Cargo.toml")).current_dir(called_from());
        command.exec().map_err(|error| error.to_string())
    });
    let asked = METADATA.as_ref();
    asked.map_err(|error| anyhow!("cannot ask cargo what the workspace consists of: {error}"))
}

/// Where cargo builds: its answer, since environment variables, its configuration files and
/// the folder it is called from have a say. `target` if it does not answer.
#[must_use]
pub fn target_dir() -> PathBuf {
    metadata().map_or_else(
        |_| root().join("target"),
        |metadata| metadata.target_directory.clone().into_std_path_buf(),
    )
}

/// The folder that cargo was called from, as far as that matters: a relative target
/// directory in the environment is relative to it, and the configuration files in it and
/// above it count.
fn called_from() -> PathBuf {
    let here = env::current_dir().ok().filter(|here| here.starts_with(root()));
    let here = here.unwrap_or_else(|| root().to_owned());
    let given = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"].into_iter().find_map(env::var_os);
    let (Some(given), Ok(program)) = (given, env::current_exe()) else { return here };
    // Cargo runs tests in their packages' folders. But it has built them, so they are below
    // the target directory.
    let holds = |folder: &Path| {
        folder.join(&given).canonicalize().is_ok_and(|target| program.starts_with(target))
    };
    if !holds(&here) && holds(root()) { root().to_owned() } else { here }
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
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // From there a relative name would mean another place than it does to this process.
    command.current_dir(root()).env("CARGO_TARGET_DIR", target_dir());
    // What `cargo run` has set for this process describes this package, not the next.
    for (name, _) in env::vars_os() {
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
