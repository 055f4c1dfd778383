//! The store is reached through `passt`, and over a TAP device: what `cargo exo run --net` offers
//! beside QEMU's own network.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use exo_cmd::Error;
use exo_cmd::machine::{Config, HostPorts, Machine, Network};
use exo_cmd::manifest::Transport;
use exo_cmd::prerequisites::PASST;
use machine_tests::{LONG, STORE, manifest, needed, net_app};

fn machine(network: Network) -> exo_cmd::Result<Machine> {
    let mut app = net_app("kvstore", STORE);
    app.frames = 8192;
    let mut config = Config::new(manifest(vec![app]));
    config.network = network;
    Machine::boot(&config)
}

/// Small and large requests, both ways, by both transports.
fn serves(machine: &Machine) {
    let mut datagrams = machine.store(LONG).expect("the store answers");
    datagrams.set(b"datagram", b"value", 0, 0).expect("stored");
    let at = machine.store_address(Transport::Tcp).expect("the store is reached");
    let mut stream = TcpStream::connect(at).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    let value: Vec<u8> = (0..300_000_u32).map(|at| b'a' + (at % 26) as u8).collect();
    let set = [b"set long 0 0 300000\r\n", &value[..], b"\r\n"].concat();
    stream.write_all(&set).expect("sent");
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"STORED\r\n");
    stream.write_all(b"get datagram long\r\nquit\r\n").expect("sent");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("answers");
    let first = b"VALUE datagram 0 5\r\nvalue\r\n";
    let expected = [first, &b"VALUE long 0 300000\r\n"[..], &value, b"\r\nEND\r\n"].concat();
    assert!(all == expected, "{} bytes", all.len());
}

#[test]
fn through_passt() {
    let found = PASST.find().ok_or_else(|| Error::msg("passt is not installed"));
    if needed("through_passt", found).is_some() {
        serves(&machine(Network::Passt(HostPorts::Free)).expect("the machine starts"));
    }
}

/// A TAP device, removed when it is dropped.
struct Device(&'static str);

impl Device {
    fn make(name: &'static str) -> exo_cmd::Result<Self> {
        ip(&["tuntap", "add", name, "mode", "tap"])?;
        let device = Self(name);
        ip(&["addr", "add", "10.0.2.2/24", "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        Ok(device)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", self.0]);
    }
}

fn ip(arguments: &[&str]) -> exo_cmd::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(Error::msg(complaint)) }
}

#[test]
fn over_a_tap_device() {
    let name = "exo-test";
    if let Some(_device) = needed("over_a_tap_device", Device::make(name)) {
        let machine = machine(Network::Tap(name.to_owned())).expect("the machine starts");
        let own = SocketAddr::from((Ipv4Addr::from(STORE), 11211));
        assert_eq!(machine.store_address(Transport::Tcp), Some(own));
        serves(&machine);
    }
    // Without one, what to do is told.
    let error = machine(Network::Tap("exo-absent".to_owned())).err().expect("there is none");
    assert!(error.to_string().contains("sudo ip tuntap add exo-absent"), "{error}");
}
