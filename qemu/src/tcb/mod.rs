//! Measures the trusted base: all code that runs in ring 0.
//!
//! What is counted is what the compiler sees for the guest, found by following
//! `mod` declarations from each crate's roots:
//!
//! - A **line** counts if it carries a token of code. Blank lines, comments and
//!   documentation do not; neither does anything under a `cfg` that is false in the
//!   guest (`test`, `not(exo_guest)`) or in a release kernel (`exo_check`, which only
//!   `cargo exo fuzz` sets; features, for which the kernel must not ask). Conditions that
//!   are not decided by these names are taken to hold.
//! - **Assembly** counts: in a string of `asm!`, `naked_asm!` or `global_asm!`, and in
//!   a file they include, every line that is neither blank nor a comment. So do
//!   linker scripts.
//! - **Unsafe** is counted by keyword: blocks, functions, implementations, traits,
//!   `extern` blocks, and attributes (`#[unsafe(no_mangle)]`), in macros, too.
//!
//! Build scripts and tests run on the host and are not counted.

mod cfg;
mod count;
mod crates;
mod modules;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::workspace;
pub use count::{Count, Unsafe};

/// The directories whose code runs in ring 0.
pub const DIRECTORIES: [&str; 4] = ["exo", "exo/abi", "dpf", "boot"];
/// The package whose dependencies are ring 0's.
const KERNEL_PACKAGE: &str = "exo";

/// The trusted base.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// For each of [`DIRECTORIES`].
    pub directories: Vec<Directory>,
    /// The sum.
    pub total: Size,
    /// Crates from elsewhere that are linked into the kernel, as `name version`.
    pub third_party: Vec<String>,
}

/// One directory of the trusted base.
#[derive(Debug, Serialize)]
pub struct Directory {
    /// Its path in the source tree.
    pub path: &'static str,
    /// What is in it.
    #[serde(flatten)]
    pub size: Size,
}

/// An amount of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Source files, assembly and linker scripts included.
    pub files: usize,
    /// Lines that carry code.
    pub lines: usize,
    /// Uses of the keyword `unsafe`.
    #[serde(rename = "unsafe")]
    pub unsafety: Unsafe,
}

/// Measures the source tree.
pub fn survey() -> Result<Survey> {
    let features = crates::features(KERNEL_PACKAGE)?;
    ensure!(features.is_empty(), "the kernel asks for {features:?}, which would not be counted");
    let mut directories = Vec::new();
    for path in DIRECTORIES {
        let size = measure(&workspace::root().join(path))
            .with_context(|| format!("cannot measure {path}"))?;
        directories.push(Directory { path, size });
    }
    let total = directories.iter().fold(Size::default(), |sum, directory| sum + directory.size);
    Ok(Survey { directories, total, third_party: crates::third_party(KERNEL_PACKAGE)? })
}

/// Measures the crate in a directory.
fn measure(directory: &Path) -> Result<Size> {
    let mut size = Size::default();
    let source = directory.join("src");
    for count in modules::files(&[source.join("lib.rs"), source.join("main.rs")])?.values() {
        size.files += 1;
        size.lines += count.lines;
        size.unsafety += count.unsafety;
    }
    for script in linker_scripts(directory)? {
        size.files += 1;
        size.lines += count::script_lines(&script);
    }
    Ok(size)
}

/// The texts of a crate's linker scripts: in its directory or below, but not in a
/// crate below.
fn linker_scripts(directory: &Path) -> Result<Vec<String>> {
    let mut scripts = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() && !path.join("Cargo.toml").exists() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "ld" || end == "lds" || end == "x")
            {
                scripts.push(fs::read_to_string(path)?);
            }
        }
    }
    Ok(scripts)
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.files += other.files;
        self.lines += other.lines;
        self.unsafety += other.unsafety;
        self
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:12}{:>7}{:>8}   unsafe:{:>7}{:>6}{:>7}{:>8}{:>8}{:>12}",
            "ring 0", "files", "lines", "blocks", "fns", "impls", "traits", "extern", "attributes"
        )?;
        let rows = self.directories.iter().map(|directory| (directory.path, directory.size));
        for (name, size) in rows.chain([("total", self.total)]) {
            let kinds = size.unsafety;
            writeln!(
                f,
                "{name:12}{:>7}{:>8}          {:>7}{:>6}{:>7}{:>8}{:>8}{:>12}",
                size.files,
                size.lines,
                kinds.blocks,
                kinds.functions,
                kinds.impls,
                kinds.traits,
                kinds.externs,
                kinds.attributes
            )?;
        }
        match self.third_party.is_empty() {
            true => writeln!(f, "third-party crates: none"),
            false => writeln!(f, "third-party crates: {}", self.third_party.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    /// What SPEC.md promises. Raising it is a decision to be written down there.
    const BUDGET: usize = 10_360;

    #[test]
    fn ring_0_stays_within_its_budget() {
        let survey = super::survey().expect("the source tree can be measured");
        assert!(survey.third_party.is_empty(), "{:?} in ring 0", survey.third_party);
        assert!(survey.total.lines <= BUDGET, "{} lines in ring 0", survey.total.lines);
        let unsafe_free = ["exo/abi", "dpf", "boot"];
        for directory in survey.directories {
            let blocks = directory.size.unsafety.blocks;
            assert!(blocks == 0 || !unsafe_free.contains(&directory.path), "{}", directory.path);
        }
    }
}
