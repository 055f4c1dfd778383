//! A whole machine: QEMU with the kernel, root and the applications of a manifest.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use exo_cmd::machine::{Config, Machine};
//! # fn main() -> exo_cmd::Result<()> {
//! let machine = Machine::boot(&Config::named("default")?)?;
//! let mut store = machine.store(Duration::from_secs(60))?;
//! store.set(b"key", b"value", 0, 0)?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Machine`] ends when it is dropped, whatever happens: by `Drop` in the usual
//! case, by the kernel's parent-death signal if this process is killed. If it is
//! dropped by a failing test, its console goes to standard error first, with
//! backtraces explained.
//!
//! Nothing is on the packet path here but sockets: with [`Network::User`] QEMU's
//! user-mode network forwards ports of the host's loopback interface, with [`Network::Passt`] the
//! program of that name does, and with [`Network::Tap`] the host's kernel routes; with
//! [`Network::Frames`] a test exchanges raw Ethernet frames with the NIC itself; with
//! [`Network::VhostUser`] another part of this process is the NIC.

mod accel;
mod config;
mod console;
pub mod emulator;
mod exit;
mod forwards;
mod frames;
mod lenience;
mod passt;
mod pin;
mod ports;
mod process;
mod qemu;
mod recording;
mod refusal;
mod tap;

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};

use crate::client::Client;
use crate::guest;
use crate::manifest::Transport;
use crate::symbols::Symboliser;
use crate::workspace;

pub(crate) use accel::KVM_LIMIT;
pub use accel::{Accel, Choice};
pub use config::{Config, HostPorts, MAX_CPUS, MAX_MEMORY, Network};
pub use console::Console;
pub use exit::GuestExit;
pub use forwards::Forwarded;
#[cfg(test)]
pub(crate) use forwards::direct;
pub(crate) use forwards::{ensure_distinct, keep_first, stated};
pub use frames::FrameSocket;
pub use pin::Pinned;
pub(crate) use ports::{Protocol, ensure_free, free_port};
pub use qemu::GUEST_MAC;
pub(crate) use qemu::option_value;
pub use recording::Recording;
pub use tap::USUAL as USUAL_TAP;
pub(crate) use tap::ensure_usable as ensure_tap;

use passt::Passt;
use process::Process;
use qemu::Launch;

/// Port of the store in the guest.
pub const STORE_PORT: u16 = 11211;
/// Port of the echo service in the guest.
pub const ECHO_PORT: u16 = 7;

/// A machine that runs, or has run and has ended.
pub struct Machine {
    process: Process,
    console: Console,
    frames: Option<FrameSocket>,
    /// Ends behind QEMU.
    passt: Option<Passt>,
    forwards: Vec<Forwarded>,
    command: String,
    is_replayed: bool,
}

impl Machine {
    /// Builds the guest if necessary, makes its bundle and boots it.
    ///
    /// **Blocking** for the build; not for the guest, which has only started then.
    pub fn boot(config: &Config) -> Result<Self> {
        guest::build_with(&config.manifest, config.package.as_deref())?;
        let bundle = guest::bundle(&config.manifest)?;
        Self::start(config, &workspace::guest_elf(guest::KERNEL), &bundle)
    }

    /// Does again what `recording` has, with the machine that was opened with it.
    pub(crate) fn replay(config: &Config, recording: &Recording) -> Result<Self> {
        let bundle = std::fs::read(recording.bundle());
        let bundle = bundle.with_context(|| format!("no {}", recording.bundle().display()))?;
        Self::start(config, &recording.kernel(), &bundle)
    }

    /// Boots any kernel with any initial ramdisk; nothing is built.
    pub fn start(config: &Config, kernel: &Path, initrd: &[u8]) -> Result<Self> {
        config.check()?;
        // It has no name: however this process and QEMU end, nothing is left behind.
        let mut bundle = tempfile::tempfile().context("cannot make a file for the boot bundle")?;
        bundle.write_all(initrd).context("cannot write the boot bundle")?;
        let inherited = PathBuf::from(format!("/proc/self/fd/{}", bundle.as_raw_fd()));
        if let Some(kept) = &config.keep_bundle {
            guest::write_bundle(kept, initrd)?;
        }
        if let Some(disk) = &config.disk {
            disk.provide()?;
        }
        let forwards = forwards::choose(config)?;
        let frames = match config.network {
            Network::Frames => Some(FrameSocket::bind()?),
            _ => None,
        };
        if let Network::Tap(device) = &config.network {
            tap::ensure_usable(device)?;
        }
        let (passt, socket) = match config.network {
            Network::Passt(_) => {
                let (passt, socket) = Passt::start(&config.manifest, &forwards)?;
                (Some(passt), Some(socket))
            }
            _ => (None, None),
        };
        let launch = |initrd| Launch {
            config,
            kernel,
            initrd,
            forwards: &forwards,
            frames: frames.as_ref(),
            passt: socket.as_ref().map(AsRawFd::as_raw_fd),
        };
        let command = launch(config.keep_bundle.as_deref().unwrap_or(&inherited)).to_string();
        let launch = launch(&inherited).command()?;
        let files = [Some(bundle.into()), socket].into_iter().flatten().collect();
        let (process, console) = Process::spawn(launch, files)?;
        let is_replayed = config.recording.as_ref().is_some_and(|recording| !recording.is_new());
        Ok(Self { process, console, frames, passt, forwards, command, is_replayed })
    }

    /// Everything the guest has said so far and will say.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// The first console line, from power-on, that contains `pattern`.
    ///
    /// **Blocking** until there is one, at most for `timeout`; fails at once if the
    /// guest ends without. The error holds the whole console.
    pub fn wait_for_line(&self, pattern: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        loop {
            while let Some(line) = self.console.line(seen) {
                if line.contains(pattern) {
                    return Ok(line);
                }
                seen += 1;
            }
            if self.console.ended() && self.console.line(seen).is_none() {
                bail!("the guest ended without saying \"{pattern}\"\n{}", self.report());
            }
            if !self.console.wait_for(seen, deadline) && Instant::now() >= deadline {
                bail!("the guest did not say \"{pattern}\" in {timeout:?}\n{}", self.report());
            }
        }
    }

    /// How the machine ended.
    ///
    /// **Blocking** until it has, at most for `timeout`, which is an error. So is a
    /// QEMU that did not get as far as running the guest.
    pub fn exit_status(&self, timeout: Duration) -> Result<GuestExit> {
        match self.process.wait(timeout)? {
            Some(status) => {
                // The last words may still be in the pipe.
                let spoke = self.console.wait_for(0, Instant::now() + Duration::from_secs(1));
                let exit = GuestExit::from_qemu(status, spoke).map_err(|error| {
                    refusal::explain(self.process.complaints())
                        .map_or_else(|| anyhow!("{error}\n{}", self.report()), Error::msg)
                })?;
                let is_over = self.is_replayed && exit == GuestExit::Reset;
                Ok(if is_over { GuestExit::Replayed } else { exit })
            }
            None => bail!("the guest did not end in {timeout:?}\n{}", self.report()),
        }
    }

    /// Whether the machine is still running.
    #[must_use]
    pub fn running(&self) -> bool {
        matches!(self.process.wait(Duration::ZERO), Ok(None))
    }

    /// The host's ports that lead to applications.
    #[must_use]
    pub fn forwards(&self) -> &[Forwarded] {
        &self.forwards
    }

    /// The host port that leads to the store: to [`STORE_PORT`] of the first application
    /// that has it forwarded.
    #[must_use]
    pub fn udp_port(&self) -> Option<u16> {
        self.port_to(Transport::Udp, STORE_PORT)
    }

    /// The host port that leads to the store's connections, as [`Machine::udp_port`].
    #[must_use]
    pub fn tcp_port(&self) -> Option<u16> {
        self.port_to(Transport::Tcp, STORE_PORT)
    }

    /// Where the host reaches the store.
    #[must_use]
    pub fn store_address(&self, transport: Transport) -> Option<SocketAddr> {
        self.forward_to(transport, STORE_PORT).map(Forwarded::reached)
    }

    /// The host port that leads to the echo service: to [`ECHO_PORT`].
    #[must_use]
    pub fn echo_port(&self) -> Option<u16> {
        self.port_to(Transport::Udp, ECHO_PORT)
    }

    fn port_to(&self, transport: Transport, port: u16) -> Option<u16> {
        self.forward_to(transport, port).map(|forward| forward.host)
    }

    fn forward_to(&self, transport: Transport, port: u16) -> Option<&Forwarded> {
        let mut forwards = self.forwards.iter();
        forwards.find(|forward| (forward.transport, forward.guest.1) == (transport, port))
    }

    /// A client of the store, once the store answers.
    ///
    /// **Blocking** until it does, at most for `timeout`; fails at once if the
    /// guest ends.
    pub fn store(&self, timeout: Duration) -> Result<Client> {
        let mut client = self.store_client()?;
        let deadline = Instant::now() + timeout;
        while !self.answers(&mut client)? {
            ensure!(self.running(), "the guest ended before the store answered\n{}", self.report());
            if Instant::now() >= deadline {
                bail!("the store did not answer in {timeout:?}\n{}", self.report());
            }
        }
        Ok(client)
    }

    /// A client of the store, whether or not it answers yet.
    pub fn store_client(&self) -> Result<Client> {
        let address = self.store_address(Transport::Udp);
        Ok(Client::connect(address.context("this machine has no store that can be reached")?)?)
    }

    /// Asks the store for its version, once, for a quarter of a second. Not before the guest has
    /// spoken: until then another program may have the host's port.
    pub fn answers(&self, client: &mut Client) -> Result<bool> {
        if !self.console.wait_for(0, Instant::now() + Duration::from_millis(250)) {
            return Ok(false);
        }
        let patience = (client.timeout, client.attempts);
        (client.timeout, client.attempts) = (Duration::from_millis(250), 1);
        let answer = client.version();
        (client.timeout, client.attempts) = patience;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.is_silence() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The other end of the NIC, with [`Network::Frames`].
    #[must_use]
    pub fn frames(&self) -> Option<&FrameSocket> {
        self.frames.as_ref()
    }

    /// Gives the guest's processors one processor of the host, and the rest of QEMU and
    /// the calling thread the others: on one processor together, guest and generator take
    /// turns. Machines that are pinned by one thread share the first; what was pinned before
    /// they were booted, they inherit. None if QEMU may use fewer than two.
    pub fn pin(&self) -> Result<Option<Pinned>> {
        pin::pin(self.process.id())
    }

    /// The process id of its QEMU.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The QEMU command line, as one would type it; only with [`Config::keep_bundle`] does
    /// the boot bundle have a name in it that means something to another process.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Ends the machine so that QEMU writes all that it has to; how it ended, if it had ended before.
    ///
    /// **Blocking** until it has ended, for some seconds at most.
    pub fn end(&self) -> Result<Option<GuestExit>> {
        if self.running() {
            self.process.terminate()?;
            return Ok(None);
        }
        self.exit_status(Duration::ZERO).map(Some)
    }

    /// The whole console with its backtraces explained, and what QEMU had to say.
    #[must_use]
    pub fn report(&self) -> String {
        let mut symboliser = Symboliser::default();
        let mut report = String::from("---- console ----\n");
        for line in self.console.lines() {
            report.push_str(&line);
            report.push('\n');
            for frame in symboliser.explain(&line) {
                report.push_str(&frame);
                report.push('\n');
            }
        }
        for line in self.process.complaints().lines() {
            report.push_str("qemu: ");
            report.push_str(line);
            report.push('\n');
        }
        for line in self.passt.iter().flat_map(Passt::complaints) {
            report.push_str("passt: ");
            report.push_str(&line);
            report.push('\n');
        }
        report.push_str("-----------------");
        report
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Only tests unwind, and their harness keeps for each what goes through this macro.
            #[allow(clippy::print_stderr)]
            {
                eprintln!("{}", self.report());
                // A test's thread has its name, and its seeds are in its text.
                if let Some(test) = std::thread::current().name() {
                    eprintln!("to repeat: cargo exo test {test}");
                }
            }
        }
        self.process.kill();
    }
}
