//! `cargo exo module`: the store as a module for Linux's kernel.

use std::process::ExitCode;

use anyhow::Result;

use crate::linux::Kernel;
use crate::module;
use crate::output::say;

/// Build the store as a module for the Linux guest's kernel
///
/// The kernel is Debian's for virtual machines; it and its headers are fetched through apt
/// at the first call and kept in target/linux. rustc warns about target features meanwhile,
/// which is expected; what it makes is checked. The module answers memcached's UDP requests
/// in the kernel, before a socket is looked up. Its parameters (`modinfo` lists them):
/// port=11211, memory_mib=64, seed=0 (random), workers=0 (threads that answer; 0: the
/// network's interrupt does), distribution=round-robin or key (how workers share requests).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<ExitCode> {
    let kernel = Kernel::of_distribution()?;
    let module = module::build(&kernel)?;
    say!("{}", module.display())?;
    say!("for Linux {}; there: insmod {}.ko memory_mib=64", kernel.release(), module::NAME)?;
    Ok(ExitCode::SUCCESS)
}
