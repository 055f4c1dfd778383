//! The store's library and all of `core` that it uses, as one assembler text.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::guest::run;
use crate::linux;
use crate::output::note;
use crate::workspace::{self, GUEST_PROFILE, GUEST_TARGET};

/// The package, and the library that is made of it.
pub(crate) const PACKAGE: &str = "kvstore-module";

/// The compilers that this was tried with.
const TRIED: &str = "1.95";

/// What the code may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flags {
    /// What a program in ring 3 may.
    Ring3,
    /// What Linux's ring 0 allows: no SSE, no red zone, addresses in the last 2 GiB, and no
    /// jump tables, because indirect jumps are dear there.
    Ring0,
}

impl Flags {
    fn text(self) -> String {
        // Figures and modules alike have no use for tables of lines.
        let common = "--cfg exo_module -Crelocation-model=static -Cdebuginfo=0";
        match self {
            Self::Ring3 => common.to_owned(),
            Self::Ring0 => format!(
                "{common} -Ccode-model=kernel -Cno-redzone=yes -Crelro-level=off \
                 -Cjump-tables=no -Ctarget-feature=-sse,-sse2,+soft-float"
            ),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ring3 => "ring3",
            Self::Ring0 => "ring0",
        }
    }
}

/// Compiles with `flags`, below `directory`; the text.
///
/// # Errors
/// It does not compile, for example because the compiler no longer takes the flags.
pub(super) fn compile(flags: Flags, directory: &Path) -> Result<String> {
    let text = directory.join(format!("{}.s", flags.name()));
    let target = directory.join(format!("rust-{}", flags.name()));
    if !text.exists() {
        // Cargo does not know of the text, and would not make it again.
        let mut clean = workspace::cargo();
        clean.args(["clean", "--quiet", "--package", PACKAGE, "--target-dir"]).arg(&target);
        clean.args(["--profile", GUEST_PROFILE, "--target", GUEST_TARGET]);
        run(clean, "cargo clean")?;
    }
    let mut command = workspace::cargo();
    // The profile has fat LTO and one code-generation unit: without them `core` stays as
    // it came.
    command
        .args(["rustc", "--lib", "--crate-type", "staticlib", "--package", PACKAGE])
        .args(["--profile", GUEST_PROFILE, "--target", GUEST_TARGET, "--target-dir"])
        .arg(&target)
        .arg("--")
        .arg(format!("--emit=asm={}", text.display()))
        .env("RUSTFLAGS", flags.text())
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if flags == Flags::Ring0 {
        note!(
            "module: compiling the store for Linux's ring 0; rustc is going to warn about \
             target features, which is expected"
        );
    }
    run(command, "compiling the store").with_context(|| {
        format!(
            "if the compiler ({}) no longer takes the flags, use one that does: this was tried \
             with {TRIED}, and `RUSTUP_TOOLCHAIN={TRIED} cargo exo module` selects it",
            version().unwrap_or_else(|| "unknown".to_owned())
        )
    })?;
    fs::read_to_string(&text).with_context(|| {
        format!("rustc wrote no {}; remove {} and try again", text.display(), target.display())
    })
}

/// A command that lints what only the module has. For lints all flags but one are idle.
pub(crate) fn lint() -> Command {
    let mut command = workspace::cargo();
    command
        .args(["clippy", "--lib", "--package", PACKAGE, "--target-dir"])
        .arg(linux::directory().join("module/lint"))
        .args(["--target", GUEST_TARGET, "--", "-D", "warnings"])
        .env("RUSTFLAGS", "--cfg exo_module")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// What the compiler calls itself.
fn version() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
