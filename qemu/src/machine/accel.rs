//! What executes the guest's instructions: QEMU itself (TCG) or the processor (KVM).
//!
//! That `/dev/kvm` exists says little. It may not be ours to open, and on a nested
//! or emulated KVM the guest may hang or die in its first instructions. So KVM is
//! tried by booting the very kernel that is to run, with a time limit. The answer is
//! remembered for that kernel, that QEMU and that host; that KVM was refused is not, since
//! that can change.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::config::{Config, HostPorts, Network};
use super::emulator::Emulator;
use super::refusal::{self, KvmRefusal};
use super::{Machine, guest};
use crate::output::note;
use crate::signals::Signals;
use crate::workspace;

/// How long KVM may take to bring the guest to its first application.
pub(crate) const KVM_LIMIT: Duration = Duration::from_secs(5);
/// How long it is remembered that it took longer.
const SILENCE: Duration = Duration::from_secs(60 * 60);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// Where Linux offers KVM.
const DEVICE: &str = "/dev/kvm";

/// What executes the guest's instructions.
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
    /// trial; it must have been built. Says on standard error if it falls back to TCG, and why.
    ///
    /// # Errors
    /// A signal has come; the guest was not built.
    pub(crate) fn decide(self, config: &Config, signals: &Signals) -> Result<Accel> {
        match self {
            Self::Tcg => return Ok(Accel::Tcg),
            Self::Kvm => return Ok(Accel::Kvm),
            // Counting instructions is TCG's alone.
            Self::Auto if config.icount => return Ok(Accel::Tcg),
            Self::Auto => {}
        }
        let why = match OpenOptions::new().read(true).write(true).open(DEVICE) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                "no KVM on this machine".to_owned()
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                KvmRefusal::Permission.to_string()
            }
            // Closed before QEMU opens it. What else may be wrong, QEMU is to say.
            _ => match remembered(config, signals)? {
                Trial::Works => return Ok(Accel::Kvm),
                Trial::Refused(refusal) => refusal.to_string(),
                Trial::Fails => "KVM does not run this kernel here".to_owned(),
                Trial::Silent => {
                    let seconds = KVM_LIMIT.as_secs();
                    format!("under KVM this kernel says nothing for {seconds} seconds")
                }
            },
        };
        note!("{why}\nusing TCG, which is slower");
        Ok(Accel::Tcg)
    }
}

/// What came of a trial.
#[derive(Debug, PartialEq, Eq)]
enum Trial {
    Works,
    /// QEMU did not start.
    Refused(KvmRefusal),
    /// The machine started and ended too early.
    Fails,
    /// The machine started and was not done in time.
    Silent,
}

/// The answer of the last trial, or of a new one. Only what says something about kernel,
/// emulator and host is remembered: a permission may be given at any time. Silence may be due
/// to a busy host, and is remembered for a while only.
fn remembered(config: &Config, signals: &Signals) -> Result<Trial> {
    let path = workspace::guest_target_dir().join("kvm-trial");
    let key = key()?;
    let earlier = fs::read_to_string(&path).unwrap_or_default();
    let age = fs::metadata(&path).and_then(|file| file.modified());
    let age = age.ok().and_then(|time| time.elapsed().ok()).unwrap_or(SILENCE);
    let known = match earlier.strip_prefix(&key).map(str::trim) {
        Some("yes") => return Ok(Trial::Works),
        Some("no") => Some(Trial::Fails),
        Some("silent") if age < SILENCE => Some(Trial::Silent),
        _ => None,
    };
    if let Some(known) = known {
        note!("KVM was tried earlier; remove {} to try again", path.display());
        return Ok(known);
    }
    note!("trying KVM, for {} seconds at most", KVM_LIMIT.as_secs());
    let trial = trial(config, signals)?;
    let answer = match trial {
        Trial::Works => "yes",
        Trial::Fails => "no",
        Trial::Silent => "silent",
        Trial::Refused(_) => return Ok(trial),
    };
    fs::write(&path, format!("{key}{answer}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(trial)
}

/// Boots under KVM until the first application speaks: then the kernel has run, and
/// ring 3, and system calls.
fn trial(config: &Config, signals: &Signals) -> Result<Trial> {
    let mut config = config.clone();
    config.accel = Accel::Kvm;
    config.gdb = None;
    config.network = Network::User(HostPorts::None);
    let Some(app) = config.manifest.apps.iter().find(|app| app.grants.console) else {
        return Ok(Trial::Fails);
    };
    let sign = format!("{}: ", app.name);
    let machine = Machine::boot(&config)?;
    let deadline = Instant::now() + KVM_LIMIT;
    loop {
        signals.check()?;
        if machine.wait_for_line(&sign, GLANCE).is_ok() {
            return Ok(Trial::Works);
        }
        if machine.console().ended() {
            break;
        }
        if Instant::now() >= deadline {
            return Ok(Trial::Silent);
        }
    }
    // An end that is none of the guest's is QEMU's, and may be due to anything.
    Ok(match machine.exit_status(KVM_LIMIT) {
        Ok(_) => Trial::Fails,
        Err(_) => Trial::Refused(refusal::of_kvm(machine.process.complaints())),
    })
}

/// What the answer depends on, as a line.
fn key() -> Result<String> {
    let output = |program: &str, argument: &str| -> Result<Vec<u8>> {
        let output = Command::new(program).arg(argument).output();
        Ok(output.with_context(|| format!("cannot start {program}"))?.stdout)
    };
    let kernel = fs::read(workspace::guest_elf(guest::KERNEL)).context("cannot read the kernel")?;
    let mut hasher = DefaultHasher::new();
    Emulator::find()?.banner().hash(&mut hasher);
    output("uname", "-rvn")?.hash(&mut hasher);
    kernel.hash(&mut hasher);
    Ok(format!("{:016x} ", hasher.finish()))
}
