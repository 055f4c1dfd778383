//! The store as a module for Linux's kernel: from `apps/kvstore-module` to `exo_kvstore.ko`.
//!
//! | file | what it is |
//! |---|---|
//! | [`compile`] | Rust to assembler text, with `core` compiled again for ring 0 |
//! | [`assembly`] | the text made fit for Linux's ring 0, and checked |
//! | [`kbuild`] | text and C files to a module, by the kernel's own build system |
//! | [`parameters`] | how it is loaded |
//!
//! Rust's compiler can be told to use neither SSE nor the red zone, but `core` comes
//! compiled with both. Under fat LTO it is compiled again, with our flags, from what
//! its library holds for that purpose. That works with stable Rust and needs nothing but
//! the host's target; rustc warns that it will not accept the flags for ever, which is
//! why the result and not the compiler is checked.

mod assembly;
mod compile;
mod kbuild;
mod parameters;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::linux::{self, Kernel};
use crate::output::note;

pub(crate) use compile::{PACKAGE, lint};
pub use parameters::{Parameters, Workers};

/// The module's name, as `insmod` and `rmmod` know it.
pub const NAME: &str = "exo_kvstore";

/// Builds the module for `kernel`, and says where it is:
/// `target/linux/module/exo_kvstore.ko`.
///
/// **Blocking** for the build; also while another process builds it, and while the kernel's
/// headers are fetched. Done once per process for each kernel.
///
/// # Errors
/// A program or package is missing, something does not compile, or the result has what
/// Linux's ring 0 cannot bear.
pub fn build(kernel: &Kernel) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = built.get(kernel.release()) {
        return Ok(module.clone());
    }
    let directory = directory()?;
    let _alone = lock(&directory)?;
    let text = compile::compile(compile::Flags::Ring0, &directory)?;
    let module = kbuild::build(kernel, &adapted(&text)?, &directory)?;
    built.insert(kernel.release().to_owned(), module.clone());
    Ok(module)
}

/// The store compiled in one way, as an assembler text.
#[derive(Debug)]
pub(crate) struct Variant {
    /// What it may use.
    pub(crate) name: &'static str,
    /// The text.
    pub(crate) text: String,
}

/// The store as a program in ring 3 may be compiled, as Linux's ring 0 allows it, and as
/// the module has it, with thunks. All else is equal.
///
/// **Blocking** for two builds; also while another process builds the module.
///
/// # Errors
/// As for [`build`].
pub(crate) fn variants() -> Result<[Variant; 3]> {
    let directory = directory()?;
    let _alone = lock(&directory)?;
    let ring3 = compile::compile(compile::Flags::Ring3, &directory)?;
    let ring0 = compile::compile(compile::Flags::Ring0, &directory)?;
    let thunks = adapted(&ring0)?;
    Ok([("ring 3", ring3), ("ring 0", ring0), ("with thunks", thunks)]
        .map(|(name, text)| Variant { name, text }))
}

/// The compiler's text, adapted; it must still offer what C calls.
fn adapted(text: &str) -> Result<String> {
    const CALLED: [&str; 3] = ["exo_store_answer", "exo_store_first_key", "exo_store_new"];
    let adapted = assembly::adapt(text).context("the store cannot be part of Linux's kernel")?;
    let globals = assembly::globals(&adapted);
    for name in CALLED {
        ensure!(globals.contains(name), "the compiled store has no function {name}");
    }
    Ok(adapted)
}

/// `target/linux/module`, which it makes.
fn directory() -> Result<PathBuf> {
    let directory = linux::directory().join("module");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Keeps other processes from building there until it is dropped.
fn lock(directory: &Path) -> Result<File> {
    let lock = File::create(directory.join("lock")).context("cannot make a lock")?;
    if lock.try_lock().is_err() {
        note!("module: waiting for another process that builds it");
        lock.lock().context("cannot wait for another process that builds the module")?;
    }
    Ok(lock)
}
