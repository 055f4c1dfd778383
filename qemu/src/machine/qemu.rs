//! The QEMU command line.
//!
//! The machine is `microvm` without anything it does not need: no ACPI, no PCI, no
//! legacy timers; a serial line, a virtio NIC on MMIO, and a port to end it all.
//! QEMU tells the kernel where the NIC is on the kernel's command line.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::accel::Accel;
use super::config::{Config, Filters, HostPort, Network};
use super::emulator::Emulator;
use super::frames::FrameSocket;
use super::{ECHO_PORT, STORE_PORT};
use crate::prerequisites::QEMU;

/// The guest's Ethernet address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A UDP port of the host's loopback interface that leads into the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forward {
    pub(super) host: u16,
    guest: (Ipv4Addr, u16),
}

/// The forwards of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forwards {
    pub(super) store: Option<Forward>,
    pub(super) echo: Option<Forward>,
}

/// Everything that goes into a command line.
pub(super) struct Launch<'a> {
    pub(super) config: &'a Config,
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) forwards: &'a Forwards,
    pub(super) frames: Option<&'a FrameSocket>,
}

impl Forwards {
    /// Finds the services in the manifest and host ports for them.
    pub(super) fn choose(config: &Config) -> Result<Self> {
        let to = |host: HostPort, address: Ipv4Addr, port: u16| -> Result<Option<Forward>> {
            let host = match host {
                HostPort::None => return Ok(None),
                HostPort::Fixed(port) => port,
                HostPort::Free => free_port()?,
            };
            Ok(Some(Forward { host, guest: (address, port) }))
        };
        let (store, echo) = match config.network {
            Network::Frames => return Ok(Self::default()),
            Network::Store { address, host } => {
                return Ok(Self { store: to(host, address, STORE_PORT)?, echo: None });
            }
            Network::User { store, echo } => (store, echo),
        };
        let forward = |image: &str, host: HostPort, port: u16| {
            let app = config.manifest.apps.iter().find(|app| app.image == image);
            let Some(address) = app.and_then(|app| app.address) else { return Ok(None) };
            to(host, address.into(), port)
        };
        Ok(Self {
            store: forward("kvstore", store, STORE_PORT)?,
            echo: forward("echo", echo, ECHO_PORT)?,
        })
    }
}

impl Launch<'_> {
    /// The command, ready to be started.
    ///
    /// # Errors
    /// If there is no QEMU.
    pub(super) fn command(&self) -> Result<Command> {
        let mut command = Emulator::find()?.command();
        command.args(self.arguments());
        Ok(command)
    }

    fn arguments(&self) -> Vec<OsString> {
        let config = self.config;
        let accel = match config.accel {
            Accel::Tcg => ["-accel", "tcg", "-cpu", "max"],
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
        };
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |arguments: &[&str]| all.extend(arguments.iter().map(OsString::from));
        let machine = "microvm,acpi=off,pic=off,pit=off,rtc=off,isa-serial=on";
        match &config.network {
            Network::VhostUser(_) => {
                // Memory of a file that another process can map, and threads that can be
                // told apart.
                let size = config.memory;
                add(&["-M", &format!("{machine},memory-backend=ram")]);
                add(&["-object", &format!("memory-backend-memfd,id=ram,size={size}M,share=on")]);
                add(&["-name", "exo,debug-threads=on"]);
            }
            Network::User { .. } | Network::Frames => add(&["-M", machine]),
        }
        add(&["-global", "virtio-mmio.force-legacy=false"]);
        add(&accel);
        add(&["-m", &format!("{}M", config.memory), "-smp", &config.cpus.to_string()]);
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if let Network::VhostUser(path) = &config.network {
            // A comma ends an argument's part, and is itself written twice.
            let path = path.display().to_string().replace(',', ",,");
            add(&["-chardev", &format!("socket,id=nic,path={path}")]);
        }
        add(&["-netdev", &self.netdev()]);
        add(&["-device", &format!("virtio-net-device,netdev=n0,mac={}", mac())]);
        if config.filters == Filters::Interpreted {
            add(&["-append", "filters=interpreted"]);
        }
        if config.icount {
            add(&["-icount", "shift=0,sleep=off"]);
        }
        if let Some(port) = config.gdb {
            add(&["-gdb", &format!("tcp:127.0.0.1:{port}"), "-S"]);
        }
        all.extend(["-kernel".into(), self.kernel.into(), "-initrd".into(), self.initrd.into()]);
        all.extend(config.extra.iter().map(OsString::from));
        all
    }

    fn netdev(&self) -> String {
        if let Some(frames) = self.frames {
            return frames.netdev("n0");
        }
        if let Network::VhostUser(_) = self.config.network {
            return "vhost-user,id=n0,chardev=nic".to_owned();
        }
        // Not `restrict=on`: it would drop the guest's answers to forwarded datagrams.
        let mut netdev = String::from("user,id=n0");
        for forward in [self.forwards.store, self.forwards.echo].into_iter().flatten() {
            let (address, port) = forward.guest;
            netdev += &format!(",hostfwd=udp:127.0.0.1:{}-{address}:{port}", forward.host);
        }
        netdev
    }
}

impl fmt::Display for Launch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(QEMU.name)?;
        for argument in self.arguments() {
            let argument = argument.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,.:/+".contains(c);
            match argument.chars().all(plain) {
                true => write!(f, " {argument}")?,
                false => write!(f, " '{}'", argument.replace('\'', r"'\''"))?,
            }
        }
        Ok(())
    }
}

/// Fails if another program listens on a UDP port of the loopback interface.
pub(crate) fn ensure_free(port: u16, option: &str, service: &str) -> Result<()> {
    ensure!(
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
        "UDP port {port} on 127.0.0.1, meant for {service}, is taken by another program \
         (another `cargo exo run`?); choose another with {option}"
    );
    Ok(())
}

/// A UDP port that was free a moment ago.
fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port")?;
    Ok(socket.local_addr()?.port())
}

fn mac() -> String {
    GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &Config) -> String {
        let forwards = Forwards::choose(config).unwrap();
        let (kernel, initrd) = (Path::new("exokernel"), Path::new("the bundle"));
        Launch { config, kernel, initrd, forwards: &forwards, frames: None }.to_string()
    }

    #[test]
    fn forwards_the_ports_asked_for() {
        let mut config = Config::named("default").unwrap();
        config.network = Network::User { store: HostPort::Fixed(1), echo: HostPort::Fixed(2) };
        let forwards = "user,id=n0,hostfwd=udp:127.0.0.1:1-10.0.2.15:11211,\
                        hostfwd=udp:127.0.0.1:2-10.0.2.16:7 ";
        assert!(line(&config).contains(forwards), "{}", line(&config));
        config.network = Network::User { store: HostPort::Fixed(1), echo: HostPort::None };
        assert!(line(&config).contains("10.0.2.15:11211 "), "{}", line(&config));
    }

    #[test]
    fn forwards_to_a_store_that_no_manifest_names() {
        let mut config = Config::bare();
        let address = Ipv4Addr::new(10, 0, 2, 99);
        config.network = Network::Store { address, host: HostPort::Fixed(3) };
        let forward = "user,id=n0,hostfwd=udp:127.0.0.1:3-10.0.2.99:11211 ";
        assert!(line(&config).contains(forward), "{}", line(&config));
    }

    #[test]
    fn shares_memory_with_a_nic_of_another_process() {
        let mut config = Config::named("default").unwrap();
        assert!(!line(&config).contains("memfd"));
        config.network = Network::VhostUser("/tmp/a,b/nic".into());
        let line = line(&config);
        assert!(line.contains("-object memory-backend-memfd,id=ram,size=128M,share=on"), "{line}");
        assert!(line.contains("memory-backend=ram -object"), "{line}");
        let netdev =
            "-chardev socket,id=nic,path=/tmp/a,,b/nic -netdev vhost-user,id=n0,chardev=nic";
        assert!(line.contains(netdev), "{line}");
    }

    #[test]
    fn quotes_what_a_shell_would_split() {
        let config = Config::named("default").unwrap();
        assert!(line(&config).ends_with(" -kernel exokernel -initrd 'the bundle'"));
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = ensure_free(port, "--port", "the store").unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
        drop(taken);
        assert!(ensure_free(port, "--port", "the store").is_ok());
    }
}
