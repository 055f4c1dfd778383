//! Programs in XDP of a guest's NIC: `apps/kvstore-xdp`.
//!
//! The programs are C, because that is what Debian's clang compiles for eBPF; their loader is
//! this tree's own and statically linked. Headers come as packages do here; the compiler is
//! the host's.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::guest::Guest;
use super::memcached::Memcached;
use super::packages::{Packages, Set, directory};
use super::programs::build;
use crate::guest::run;
use crate::prerequisites::CLANG;
use crate::workspace;

/// The package and its program.
const LOADER: &str = "kvstore-xdp";
/// What the loader says when packets go through the program.
const ATTACHED: &str = "attached";

/// A program in XDP of the guest's NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// A cache of memcached's answers. It counts; how many seconds to wait before the
    /// counts are printed again, if at all.
    Cache {
        /// See above.
        report: Option<u32>,
    },
    /// Sends UDP packets of memcached's port back.
    Echo,
}

impl Xdp {
    /// Lets `guest` run it: a cache together with the memcached behind it, of which it wants
    /// one thread and no TCP.
    ///
    /// **Blocking** while it is built, and while packages are fetched.
    ///
    /// # Errors
    /// It cannot be built, or a package is missing.
    pub fn add_to(self, guest: &mut Guest, memory_mib: u32) -> Result<()> {
        guest.file(&format!("usr/bin/{LOADER}"), &build(LOADER)?);
        guest.file(&format!("{}.o", self.source()), &self.compile()?);
        if let Self::Cache { .. } = self {
            for module in ["sch_ingress", "cls_bpf"] {
                guest.module(module);
            }
        }
        let log = format!("/run/{LOADER}");
        guest.service(LOADER, &format!("{} | tee {log}", self.command(guest)));
        guest.command(&format!("until grep -q {ATTACHED} {log} 2>/dev/null; do sleep 0.1; done"));
        if let Self::Cache { .. } = self {
            Self::behind(memory_mib).add_to(guest)?;
        }
        Ok(())
    }

    /// The memcached behind a cache.
    #[must_use]
    pub const fn behind(memory_mib: u32) -> Memcached {
        Memcached { threads: 1, memory_mib, tcp: false }
    }

    /// The loader's command line in `guest`.
    #[must_use]
    pub fn command(self, guest: &Guest) -> String {
        let report = match self {
            Self::Cache { report: Some(seconds) } => format!(" --report={seconds}"),
            _ => String::new(),
        };
        format!("{LOADER} /{}.o --address={}{report}", self.source(), guest.address)
    }

    /// The compiler that made it, as it names itself.
    ///
    /// # Errors
    /// It is missing, and cannot be installed.
    pub fn compiler() -> Result<String> {
        CLANG.require()?;
        let output = Command::new(CLANG.name).arg("--version").output();
        let output = output.context("cannot start clang")?.stdout;
        Ok(String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned())
    }

    const fn source(self) -> &'static str {
        match self {
            Self::Cache { .. } => "cache.bpf",
            Self::Echo => "echo.bpf",
        }
    }

    /// Compiles it, and says where it is.
    fn compile(self) -> Result<PathBuf> {
        CLANG.require()?;
        let headers = Packages::require(&HEADERS)?;
        let made = directory().join("xdp");
        fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        let lock = File::create(made.join("lock")).context("cannot make a lock")?;
        lock.lock().context("cannot wait for another process that compiles")?;
        let object = made.join(self.source()).with_extension("bpf.o");
        let sources = workspace::root().join("apps").join(LOADER).join("bpf");
        let include = headers.root().join("usr/include");
        let mut clang = Command::new(CLANG.name);
        // `-g` for types, which the kernel wants to know of maps with locks.
        clang.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
        // No loop may become a call of memcpy, which is not there.
        clang.args(["-Wno-sign-compare", "-ffreestanding", "-fno-builtin", "-nostdlibinc"]);
        for include in [include.clone(), include.join("x86_64-linux-gnu")] {
            clang.arg("-isystem").arg(include);
        }
        clang.arg("-c").arg(sources.join(self.source()).with_extension("bpf.c"));
        clang.arg("-o").arg(&object);
        run(clang, &format!("compiling {} for eBPF", self.source()))?;
        Ok(object)
    }
}

/// Declarations of the kernel's interface, and of eBPF's helpers.
const HEADERS: Set<'_> = Set {
    name: "bpf-headers",
    roots: &["libbpf-dev", "linux-libc-dev"],
    follow: &[],
    megabytes: 3,
};
