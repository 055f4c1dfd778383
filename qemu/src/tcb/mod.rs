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
//!
//! Lines that run **once**, before the first environment does, stand in a column of their
//! own: no call and no interrupt leads to them. Which these are is decided by path
//! ([`runs_once`]), and a test holds that nothing else of ring 0 refers to them.
//!
//! **Foreign** code is that of crates from elsewhere: the lines of theirs that are
//! compiled, by the same rules, with the features that are on; and the crates' names. What
//! the compiler then drops or never links is among them, and the language's own library is not.

mod cfg;
mod circle;
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
/// What runs only before the first environment does: [`runs_once`].
const ONCE: [&str; 2] = ["exo/src/start", "boot/src"];
/// The part of that which all of ring 0 refers to: constants.
const LAYOUT: &str = "boot/src/layout.rs";

/// The trusted base.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// For each of [`DIRECTORIES`].
    pub directories: Vec<Directory>,
    /// The sum.
    pub total: Size,
    /// Crates from elsewhere that are linked into the kernel.
    pub foreign: Vec<Foreign>,
    /// The kernel's modules that refer to each other in the largest circle.
    pub circle: Vec<String>,
}

/// A crate from elsewhere.
#[derive(Debug, Serialize)]
pub struct Foreign {
    /// Name and version.
    pub name: String,
    /// What of it is compiled.
    #[serde(flatten)]
    pub size: Size,
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
    /// Lines that carry code, without those that run once.
    pub lines: usize,
    /// Lines that carry code and run only before the first environment does.
    pub once: usize,
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
    let mut foreign = Vec::new();
    for crates::Foreign { name, root, config } in crates::third_party(KERNEL_PACKAGE)? {
        let mut size = Size::default();
        let files = modules::files(&[root], &config);
        for count in files.with_context(|| format!("cannot measure {name}"))?.values() {
            size.add(count, false);
        }
        foreign.push(Foreign { name, size });
    }
    Ok(Survey { directories, total, foreign, circle: circle()? })
}

/// The largest circle of the kernel's modules.
fn circle() -> Result<Vec<String>> {
    let source = workspace::root().join(DIRECTORIES[0]).join("src");
    let config = cfg::Config::default();
    let files = modules::files(&[source.join("lib.rs")], &config)?;
    circle::largest(&source, files.keys(), &config)
}

/// Whether the source file `path` holds what runs only before the first environment does.
fn runs_once(path: &Path) -> bool {
    let path = path.strip_prefix(workspace::root()).unwrap_or(path);
    path != Path::new(LAYOUT) && ONCE.iter().any(|once| path.starts_with(once))
}

/// Measures the crate in a directory.
fn measure(directory: &Path) -> Result<Size> {
    let mut size = Size::default();
    let source = directory.join("src");
    let roots = [source.join("lib.rs"), source.join("main.rs")];
    for (path, count) in modules::files(&roots, &cfg::Config::default())? {
        size.add(&count, runs_once(&path));
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

impl Size {
    /// Adds a file, of what runs `once` or always.
    fn add(&mut self, count: &Count, once: bool) {
        self.files += 1;
        *(if once { &mut self.once } else { &mut self.lines }) += count.lines;
        self.unsafety += count.unsafety;
    }

    /// Lines that carry code.
    #[must_use]
    pub fn all_lines(&self) -> usize {
        self.lines + self.once
    }
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.files += other.files;
        self.lines += other.lines;
        self.once += other.once;
        self.unsafety += other.unsafety;
        self
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:12}{:>7}{:>8}{:>7}   unsafe:{:>7}{:>6}{:>7}{:>8}{:>8}{:>12}",
            "ring 0",
            "files",
            "lines",
            "once",
            "blocks",
            "fns",
            "impls",
            "traits",
            "extern",
            "attributes"
        )?;
        let rows = self.directories.iter().map(|directory| (directory.path, directory.size));
        let foreign = self.foreign.iter().map(|foreign| (foreign.name.as_str(), foreign.size));
        for (name, size) in rows.chain([("total", self.total)]).chain(foreign) {
            let kinds = size.unsafety;
            writeln!(
                f,
                "{name:12}{:>7}{:>8}{:>7}          {:>7}{:>6}{:>7}{:>8}{:>8}{:>12}",
                size.files,
                size.lines,
                size.once,
                kinds.blocks,
                kinds.functions,
                kinds.impls,
                kinds.traits,
                kinds.externs,
                kinds.attributes
            )?;
        }
        writeln!(f, "once: lines that run only before the first environment does")?;
        writeln!(f, "largest circle of the kernel's modules: {}", self.circle.len())?;
        match self.foreign.is_empty() {
            true => writeln!(f, "crates from elsewhere: none"),
            false => writeln!(f, "below the total: crates from elsewhere, as far as compiled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What SPEC.md promises. Raising it is a decision to be written down there.
    const BUDGET: usize = 9_780;
    /// The same for what runs once.
    const ONCE_BUDGET: usize = 1_190;

    /// The crate from elsewhere that is linked: the lock.
    const FOREIGN: &str = "spin ";
    /// Modules that may refer to each other in a circle.
    const CIRCLE: usize = 8;

    #[test]
    fn ring_0_stays_within_its_budget() {
        let survey = survey().expect("the source tree can be measured");
        let foreign = survey.foreign.iter().filter(|foreign| !foreign.name.starts_with(FOREIGN));
        assert_eq!(foreign.count(), 0, "{:?} in ring 0", survey.foreign);
        assert!(survey.circle.len() <= CIRCLE, "a circle: {:?}", survey.circle);
        let total = survey.total;
        assert!(total.lines <= BUDGET, "{} lines in ring 0", total.lines);
        assert!(total.once <= ONCE_BUDGET, "{} lines that run once", total.once);
        let unsafe_free = ["exo/abi", "dpf", "boot"];
        for directory in survey.directories {
            let blocks = directory.size.unsafety.blocks;
            assert!(blocks == 0 || !unsafe_free.contains(&directory.path), "{}", directory.path);
        }
    }

    /// What is said to run once is used by nothing that runs later.
    #[test]
    fn only_the_start_refers_to_what_runs_once() {
        let source = workspace::root().join("exo/src");
        let roots = [source.join("lib.rs"), source.join("main.rs")];
        for (path, _) in modules::files(&roots, &cfg::Config::default()).unwrap() {
            let text = fs::read_to_string(&path).unwrap();
            let later = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in later.filter(|_| !runs_once(&path)) {
                let boot = line.replace("exo_boot::layout", "").contains("exo_boot");
                assert!(!boot && !line.contains("start::"), "{}: {line}", path.display());
            }
        }
    }
}
