//! Who executes the guest's instructions: QEMU itself (TCG) or the processor (KVM).
//!
//! That `/dev/kvm` exists says little. It may not be ours to open, and on a nested
//! or emulated KVM the guest may hang or die in its first instructions. So KVM is
//! tried by booting the very kernel that is to run, with a time limit. The answer is
//! remembered for that kernel, that QEMU and that host.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::config::{Config, HostPorts, Network};
use super::{Machine, guest};
use crate::prerequisites::QEMU;
use crate::workspace;

/// How long KVM may take to bring the guest to its first application.
const LIMIT: Duration = Duration::from_secs(5);

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// QEMU translates them. Works everywhere.
    Tcg,
    /// The processor does. Works on some machines.
    Kvm,
}

/// What a person may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// KVM if a trial boot succeeds, else TCG
    #[default]
    Auto,
    /// Emulation; works everywhere
    Tcg,
    /// Hardware virtualisation, untried
    Kvm,
}

impl Choice {
    /// Decides. With `Auto` and KVM on the machine, boots the guest of `config` for a
    /// trial; it must have been built. Says on standard error if it falls back to TCG.
    pub fn decide(self, config: &Config) -> Result<Accel> {
        match self {
            Self::Tcg => return Ok(Accel::Tcg),
            Self::Kvm => return Ok(Accel::Kvm),
            // Counting instructions is TCG's alone.
            Self::Auto if config.icount => return Ok(Accel::Tcg),
            Self::Auto => {}
        }
        if !Path::new("/dev/kvm").exists() {
            eprintln!("no KVM on this machine: using TCG, which is slower");
            return Ok(Accel::Tcg);
        }
        if remembered(config)? {
            return Ok(Accel::Kvm);
        }
        eprintln!("KVM does not run this kernel here: using TCG, which is slower");
        Ok(Accel::Tcg)
    }
}

/// The answer of the last trial, or of a new one.
fn remembered(config: &Config) -> Result<bool> {
    let path = workspace::guest_target_dir().join("kvm-trial");
    let key = key()?;
    let earlier = fs::read_to_string(&path).unwrap_or_default();
    if let Some(answer) = earlier.strip_prefix(&key) {
        return Ok(answer.trim() == "yes");
    }
    eprintln!("trying KVM, for {} seconds at most", LIMIT.as_secs());
    let works = trial(config)?;
    fs::write(&path, format!("{key}{}\n", if works { "yes" } else { "no" }))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(works)
}

/// Boots under KVM until the first application speaks: then the kernel has run, and
/// ring 3, and system calls.
fn trial(config: &Config) -> Result<bool> {
    let mut config = config.clone();
    config.accel = Accel::Kvm;
    config.gdb = None;
    config.network = Network::User(HostPorts::None);
    let Some(app) = config.manifest.apps.iter().find(|app| app.grants.console) else {
        return Ok(false);
    };
    let sign = format!("{}: ", app.name);
    let machine = Machine::boot(&config)?;
    Ok(machine.wait_for_line(&sign, LIMIT).is_ok())
}

/// What the answer depends on, as a line.
fn key() -> Result<String> {
    let output = |program: &str, argument: &str| -> Result<Vec<u8>> {
        let output = Command::new(program).arg(argument).output();
        Ok(output.with_context(|| format!("cannot start {program}"))?.stdout)
    };
    let kernel = fs::read(workspace::guest_elf(guest::KERNEL)).context("cannot read the kernel")?;
    let mut hasher = DefaultHasher::new();
    output(QEMU.name, "--version")?.hash(&mut hasher);
    output("uname", "-rvn")?.hash(&mut hasher);
    kernel.hash(&mut hasher);
    Ok(format!("{:016x} ", hasher.finish()))
}
