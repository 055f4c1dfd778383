//! `cargo exo build`: the guest and its bundle, and no more.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::{guest, manifest, workspace};

/// Build the kernel, the applications and the boot bundle, and print where kernel and bundle are
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Boot manifest [default: boot/manifests/default.toml]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let path = args.manifest.clone().unwrap_or_else(|| workspace::manifest("default"));
    let manifest = manifest::read(&path)?;
    let bundle = guest::build_bundle(&guest::bundle_path(&path)?, &manifest)?;
    println!("{}", workspace::guest_elf(guest::KERNEL).display());
    println!("{}", bundle.display());
    Ok(ExitCode::SUCCESS)
}
