//! The host's ports that lead into a machine: which, and to which ports of which address.
//!
//! Not on the packet path: QEMU's user-mode network, or `passt`, passes on what comes to these ports. The
//! manifest says which there are (`forward`), a test may have any that are free instead. Over a
//! TAP device none is needed: what would be forwarded is reached where it is.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use root::manifest::{Manifest, Transport};

use super::STORE_PORT;
use super::config::{Config, HostPorts, Network};
use super::ports::{Protocol, free_port_of};

/// Where this host reaches a port of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The application's name.
    pub app: String,
    /// Of what both are ports.
    pub transport: Transport,
    /// Its address and port.
    pub guest: (Ipv4Addr, u16),
    /// The port that leads there.
    pub host: u16,
    /// Of this address: the loopback interface's, or the application's own.
    pub on: Ipv4Addr,
}

impl Forwarded {
    /// What QEMU is told of it.
    pub(super) fn hostfwd(&self) -> String {
        let (address, port) = self.guest;
        let protocol = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        format!("hostfwd={protocol}:127.0.0.1:{}-{address}:{port}", self.host)
    }

    /// Where the host reaches it.
    #[must_use]
    pub fn reached(&self) -> SocketAddr {
        (self.on, self.host).into()
    }

    /// What `passt` is told of it: an option and its value.
    pub(super) fn passt_ports(&self) -> [String; 2] {
        let option = match self.transport {
            Transport::Udp => "--udp-ports",
            Transport::Tcp => "--tcp-ports",
        };
        [option.to_owned(), format!("{}/{}:{}", self.on, self.host, self.guest.1)]
    }

    /// What both are ports of, as it is called.
    #[must_use]
    pub(crate) fn protocol(&self) -> Protocol {
        self.transport.into()
    }
}

/// The forwards that a manifest states.
#[must_use]
pub(crate) fn stated(manifest: &Manifest) -> Vec<Forwarded> {
    let apps = manifest.apps.iter().filter_map(|app| Some((app, Ipv4Addr::from(app.address?))));
    apps.flat_map(|(app, address)| {
        app.forward.iter().map(move |forward| Forwarded {
            app: app.name.clone(),
            transport: forward.transport,
            guest: (address, forward.guest),
            host: forward.host,
            on: Ipv4Addr::LOCALHOST,
        })
    })
    .collect()
}

/// Fails if a port of the host is to lead to two places.
pub(crate) fn ensure_distinct(forwards: &[Forwarded]) -> Result<()> {
    for (index, forward) in forwards.iter().enumerate() {
        let is_same =
            |other: &&Forwarded| (other.transport, other.host) == (forward.transport, forward.host);
        let earlier = forwards.iter().take(index).find(is_same);
        let Some(Forwarded { app, guest, .. }) = earlier else { continue };
        bail!(
            "{} port {} of the host is to lead to port {} of \"{app}\" and to port {} of \"{}\"; \
             choose another for one (`forward = [\"udp:PORT:HOSTPORT\"]` in the manifest; --port \
             and --echo-port)",
            forward.protocol(),
            forward.host,
            guest.1,
            forward.guest.1,
            forward.app
        );
    }
    Ok(())
}

/// The forwards of the machine that `config` describes.
pub(super) fn choose(config: &Config) -> Result<Vec<Forwarded>> {
    let ports = match config.network {
        Network::User(ports) | Network::Passt(ports) => ports,
        Network::Tap(_) => return Ok(direct(&config.manifest)),
        Network::Store(address) => {
            let host = free_port_of(&[Protocol::Udp, Protocol::Tcp])?;
            let on = Ipv4Addr::LOCALHOST;
            let forward = |transport| {
                let (app, guest) = ("store".to_owned(), (address, STORE_PORT));
                Forwarded { app, transport, guest, host, on }
            };
            return Ok([Transport::Udp, Transport::Tcp].map(forward).into());
        }
        Network::Frames | Network::VhostUser(_) => return Ok(Vec::new()),
    };
    let mut forwards = stated(&config.manifest);
    if matches!(config.network, Network::Passt(_)) {
        keep_first(&mut forwards);
    }
    match ports {
        HostPorts::None => forwards.clear(),
        HostPorts::Stated => ensure_distinct(&forwards)?,
        HostPorts::Free => {
            // What has one number in the manifest has one here.
            let stated = forwards.clone();
            for (index, own) in stated.iter().enumerate() {
                let with_own = |other: &Forwarded| other.host == own.host;
                forwards[index].host = match stated.iter().position(with_own) {
                    Some(first) if first < index => forwards[first].host,
                    _ => {
                        let twins = stated.iter().filter(|other| with_own(other));
                        free_port_of(&twins.map(Forwarded::protocol).collect::<Vec<_>>())?
                    }
                };
            }
        }
    }
    Ok(forwards)
}

/// The same ports, as they are reached without being forwarded.
pub(crate) fn direct(manifest: &Manifest) -> Vec<Forwarded> {
    let own = |forward: Forwarded| {
        let (on, host) = forward.guest;
        Forwarded { on, host, ..forward }
    };
    stated(manifest).into_iter().map(own).collect()
}

/// Keeps those to the address that the first leads to. Returns the applications that are not
/// reached then.
pub(crate) fn keep_first(forwards: &mut Vec<Forwarded>) -> Vec<String> {
    let Some(address) = forwards.first().map(|forward| forward.guest.0) else { return Vec::new() };
    let others = forwards.extract_if(.., |forward| forward.guest.0 != address);
    let mut apps: Vec<_> = others.map(|forward| forward.app).collect();
    apps.dedup();
    apps
}

#[cfg(test)]
mod tests {
    use root::manifest::{Forward, Transport};

    use super::*;

    #[test]
    fn the_manifest_says_which() {
        let mut config = Config::named("default").unwrap();
        config.network = Network::User(HostPorts::Stated);
        let [store, tcp, echo] = &choose(&config).unwrap()[..] else { panic!() };
        assert_eq!((tcp.host, tcp.guest, tcp.transport), (11211, store.guest, Transport::Tcp));
        let address = |last| Ipv4Addr::new(10, 0, 2, last);
        assert_eq!((store.host, store.guest), (11211, (address(15), 11211)));
        assert_eq!((echo.host, echo.guest), (7007, (address(16), 7)));

        // Whatever an application is called, and however many ports it has.
        let app = &mut config.manifest.apps[1];
        (app.name, app.image) = ("mine".to_owned(), "other".to_owned());
        let transport = Transport::Udp;
        app.forward.push(Forward { transport, guest: 9999, host: 12345 });
        let guest = (address(16), 9999);
        let on = Ipv4Addr::LOCALHOST;
        let mine = Forwarded { app: "mine".into(), transport, guest, host: 12345, on };
        assert_eq!(choose(&config).unwrap()[3], mine);

        config.network = Network::User(HostPorts::Free);
        let free = choose(&config).unwrap();
        assert_eq!(free[3].guest, mine.guest);
        assert_eq!(free[0].host, free[1].host, "one number for UDP and TCP");
        assert!(free.iter().all(|forward| forward.host > 0));
        config.network = Network::User(HostPorts::None);
        assert_eq!(choose(&config).unwrap(), []);
        // One address, and what leads there.
        config.network = Network::Passt(HostPorts::Stated);
        let [store, tcp] = &choose(&config).unwrap()[..] else { panic!() };
        assert_eq!(store.passt_ports(), ["--udp-ports", "127.0.0.1/11211:11211"]);
        assert_eq!(tcp.passt_ports(), ["--tcp-ports", "127.0.0.1/11211:11211"]);
        assert_eq!(keep_first(&mut stated(&config.manifest)), ["mine"]);
        // Nothing is forwarded, everything is reached.
        config.network = Network::Tap("exo0".into());
        let reached: Vec<_> = choose(&config).unwrap().iter().map(Forwarded::reached).collect();
        let at = |last, port| SocketAddr::from((address(last), port));
        assert_eq!(reached, [at(15, 11211), at(15, 11211), at(16, 7), at(16, 9999)]);
        config.network = Network::Frames;
        assert_eq!(choose(&config).unwrap(), []);

        // A machine that no manifest describes.
        let mut bare = Config::bare();
        bare.network = Network::Store(address(99));
        let [store, tcp] = &choose(&bare).unwrap()[..] else { panic!() };
        assert_eq!((store.guest, store.transport), ((address(99), 11211), Transport::Udp));
        assert_eq!((tcp.guest, tcp.transport, tcp.host), (store.guest, Transport::Tcp, store.host));
        assert!(store.host > 0);
    }

    #[test]
    fn one_port_leads_to_one_place() {
        let mut config = Config::named("default").unwrap();
        config.network = Network::User(HostPorts::Stated);
        config.manifest.apps[1].forward[0].host = 11211;
        let error = choose(&config).unwrap_err().to_string();
        assert!(
            error.contains("11211") && error.contains("\"kvstore\"") && error.contains("port 7")
        );
    }
}
