//! The QEMU command line.
//!
//! The machine is `microvm` without anything it does not need: no ACPI, no PCI, no
//! legacy timers; a serial line, a virtio NIC and, if it is to have one, a virtio disk on MMIO, and
//! a port to end it all. QEMU tells the kernel where the devices are on the kernel's command line.

use std::ffi::OsString;
use std::fmt;
use std::iter;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::accel::Accel;
use super::config::{Config, Network};
use super::emulator::Emulator;
use super::forwards::Forwarded;
use super::frames::FrameSocket;
use crate::prerequisites::QEMU;
use crate::shell;

/// The guest's Ethernet address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Everything that goes into a command line.
pub(super) struct Launch<'a> {
    pub(super) config: &'a Config,
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) forwards: &'a [Forwarded],
    pub(super) frames: Option<&'a FrameSocket>,
    /// The number of an open socket to `passt`.
    pub(super) passt: Option<RawFd>,
}

impl Launch<'_> {
    /// The command, ready to be started.
    ///
    /// # Errors
    /// If there is no QEMU.
    pub(super) fn command(&self) -> Result<Command> {
        let emulator = Emulator::find()?;
        let mut command = emulator.command();
        command.args(self.arguments(Some(&emulator)));
        Ok(command)
    }

    /// For this emulator; if it is not known, for one like the oldest that was tried.
    fn arguments(&self, emulator: Option<&Emulator>) -> Vec<OsString> {
        let config = self.config;
        let accel = match config.accel {
            Accel::Tcg => ["-accel", "tcg", "-cpu", "max"],
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
        };
        let mut all: Vec<OsString> = Vec::new();
        let mut add = |arguments: &[&str]| all.extend(arguments.iter().map(OsString::from));
        // Without a timer of some device QEMU gives no packet to a recorded guest that sleeps.
        let pit = if config.recording.is_some() { "on" } else { "off" };
        let machine = format!("microvm,acpi=off,pic=off,pit={pit},rtc=off,isa-serial=on");
        let by_process = matches!(config.network, Network::VhostUser(_));
        if by_process || config.shared_memory {
            // Memory of a file that another process can map.
            let size = config.memory;
            add(&["-M", &format!("{machine},memory-backend=ram")]);
            add(&["-object", &format!("memory-backend-memfd,id=ram,size={size}M,share=on")]);
        } else {
            add(&["-M", &machine]);
        }
        if by_process {
            // Threads that can be told apart.
            add(&["-name", "exo,debug-threads=on"]);
        }
        add(&["-global", "virtio-mmio.force-legacy=false"]);
        add(&accel);
        add(&["-m", &format!("{}M", config.memory), "-smp", &config.cpus.to_string()]);
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        if let Network::VhostUser(path) = &config.network {
            let mut socket = OsString::from("socket,id=nic,path=");
            socket.push(option_value(path));
            all.extend(["-chardev".into(), socket]);
        }
        all.extend(["-netdev".into(), self.netdev()]);
        if config.recording.is_some() {
            all.extend(["-object", "filter-replay,id=replay,netdev=n0"].map(OsString::from));
        }
        let mut add = |arguments: &[&str]| all.extend(arguments.iter().map(OsString::from));
        // With instructions for time the device sends from the guest's own thread, a nanosecond
        // after it is told to. Otherwise another thread sends, and whether the guest is
        // interrupted once more before it sleeps is left to the host; no recording has that.
        let by_timer = config.recording.is_some()
            || config.icount && emulator.is_none_or(Emulator::sends_by_timer);
        let sends = if by_timer { ",tx=timer,x-txtimer=1" } else { "" };
        add(&["-device", &format!("virtio-net-device,netdev=n0,mac={}{sends}", mac())]);
        if let Some(file) = &config.capture {
            let mut dump = OsString::from("filter-dump,id=capture,netdev=n0,file=");
            dump.push(option_value(file));
            all.extend(["-object".into(), dump]);
        }
        all.extend(self.disk());
        let mut add = |arguments: &[&str]| all.extend(arguments.iter().map(OsString::from));
        if config.icount {
            add(&["-icount", "shift=0,sleep=off"]);
        }
        if let Some(recording) = &config.recording {
            all.extend(["-icount".into(), recording.icount()]);
            if recording.goes_back() {
                all.extend(["-drive".into(), recording.snapshot_drive()]);
            }
        }
        let mut add = |arguments: &[&str]| all.extend(arguments.iter().map(OsString::from));
        if let Some(port) = config.gdb {
            add(&["-gdb", &format!("tcp:127.0.0.1:{port}"), "-S"]);
        }
        all.extend(["-kernel".into(), self.kernel.into(), "-initrd".into(), self.initrd.into()]);
        all.extend(config.extra.iter().cloned());
        all
    }

    /// The drive and the device of the machine's disk, if it has one.
    fn disk(&self) -> Vec<OsString> {
        let own = self.config.disk.as_ref().map(|disk| disk.path.as_path());
        let recording = self.config.recording.as_ref();
        let file = match recording {
            Some(recording) => recording.image(own),
            None => own.map(Path::to_owned),
        };
        let Some(file) = file else { return Vec::new() };
        // What the guest flushes, QEMU does: `fdatasync`.
        let id = if recording.is_some() { "image" } else { "disk" };
        let mut drive = OsString::from(format!("if=none,id={id},format=raw,cache=writeback,"));
        if recording.is_some_and(|recording| !recording.is_new()) {
            // What the machine writes goes nowhere.
            drive.push("snapshot=on,");
        }
        drive.push("file=");
        drive.push(option_value(&file));
        let mut all = vec!["-drive".into(), drive];
        if recording.is_some() {
            all.extend(
                ["-drive", "driver=blkreplay,if=none,image=image,id=disk"].map(OsString::from),
            );
        }
        all.extend(["-device", "virtio-blk-device,drive=disk"].map(OsString::from));
        all
    }

    fn netdev(&self) -> OsString {
        if let Some(frames) = self.frames {
            return frames.netdev("n0");
        }
        if let Network::VhostUser(_) = self.config.network {
            return "vhost-user,id=n0,chardev=nic".into();
        }
        if let Some(socket) = self.passt {
            return format!("stream,id=n0,server=off,addr.type=fd,addr.str={socket}").into();
        }
        if let Network::Tap(device) = &self.config.network {
            return format!("tap,id=n0,ifname={device},script=no,downscript=no").into();
        }
        // Not `restrict=on`: it would drop the guest's answers to forwarded datagrams.
        let mut netdev = String::from("user,id=n0");
        for forward in self.forwards {
            netdev.push(',');
            netdev += &forward.hostfwd();
        }
        netdev.into()
    }
}

impl fmt::Display for Launch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(QEMU.name)?;
        self.arguments(Emulator::find().ok().as_ref())
            .iter()
            .try_for_each(|argument| write!(f, " {}", shell::quote(argument)))
    }
}

/// A path as part of an argument: QEMU splits at commas, and reads two as one.
pub(crate) fn option_value(path: &Path) -> OsString {
    let doubled = |&byte: &u8| iter::repeat_n(byte, if byte == b',' { 2 } else { 1 });
    OsString::from_vec(path.as_os_str().as_bytes().iter().flat_map(doubled).collect())
}

fn mac() -> String {
    GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::super::config::{HostPorts, Network};
    use super::super::forwards;
    use super::*;
    use crate::disk::Place;

    fn line(config: &Config) -> String {
        let forwards = forwards::choose(config).unwrap();
        let (kernel, initrd) = (Path::new("exokernel"), Path::new("the bundle"));
        let passt = matches!(config.network, Network::Passt(_)).then_some(9);
        Launch { config, kernel, initrd, forwards: &forwards, frames: None, passt }.to_string()
    }

    #[test]
    fn forwards_the_ports_asked_for() {
        let mut config = Config::named("default").unwrap();
        config.network = Network::User(HostPorts::Stated);
        let forwards = "user,id=n0,hostfwd=udp:127.0.0.1:11211-10.0.2.15:11211,\
                        hostfwd=tcp:127.0.0.1:11211-10.0.2.15:11211,\
                        hostfwd=udp:127.0.0.1:7007-10.0.2.16:7 ";
        assert!(line(&config).contains(forwards), "{}", line(&config));
        config.manifest.apps[1].forward.clear();
        assert!(line(&config).contains("10.0.2.15:11211 "), "{}", line(&config));
    }

    #[test]
    fn a_tap_device_and_passt_are_back_ends() {
        let mut config = Config::named("default").unwrap();
        config.network = Network::Tap("exo0".into());
        let tap = "-netdev tap,id=n0,ifname=exo0,script=no,downscript=no ";
        assert!(line(&config).contains(tap), "{}", line(&config));
        config.network = Network::Passt(HostPorts::Stated);
        let passt = "-netdev stream,id=n0,server=off,addr.type=fd,addr.str=9 ";
        assert!(line(&config).contains(passt), "{}", line(&config));
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
    fn memory_is_shared_and_packets_captured_if_wanted() {
        let mut config = Config::named("default").unwrap();
        config.shared_memory = true;
        config.capture = Some("/tmp/a,b.pcap".into());
        let line = line(&config);
        assert!(line.contains("memory-backend=ram -object memory-backend-memfd,id=ram"), "{line}");
        assert!(line.contains("filter-dump,id=capture,netdev=n0,file=/tmp/a,,b.pcap"), "{line}");
        assert!(!line.contains("debug-threads"), "{line}");
    }

    #[test]
    fn a_disk_is_a_drive() {
        let mut config = Config::named("default").unwrap();
        config.disk = Some(Place { path: "/tmp/a,b.img".into(), sectors: None });
        let line = line(&config);
        assert!(line.contains("file=/tmp/a,,b.img -device virtio-blk-device,drive=disk"), "{line}");
    }

    #[test]
    fn quotes_what_a_shell_would_split() {
        let config = Config::named("default").unwrap();
        assert!(line(&config).ends_with(" -kernel exokernel -initrd 'the bundle'"));
    }

    #[test]
    fn commas_of_paths_are_doubled() {
        for (path, value) in [("a,b,", "a,,b,,"), (",", ",,"), ("plain", "plain")] {
            assert_eq!(option_value(Path::new(path)), value);
        }
    }
}
