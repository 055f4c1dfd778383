//! Linux in the same machine: its kernel from the distribution, our program as its init.
//!
//! The kernel is Debian's for virtual machines, as packaged, fetched through apt once
//! and kept in `target/linux`; nothing is installed. The program is built statically,
//! so that it is all the guest needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::cpio;
use crate::guest::run;
use crate::machine::{Config, Machine};
use crate::output::note;
use crate::signals::Signals;
use crate::workspace::{self, GUEST_PROFILE, GUEST_TARGET};

/// The package that depends on the current kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// How file names of kernels begin, in packages and here.
const KERNEL: &str = "vmlinuz-";
/// The program that measures.
const PROGRAM: &str = "linux-primitives";

/// Legacy devices by which Linux finds out how fast its clocks are; this system does not
/// need them. QEMU merges this with what it is told of the machine before.
const DEVICES: &str = "pic=on,pit=on,rtc=on";
/// Default mitigations. A string instruction counts once for each repetition; without
/// these two features Linux lets one repetition move eight bytes and not one, so that
/// the unit of counting does not speak against it.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 clearcpuid=erms,fsrm";

/// Boots Linux with the program, in the machine of `config`.
pub(super) fn boot(config: &Config, kernel: Option<&Path>, interrupt: &Signals) -> Result<Machine> {
    let kernel = match kernel {
        Some(kernel) => kernel.to_owned(),
        None => kept_kernel(interrupt)?,
    };
    let program = build()?;
    let program = fs::read(&program).with_context(|| format!("{}", program.display()))?;
    let mut config = config.clone();
    let extra = ["-machine", DEVICES, "-append", COMMAND_LINE];
    config.extra.extend(extra.map(Into::into));
    note!("bench: booting {}", kernel.display());
    Machine::start(&config, &kernel, &cpio::archive("init", &program)?)
}

/// `target/linux`, beside the guest's directory.
fn directory() -> PathBuf {
    workspace::guest_target_dir().with_file_name("linux")
}

/// The kernel fetched earlier, or one fetched now.
fn kept_kernel(interrupt: &Signals) -> Result<PathBuf> {
    let directory = directory();
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    if let Some(kernel) = kernel_in(&directory)? {
        return Ok(kernel);
    }
    fetch(&directory, interrupt).map_err(|error| {
        anyhow!(
            "no kernel of Linux: {error:#}\n\
             On Debian, apt may want its lists renewed:\n  \
             sudo apt-get update\n\
             Elsewhere, or without network, give a kernel with --vmlinuz FILE (it needs\n\
             CONFIG_SERIAL_8250_CONSOLE), or leave Linux out with --exo-only"
        )
    })
}

/// Fetches the package, and keeps its kernel in `directory`.
fn fetch(directory: &Path, interrupt: &Signals) -> Result<PathBuf> {
    let package = package()?;
    note!("bench: fetching {package} through apt, about 30 MB, once");
    let scratch = tempfile::Builder::new().prefix("fetch-").tempdir_in(directory)?;
    let mut download = Command::new("apt-get");
    // apt's own user may not write here; who runs this may.
    let unconfined = ["-o", "APT::Sandbox::User=root"];
    download.args(unconfined).args(["download", &package]).current_dir(scratch.path());
    download.stdout(std::io::stderr());
    run(download, "apt-get download")?;
    interrupt.check()?;
    let archive = find(scratch.path(), |name| name.ends_with(".deb"))?;
    let archive = archive.with_context(|| format!("apt-get brought no {package}"))?;
    note!("bench: unpacking it");
    let unpacked = scratch.path().join("unpacked");
    let mut unpack = Command::new("dpkg");
    unpack.arg("-x").args([&archive, &unpacked]);
    run(unpack, "dpkg")?;
    interrupt.check()?;
    let kernel = kernel_in(&unpacked.join("boot"))?;
    let kernel = kernel.with_context(|| format!("{package} holds no boot/{KERNEL}*"))?;
    let name = kernel.file_name().context("a file without a name")?;
    let kept = directory.join(name);
    fs::rename(&kernel, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    Ok(kept)
}

/// The package with the kernel itself.
fn package() -> Result<String> {
    let mut command = Command::new("apt-cache");
    command.args(["depends", "--important", META_PACKAGE]).env("LC_ALL", "C");
    let output = command.output().context("cannot start apt-cache")?;
    ensure!(
        output.status.success(),
        "apt does not know {META_PACKAGE}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    match first_dependency(&text) {
        Some(package) => Ok(package.to_owned()),
        None => bail!("apt does not say what {META_PACKAGE} depends on"),
    }
}

/// The first `Depends: linux-image-…` of what `apt-cache depends` prints.
fn first_dependency(text: &str) -> Option<&str> {
    let mut packages = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find(|package| package.starts_with("linux-image-"))
}

/// The last kernel of a directory, by name.
fn kernel_in(directory: &Path) -> Result<Option<PathBuf>> {
    find(directory, |name| name.starts_with(KERNEL))
}

/// The last file of a directory, by name, whose name is `wanted`.
fn find(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let mut found = None;
    for file in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let file = file?;
        if file.file_name().to_str().is_some_and(&wanted) {
            found = found.max(Some(file.path()));
        }
    }
    Ok(found)
}

/// Builds the program, and says where it is.
fn build() -> Result<PathBuf> {
    let target = directory().join("build");
    let mut command = workspace::cargo();
    command
        .args(["build", "--profile", GUEST_PROFILE, "--target", GUEST_TARGET])
        .args(["--package", PROGRAM, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run(command, "building the program for Linux")?;
    Ok(target.join(GUEST_TARGET).join(GUEST_PROFILE).join(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_kernels_package() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(first_dependency(text), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(first_dependency("x\n  Depends: debconf\n Suggests: linux-image-1"), None);
    }

    #[test]
    fn takes_the_last_kernel() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(kernel_in(directory.path()).unwrap(), None);
        for name in ["vmlinuz-6.1.0-56", "vmlinuz-6.1.0-55", "zImage", "config-7"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let last = directory.path().join("vmlinuz-6.1.0-56");
        assert_eq!(kernel_in(directory.path()).unwrap(), Some(last));
    }
}
