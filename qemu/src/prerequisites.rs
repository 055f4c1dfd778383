//! Programs the command needs from the host, and how they get there.
//!
//! On a Debian or Ubuntu machine where this process may install packages, it does
//! so and says so. Elsewhere it prints the command that would.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::guest::run;

/// A program, or a library that programs load when they run, and the Debian package that
/// holds it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The file to look for: a program in `PATH`, a library (`lib….so…`) where the system
    /// keeps them.
    pub name: &'static str,
    /// The package to install if it is missing.
    pub package: &'static str,
}

/// The machine everything runs in.
pub const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };
/// The original that the store is compared with; only tests need it.
pub const MEMCACHED: Program = Program { name: "memcached", package: "memcached" };
/// A load generator, whose requests the store must understand; only a test needs it.
pub const MEMCASLAP: Program = Program { name: "memcaslap", package: "libmemcached-tools" };
/// Counts instructions of host programs.
pub const VALGRIND: Program = Program { name: "valgrind", package: "valgrind" };
/// Whose packet filters ours are compared with.
pub const LIBPCAP: Program = Program { name: "libpcap.so.0.8", package: "libpcap0.8" };
/// Compiles libFuzzer.
pub const CXX: Program = Program { name: "c++", package: "g++" };

/// Where Debian and others keep libraries.
const LIBRARIES: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64"];

impl Program {
    /// Where it is, if it is where such are.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        if self.name.contains(".so") {
            return LIBRARIES
                .iter()
                .map(|dir| PathBuf::from(dir).join(self.name))
                .find(|f| f.is_file());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(self.name)).find(|file| file.is_file())
    }

    /// Makes sure it is there, by installing it if need and rights be.
    pub fn require(self) -> Result<()> {
        if self.find().is_some() {
            return Ok(());
        }
        let Some(right) = Right::held() else {
            bail!("{} is missing; install it with:\n  {}", self.name, self.advice());
        };
        eprintln!("{} is missing; installing the package {}", self.name, self.package);
        let install = ["install", "--no-install-recommends", self.package];
        run(right.apt_get(&["update"]), "apt-get update")
            .and_then(|()| run(right.apt_get(&install), "apt-get install"))
            .with_context(|| {
                format!("{} could not be installed; try:\n  {}", self.name, self.advice())
            })?;
        match self.find() {
            Some(_) => Ok(()),
            None => bail!("the package {} holds no {}", self.package, self.name),
        }
    }

    fn advice(self) -> String {
        format!(
            "sudo apt-get update && sudo apt-get install --no-install-recommends {}",
            self.package
        )
    }
}

/// What entitles this process to install packages.
#[derive(Clone, Copy)]
enum Right {
    Root,
    Sudo,
}

impl Right {
    fn held() -> Option<Self> {
        let succeeds = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !succeeds("apt-get", &["--version"]) {
            return None;
        }
        if rustix::process::geteuid().is_root() {
            return Some(Self::Root);
        }
        succeeds("sudo", &["-n", "true"]).then_some(Self::Sudo)
    }

    /// An unattended apt-get command; its output goes to standard error.
    fn apt_get(self, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Root => Command::new("env"),
            Self::Sudo => Command::new("sudo"),
        };
        if matches!(self, Self::Sudo) {
            command.args(["-n", "env"]);
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]).args(args);
        command.stdin(Stdio::null()).stdout(std::io::stderr());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        assert!(Program { name: "sh", package: "dash" }.find().is_some());
        assert!(Program { name: "no-such-program-42", package: "none" }.find().is_none());
    }

    #[test]
    fn says_how_to_install() {
        assert!(QEMU.advice().ends_with("--no-install-recommends qemu-system-x86"));
    }
}
