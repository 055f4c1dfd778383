//! The server of `cargo exo load`, and the way there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use exo_load::Wire;
use exo_load::protocol::Protocol;
use exo_load::wire::sockets::Sockets;
use exo_load::wire::vhost::Listener;
use tempfile::TempDir;

use crate::bench::conditions::Conditions;
use crate::machine::{Accel, Choice, Config, ECHO_PORT, Machine, Network, STORE_PORT};
use crate::output::note;
use crate::prerequisites::QEMU;
use crate::signals::Signals;
use crate::{guest, manifest, workspace};

/// Most KiB a second that a source of datagrams can be allowed: as good as no limit.
const MOST_UDP_KIB: u32 = (1 << 22) - 1;

/// How long a guest may take to start its network interface.
const BOOT: Duration = Duration::from_secs(120);
/// This end's UDP port on a guest's network.
const PORT: u16 = 40_000;
/// Where the store of `cargo exo run` listens.
const DEFAULT: &str = "127.0.0.1:11211";

/// Where the load goes.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The server; with --vhost-user its address in the guest
    /// [default: 127.0.0.1:11211; with --vhost-user 10.0.2.15:11211]
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Boot Exo and be its network interface (vhost-user)
    #[arg(long, conflicts_with_all = ["server", "vhost_user"])]
    exo: bool,
    /// Be the network interface of the first QEMU that connects to this socket, which must
    /// not exist yet
    #[arg(long, value_name = "SOCKET")]
    vhost_user: Option<PathBuf>,
    /// With --vhost-user: the IPv4 address that the load comes from
    #[arg(long, value_name = "IP", default_value = "10.0.2.2")]
    address: Ipv4Addr,
    /// With --exo: the boot manifest [default: boot/manifests/default.toml]
    #[arg(long, value_name = "FILE", requires = "exo")]
    manifest: Option<PathBuf>,
    /// With --exo: what executes the guest's instructions
    #[arg(long, value_enum, default_value_t = Choice::Tcg)]
    accel: Choice,
    /// With --exo: do not give the guest a processor of the host for itself
    #[arg(long, requires = "exo")]
    no_pin: bool,
}

/// A way to a server, and the machine it is in if that was booted for it.
pub(super) struct End {
    // Before the machine: it must not outlive what it is connected to.
    wire: Box<dyn Wire>,
    machine: Option<Machine>,
    server: String,
    note: String,
    accelerator: Option<&'static str>,
    _dir: Option<TempDir>,
}

impl Place {
    /// Opens the way, and boots the machine if there is to be one.
    pub(super) fn open(&self, protocol: Protocol, interrupt: &Signals) -> Result<End> {
        let end = |wire: Box<dyn Wire>, server: String| End {
            wire,
            machine: None,
            server,
            note: String::new(),
            accelerator: None,
            _dir: None,
        };
        if self.exo {
            return self.boot(protocol, interrupt);
        }
        let Some(path) = &self.vhost_user else {
            let name = self.server.as_deref().unwrap_or(DEFAULT);
            let wire = Sockets::connect(resolve(name)?)?;
            return Ok(end(Box::new(wire), name.to_owned()));
        };
        let default = format!("10.0.2.15:{STORE_PORT}");
        let name = self.server.as_deref().unwrap_or(&default);
        let SocketAddr::V4(server) = resolve(name)? else {
            bail!("{name} is no IPv4 address; a guest is reached by one");
        };
        let listener = Listener::bind(path)?;
        let path = path.display();
        note!(
            "waiting for a QEMU at {path}; its arguments:\n  \
             -object memory-backend-memfd,id=ram,size=SIZE,share=on -machine memory-backend=ram \
             -chardev socket,id=nic,path={path} -netdev vhost-user,id=n0,chardev=nic \
             -device virtio-net-device,netdev=n0"
        );
        let own = (self.address, PORT);
        let server = (*server.ip(), server.port());
        let wire = listener.connect(own, server, BOOT, || Ok(interrupt.check()?))?;
        Ok(end(Box::new(wire), name.to_owned()))
    }

    fn boot(&self, protocol: Protocol, interrupt: &Signals) -> Result<End> {
        QEMU.require()?;
        let path = self.manifest.clone().unwrap_or_else(|| workspace::manifest("default"));
        let mut config = Config::new(manifest::read(&path)?);
        let (image, port) = match protocol {
            Protocol::Memcached => ("kvstore", STORE_PORT),
            Protocol::Echo => ("echo", ECHO_PORT),
        };
        let app = config.manifest.apps.iter_mut().find(|app| app.image == image);
        let address = app.as_ref().and_then(|app| app.address);
        // All load has one source, and its answers may be several datagrams each; unless the
        // manifest says so, what a source is sent at most is not what is tried.
        if let Some(app) = app
            && protocol == Protocol::Memcached
            && !app.args.iter().any(|argument| argument.starts_with("udp-kib="))
        {
            app.args.push(format!("udp-kib={MOST_UDP_KIB}"));
        }
        let address = address.with_context(|| {
            format!("{} has no {image} with an address to be loaded", path.display())
        })?;
        let own = (Ipv4Addr::from(config.manifest.gateway), PORT);
        guest::build(&config.manifest)?;
        config.accel = self.accel.decide(&config, interrupt)?;

        // Not in the build directory: a socket's path may have 107 bytes.
        let dir = tempfile::Builder::new().prefix("exo-load-").tempdir()?;
        let socket = dir.path().join("nic");
        let listener = Listener::bind(&socket)?;
        config.network = Network::VhostUser(socket);
        let machine = Machine::boot(&config)?;
        let server = (Ipv4Addr::from(address), port);
        let wire = listener
            .connect(own, server, BOOT, || {
                interrupt.check()?;
                ensure!(machine.running(), "the machine has ended");
                Ok(())
            })
            .with_context(|| machine.report())?;
        let pinned = if self.no_pin { None } else { machine.pin()? };
        let pinned = match pinned {
            Some(pinned) => format!(
                "the guest's {} processor alone on processor {} of the host",
                pinned.threads, pinned.guest
            ),
            None => "the guest is not pinned".to_owned(),
        };
        let accelerator = match config.accel {
            Accel::Tcg => "TCG",
            Accel::Kvm => "KVM",
        };
        Ok(End {
            wire: Box::new(wire),
            note: format!("machine    {}\n           {pinned}\n", machine.command()),
            machine: Some(machine),
            server: format!("{}:{} in Exo", server.0, server.1),
            accelerator: Some(accelerator),
            _dir: Some(dir),
        })
    }
}

impl End {
    pub(super) fn wire(&mut self) -> &mut dyn Wire {
        &mut *self.wire
    }

    /// The server's name.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Lines about the machine, for the head of the report.
    pub(super) fn note(&self) -> &str {
        &self.note
    }

    /// What may explain that the server does not answer.
    pub(super) fn trouble(&self) -> String {
        match &self.machine {
            Some(machine) => machine.report(),
            None => format!("is it still running, and {} the right address?", self.server),
        }
    }

    pub(super) fn conditions(&self) -> Conditions {
        match self.accelerator {
            Some(accelerator) => Conditions::now(accelerator),
            None => Conditions::on_host(),
        }
    }
}

/// The address of `HOST:PORT`; of several the first IPv4 one, for a server that listens
/// on one of them listens on that.
fn resolve(name: &str) -> Result<SocketAddr> {
    let form = "write a server as HOST:PORT, such as 127.0.0.1:11211 or localhost:11211";
    let addresses: Vec<_> =
        name.to_socket_addrs().with_context(|| format!("cannot find {name}; {form}"))?.collect();
    let four = addresses.iter().find(|address| matches!(address.ip(), IpAddr::V4(_)));
    four.or(addresses.first()).copied().with_context(|| format!("{name} has no address; {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved() {
        assert_eq!(resolve("127.0.0.1:5").unwrap(), "127.0.0.1:5".parse().unwrap());
        assert_eq!(resolve("localhost:5").unwrap(), "127.0.0.1:5".parse().unwrap());
        for name in ["", "127.0.0.1", "localhost:port", "127.0.0.1:70000"] {
            assert!(resolve(name).unwrap_err().to_string().contains("HOST:PORT"), "{name}");
        }
    }
}
