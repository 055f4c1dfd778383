//! `cargo exo build`: the guest and its bundle, and no more.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::{guest, manifest, output, workspace};

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
    guest::build(&manifest)?;
    let bundle = guest::kept_bundle(&path);
    guest::write_bundle(&bundle, &guest::bundle(&manifest)?)?;
    for path in [workspace::guest_elf(guest::KERNEL), bundle] {
        output::print_bytes(&[path.as_os_str().as_bytes(), b"\n"].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}
