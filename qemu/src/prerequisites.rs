//! Programs the command needs from the host, and how they get there.
//!
//! On a Debian or Ubuntu machine where this process may install packages, it does
//! so and says so. Elsewhere it prints the command that would, with the package manager that
//! is there.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};

use crate::guest::run;
use crate::machine::emulator;
use crate::output::note;

/// A program, or a library that programs load when they run, and the packages that hold it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The file to look for: a program in `PATH`; a library (`lib….so`), in any version, where
    /// the system keeps them.
    pub name: &'static str,
    /// The package to install if it is missing, as Debian calls it.
    pub package: &'static str,
    /// Package managers of other systems whose package is called otherwise.
    pub elsewhere: &'static [(&'static str, &'static str)],
}

/// The machine everything runs in.
pub const QEMU: Program = Program {
    name: "qemu-system-x86_64",
    package: "qemu-system-x86",
    elsewhere: &[
        ("dnf", "qemu-system-x86-core"),
        ("zypper", "qemu-x86"),
        ("apk", "qemu-system-x86_64"),
    ],
};
/// The debugger; only `cargo exo gdb` and its test need it.
pub const GDB: Program = Program { name: "gdb", package: "gdb", elsewhere: &[] };
/// A network for a machine without rights; only `cargo exo run --net passt` needs it.
pub const PASST: Program = Program { name: "passt", package: "passt", elsewhere: &[] };
/// A proxy in front of several stores; only a test needs it.
pub const NUTCRACKER: Program =
    Program { name: "nutcracker", package: "nutcracker", elsewhere: &[] };
/// The original that the store is compared with; only tests need it.
pub const MEMCACHED: Program = Program { name: "memcached", package: "memcached", elsewhere: &[] };
/// A load generator, whose requests the store must understand; only a test needs it.
pub const MEMCASLAP: Program =
    Program { name: "memcaslap", package: "libmemcached-tools", elsewhere: &[] };
/// Counts instructions of host programs.
pub const VALGRIND: Program = Program { name: "valgrind", package: "valgrind", elsewhere: &[] };
/// The packet filters that ours are compared with.
pub const LIBPCAP: Program = Program {
    name: "libpcap.so",
    package: "libpcap0.8",
    elsewhere: &[
        ("dnf", "libpcap"),
        ("pacman", "libpcap"),
        ("zypper", "libpcap1"),
        ("apk", "libpcap"),
    ],
};
/// Compiles libFuzzer.
pub const CXX: Program = Program {
    name: "c++",
    package: "g++",
    elsewhere: &[("dnf", "gcc-c++"), ("pacman", "gcc"), ("zypper", "gcc-c++")],
};

/// Compiles for eBPF.
pub const CLANG: Program = Program { name: "clang", package: "clang", elsewhere: &[] };
/// Runs the build system of Linux's kernel.
pub const MAKE: Program = Program { name: "make", package: "make", elsewhere: &[] };
/// What that build system's own programs read object files with.
pub const LIBELF: Program = Program { name: "libelf.so.1", package: "libelf1", elsewhere: &[] };

/// Where Debian and others keep libraries.
const LIBRARIES: [&str; 5] =
    ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib64"];

/// Package managers, and how they install, as one types it.
const MANAGERS: [(&str, &str); 5] = [
    (APT, "install --no-install-recommends"),
    ("dnf", "install"),
    ("pacman", "-S"),
    ("zypper", "install"),
    ("apk", "add"),
];
/// Debian's.
const APT: &str = "apt-get";

impl Program {
    /// Where it is, if it is where such are.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        if self.name == QEMU.name
            && let Some(path) = std::env::var_os(emulator::VARIABLE)
        {
            return Some(PathBuf::from(path)).filter(|path| path.is_file());
        }
        if self.name.contains(".so") {
            let files = LIBRARIES.iter().flat_map(std::fs::read_dir).flatten().flatten();
            return files.map(|file| file.path()).find(|path| {
                let name = path.file_name().and_then(OsStr::to_str);
                let version = name.and_then(|name| name.strip_prefix(self.name));
                version.is_some_and(|version| version.is_empty() || version.starts_with('.'))
            });
        }
        in_path(self.name)
    }

    /// Makes sure it is there, by installing it if need and rights be.
    pub fn require(self) -> Result<()> {
        if self.find().is_some() {
            return Ok(());
        }
        if self.name == QEMU.name && std::env::var_os(emulator::VARIABLE).is_some() {
            emulator::Emulator::find()?;
        }
        let Some(right) = Right::held() else {
            bail!("{} is missing; {}", self.name, self.advice());
        };
        note!("{} is missing; installing the package {}", self.name, self.package);
        let install = ["install", "--no-install-recommends", self.package];
        run(right.apt_get(&["update"]), "apt-get update")
            .and_then(|()| run(right.apt_get(&install), "apt-get install"))
            .map_err(|cause| {
                let (name, advice) = (self.name, self.advice());
                anyhow!("{name} could not be installed: {cause:#}\nwhen that is mended, {advice}")
            })?;
        match self.find() {
            Some(_) => Ok(()),
            None => bail!("the package {} holds no {}", self.package, self.name),
        }
    }

    /// How to install it here; the command stands alone in the last line.
    fn advice(self) -> String {
        let manager = MANAGERS.iter().map(|&(manager, _)| manager);
        let root = rustix::process::geteuid().is_root();
        self.advice_for(manager.into_iter().find(|manager| in_path(manager).is_some()), root)
    }

    fn advice_for(self, manager: Option<&str>, root: bool) -> String {
        let known = MANAGERS.iter().find(|(name, _)| Some(*name) == manager);
        let Some((manager, install)) = known else {
            let Self { name, package, .. } = self;
            return format!(
                "install {name} with the package manager of this system \
                 (Debian's package is {package})"
            );
        };
        let package = self.elsewhere.iter().find(|(other, _)| other == manager);
        let package = package.map_or(self.package, |(_, package)| package);
        let sudo = if root { "" } else { "sudo " };
        let update = match *manager {
            APT => format!("{sudo}{APT} update && "),
            _ => String::new(),
        };
        format!("install it with:\n  {update}{sudo}{manager} {install} {package}")
    }
}

/// The program of that name that a shell would start.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
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
        if !succeeds(APT, &["--version"]) {
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
        command.args(["DEBIAN_FRONTEND=noninteractive", APT, "-q", "-y"]).args(args);
        command.stdin(Stdio::null()).stdout(std::io::stderr());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let program = |name| Program { name, package: "none", elsewhere: &[] };
        assert!(program("sh").find().is_some());
        assert!(program("libc.so").find().is_some());
        assert!(program("no-such-program-42").find().is_none());
        assert!(program("libno-such-library.so").find().is_none());
    }

    #[test]
    fn says_how_to_install_here() {
        for (manager, root, command) in [
            (
                APT,
                false,
                "sudo apt-get update && sudo apt-get install --no-install-recommends qemu-system-x86",
            ),
            (
                APT,
                true,
                "apt-get update && apt-get install --no-install-recommends qemu-system-x86",
            ),
            ("dnf", false, "sudo dnf install qemu-system-x86-core"),
            ("pacman", false, "sudo pacman -S qemu-system-x86"),
            ("zypper", false, "sudo zypper install qemu-x86"),
            ("apk", true, "apk add qemu-system-x86_64"),
        ] {
            let advice = QEMU.advice_for(Some(manager), root);
            assert_eq!(advice.lines().last().unwrap().trim(), command);
        }
        let advice = QEMU.advice_for(None, false);
        assert!(!advice.contains("apt-get") && advice.contains("qemu-system-x86"), "{advice}");
        for program in [QEMU, MEMCACHED, VALGRIND, LIBPCAP, CXX, CLANG] {
            for (manager, _) in program.elsewhere {
                assert!(MANAGERS.iter().any(|(name, _)| name == manager), "{manager}");
            }
        }
    }
}
