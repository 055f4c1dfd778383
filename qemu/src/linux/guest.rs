//! A Linux guest as a value: what is in its root directory, what runs in it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::packages::{Packages, Set};
use super::{clock, init, libraries};
use crate::machine::{Config, Machine, Network};

/// Its address on QEMU's user-mode network, unless it is given another.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// What the guest says when all its commands have been carried out.
pub const READY: &str = "linux: ready";
/// How a line begins that says what went wrong. The guest ends then.
pub const FAILED: &str = "linux: failed: ";

/// Without a network: legacy devices by which Linux finds out how fast its clocks are, which
/// our own system does not need. QEMU merges this with what it is told of the machine before.
const DEVICES: &str = "pic=on,pit=on,rtc=on";
/// With a network: tables that tell where the NIC is. Debian's kernel does not read that from
/// its command line, as ours does; and with these tables it uses no legacy devices but the
/// clock, for which it waits a second each time it is not there: billions of instructions.
const TABLES: &str = "acpi=on,rtc=on";
/// Console and end: a guest that panics is reset, and QEMU ends.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on";
/// Enough for the kernel, what is unpacked from the archive, and a store.
const MEMORY: u32 = 512;

/// Whether the kernel works around faults of processors, such as Spectre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mitigations {
    /// As the kernel decides: what users get.
    #[default]
    Default,
    /// Not at all (`mitigations=off`).
    Off,
}

/// A Linux guest: a kernel, files, and what is to run.
///
/// ```no_run
/// # use exo_cmd::linux::{Guest, Kernel, Mitigations};
/// # fn main() -> exo_cmd::Result<()> {
/// let mut guest = Guest::new(Kernel::of_distribution()?);
/// guest.mitigations = Mitigations::Off;
/// guest.networked();
/// guest.service("httpd", "httpd -f -p 80");
/// let machine = guest.boot(&guest.config())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Guest {
    /// The kernel it boots.
    pub kernel: Kernel,
    /// Whether processors' faults are worked around.
    pub mitigations: Mitigations,
    /// Its address, with [`Guest::networked`].
    pub address: Ipv4Addr,
    /// More words for the kernel's command line.
    pub parameters: Vec<String>,
    files: Vec<(String, Contents)>,
    modules: Vec<String>,
    steps: Vec<Step>,
    init: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Contents {
    File(PathBuf),
    Text(String),
}

/// What the guest does when it has started, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A command that ends, and without error.
    Command(String),
    /// One that goes on; a name for it, and the command.
    Service(String, String),
}

impl Guest {
    /// A guest in which nothing runs, without a network.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            mitigations: Mitigations::Default,
            address: ADDRESS,
            parameters: Vec::new(),
            files: Vec::new(),
            modules: Vec::new(),
            steps: Vec::new(),
            init: None,
        }
    }

    /// A guest whose first and only program is this one, statically linked.
    #[must_use]
    pub fn of_program(kernel: Kernel, program: &Path) -> Self {
        Self { init: Some(program.to_owned()), ..Self::new(kernel) }
    }

    /// With the virtio NIC as `eth0`, at [`Guest::address`].
    pub fn networked(&mut self) {
        for module in ["virtio_mmio", "virtio_net"] {
            self.module(module);
        }
    }

    /// With a file of the host as `/path`. It may be executed.
    pub fn file(&mut self, path: &str, file: &Path) {
        self.files.push((path.to_owned(), Contents::File(file.to_owned())));
    }

    /// With this text as `/path`.
    pub fn text(&mut self, path: &str, text: &str) {
        self.files.push((path.to_owned(), Contents::Text(text.to_owned())));
    }

    /// With the program `/path` of `packages`, and all libraries it needs.
    ///
    /// # Errors
    /// The packages hold no such program, or not all of its libraries.
    pub fn program(&mut self, packages: &Packages, path: &str) -> Result<()> {
        let libraries = libraries::needed(packages, path)?;
        self.file(path, &packages.file(path)?);
        for (path, file) in libraries {
            // Programs share them.
            if !self.files.iter().any(|(known, _)| *known == path) {
                self.file(&path, &file);
            }
        }
        Ok(())
    }

    /// With this module of the kernel's package, inserted before anything else, after
    /// those it depends on. A module of one's own is a [`Guest::file`] and the command
    /// `insmod /path`.
    pub fn module(&mut self, name: &str) {
        self.modules.push(name.to_owned());
    }

    /// Then runs this, in busybox's shell, which must succeed.
    pub fn command(&mut self, command: &str) {
        self.steps.push(Step::Command(command.to_owned()));
    }

    /// Then starts this, which is to go on. If it ends, the guest says so and ends.
    pub fn service(&mut self, name: &str, command: &str) {
        self.steps.push(Step::Service(name.to_owned(), command.to_owned()));
    }

    /// A machine for it: one processor, TCG, and the UDP port of a memcached forwarded
    /// from a free port of the host's loopback interface.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::bare();
        config.memory = MEMORY;
        config.network = Network::Store(self.address);
        config
    }

    /// The kernel's command line, but for the speed of its clock, which is measured when it
    /// is booted.
    #[must_use]
    pub fn command_line(&self) -> String {
        let mut words = vec![COMMAND_LINE];
        words.extend((self.mitigations == Mitigations::Off).then_some("mitigations=off"));
        words.extend(self.parameters.iter().map(String::as_str));
        words.join(" ")
    }

    /// Boots it in the machine of `config`: the same `microvm` and NIC that this system has,
    /// with the devices besides that Linux needs.
    ///
    /// Whether the guest gets as far as [`READY`] is on its console. **Blocking** only while
    /// its first root directory is made, and while busybox is fetched.
    ///
    /// # Errors
    /// A file cannot be read, a package not be fetched, or QEMU not be started.
    pub fn boot(&self, config: &Config) -> Result<Machine> {
        let mut config = config.clone();
        let mut words = self.command_line();
        let devices = if self.modules.is_empty() {
            DEVICES
        } else {
            words += &format!(" tsc=reliable tsc_early_khz={}", clock::tsc_khz(config.icount));
            TABLES
        };
        config.extra.extend(["-machine", devices, "-append", &words].map(Into::into));
        Machine::start(&config, self.kernel.image(), &self.archive()?)
    }

    /// Its first root directory.
    fn archive(&self) -> Result<Vec<u8>> {
        let read =
            |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let mut archive = Archive::default();
        for (path, contents) in &self.files {
            match contents {
                Contents::File(file) => archive.file(path, &read(file)?)?,
                Contents::Text(text) => archive.file(path, text.as_bytes())?,
            }
        }
        if let Some(program) = &self.init {
            archive.file("init", &read(program)?)?;
            return archive.finish();
        }
        let busybox = Packages::require(&BUSYBOX)?;
        // Newer distributions keep all programs below /usr.
        let program = busybox.file("bin/busybox").or_else(|_| busybox.file("usr/bin/busybox"))?;
        archive.file("bin/busybox", &read(&program)?)?;
        let modules = self.kernel.modules(&self.modules)?;
        for (name, contents) in &modules {
            archive.file(&init::module_path(name), contents)?;
        }
        let names: Vec<_> = modules.iter().map(|(name, _)| name.as_str()).collect();
        let address = (!self.modules.is_empty()).then_some(self.address);
        if !self.files.iter().any(|(path, _)| path == "etc/passwd") {
            archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")?;
        }
        archive.file("init", init::script(&names, address, &self.steps).as_bytes())?;
        archive.finish()
    }
}

/// One program that is a shell and all that goes with it.
const BUSYBOX: Set<'_> =
    Set { name: "busybox", roots: &["busybox-static"], follow: &[], megabytes: 1 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_was_asked_for() {
        let mut guest = Guest::new(Kernel::from_file(Path::new("vmlinuz-1")));
        assert!(!guest.command_line().contains("mitigations"));
        guest.mitigations = Mitigations::Off;
        guest.parameters.push("isolcpus=1".to_owned());
        assert!(guest.command_line().ends_with(" mitigations=off isolcpus=1"));
    }

    #[test]
    fn a_program_alone_needs_no_packages() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::write(&program, "program").unwrap();
        let kernel = Kernel::from_file(Path::new("vmlinuz-1"));
        let mut guest = Guest::of_program(kernel, &program);
        guest.text("etc/motd", "hello");
        let archive = guest.archive().unwrap();
        let text = String::from_utf8_lossy(&archive);
        for part in ["etc/motd\0", "hello", "init\0", "program"] {
            assert!(text.contains(part), "{part}");
        }
        guest.file("gone", Path::new("/no/such/file"));
        let error = format!("{:#}", guest.archive().unwrap_err());
        assert!(error.contains("/no/such/file"), "{error}");
    }
}
