//! Which QEMU runs the machines: the one in `PATH`, or the one that the environment variable
//! `EXO_QEMU` names, so that versions can be compared without installing them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::prerequisites::QEMU;

/// Names another QEMU than the one in `PATH`.
pub const VARIABLE: &str = "EXO_QEMU";

/// A QEMU on this host.
#[derive(Clone, Debug)]
pub struct Emulator {
    program: PathBuf,
    /// The first line it prints about itself.
    banner: String,
    version: (u32, u32),
}

impl Emulator {
    /// The QEMU to use.
    ///
    /// # Errors
    /// If there is none, or it does not say its version.
    pub fn find() -> Result<Self> {
        let program = QEMU.find().with_context(|| match std::env::var_os(VARIABLE) {
            Some(path) => format!("{VARIABLE} names {}, which is no file", path.display()),
            None => format!("{} is not in PATH", QEMU.name),
        })?;
        let output = Command::new(&program).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let banner = text.lines().next().unwrap_or_default().to_owned();
        let version = version(&banner);
        ensure!(version.is_some(), "{} does not say its version: {banner}", program.display());
        Ok(Self { program, banner, version: version.unwrap_or_default() })
    }

    /// What it calls itself.
    #[must_use]
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Major and minor version.
    pub(super) fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Whether its network device sends by a timer of the guest's own time also on a datagram
    /// socket. 7.2 does; 10.0.2 with `-icount` then sends nothing (tried on QEMU's user
    /// network, where it does, too).
    pub(super) fn sends_by_timer(&self) -> bool {
        self.version < (9, 1)
    }

    /// Whether its plugins are those of QEMU 9.1 and later; see `qemu/plugin`.
    #[must_use]
    pub fn has_later_plugins(&self) -> bool {
        self.version >= (9, 1)
    }

    /// A command that starts it. One that was unpacked and not installed finds what it
    /// loads beside itself.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.data().into_iter().flat_map(|path| [OsString::from("-L"), path.into()]));
        command
    }

    /// Folders of data below the one that holds `bin`, if this is not the installed QEMU.
    fn data(&self) -> Vec<PathBuf> {
        let prefix = self.program.parent().and_then(Path::parent);
        let installed = prefix.is_none_or(|prefix| prefix == Path::new("/usr"));
        let shares = ["share/qemu", "share/seabios"].iter();
        let shares = shares.filter_map(|share| Some(prefix?.join(share)).filter(|p| p.is_dir()));
        if installed { Vec::new() } else { shares.collect() }
    }
}

/// Major and minor version in `QEMU emulator version 7.2.22 (…)`.
fn version(banner: &str) -> Option<(u32, u32)> {
    let numbers = banner.strip_prefix("QEMU emulator version ")?;
    let mut numbers = numbers.split(['.', ' ']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)";
        assert_eq!(version(debian), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(version("QEMU emulator version ten"), None);
        assert_eq!(version("bash 5"), None);
    }

    #[test]
    fn what_was_unpacked_brings_its_data() {
        let prefix = tempfile::tempdir().unwrap();
        let program = prefix.path().join("bin/qemu");
        let share = prefix.path().join("share/qemu");
        std::fs::create_dir_all(&share).unwrap();
        let mut emulator = Emulator { program, banner: String::new(), version: (9, 1) };
        assert_eq!(emulator.data(), [share]);
        assert!(emulator.has_later_plugins());
        emulator.program = "/usr/bin/qemu".into();
        assert_eq!(emulator.data(), Vec::<PathBuf>::new());
    }
}
