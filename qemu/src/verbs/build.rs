//! `cargo exo build`: the guest and its bundle, and no more.

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use anyhow::Result;

use crate::manifest::{Choice, Chosen};
use crate::{guest, output, workspace};

/// Build the kernel, the applications and the boot bundle, and print where kernel and bundle are
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Chosen { manifest, path, package } = args.choice.read("default")?;
    guest::build_with(&manifest, package.as_deref())?;
    let bundle = guest::kept_bundle(&path);
    guest::write_bundle(&bundle, &guest::bundle(&manifest)?)?;
    for path in [workspace::guest_elf(guest::KERNEL), bundle] {
        output::print_bytes(&[path.as_os_str().as_bytes(), b"\n"].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}
