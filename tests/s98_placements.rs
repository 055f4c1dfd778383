//! The store answers alike wherever it runs.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};

use exo_cmd::linux::{Guest, Kernel, READY, Store};
use exo_cmd::machine;
use kvstore::{Config, MAX_DATAGRAM, Service, Time};
use machine_tests::placement::assert_passes;
use machine_tests::{LONG, boot, expect, needed};

/// A store that is a process of this host, killed at the end.
struct Hosted {
    process: Child,
    address: SocketAddr,
}

impl Hosted {
    fn start(threads: u16) -> Self {
        let store = Store { seed: Some(7), ..Store::new(threads, 32) };
        let mut command = store.on_this_host(0).expect("the program is built");
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let output = process.stdout.take().expect("its output");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("kvstore: serving ");
        let address = address.unwrap_or_else(|| panic!("it says {line:?}"));
        Self { process, address: address.parse().expect("an address") }
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_linux_process_passes() {
    assert_passes(Hosted::start(1).address);
}

/// They share one store, and one client's requests are answered in order.
#[test]
fn a_linux_process_with_several_threads_passes() {
    assert_passes(Hosted::start(3).address);
}

#[test]
fn a_linux_process_in_a_guest_passes() {
    let kernel = needed("a_linux_process_in_a_guest_passes", Kernel::of_distribution());
    let Some(mut guest) = kernel.map(Guest::new) else { return };
    guest.networked();
    let store = Store { seed: Some(7), ..Store::new(1, 32) };
    store.add_to(&mut guest).expect("the program is built");
    let machine = guest.boot(&guest.config()).expect("the machine starts");
    expect(&machine, "kvstore: serving 0.0.0.0:11211");
    expect(&machine, READY);
    assert_passes(machine.store(LONG).expect("the store answers").server());
}

#[test]
fn the_exokernels_application_passes() {
    let config = machine::Config::named("default").expect("boot/manifests/default.toml");
    let machine = boot(config.manifest);
    assert_passes(machine.store(LONG).expect("the store answers").server());
}

/// The suite notices: here the library itself serves, but loses one answer of many.
#[test]
#[should_panic(expected = "the placement answers nothing")]
fn a_store_that_loses_an_answer_does_not_pass() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut memory = vec![0; 8 << 20];
        let mut library = Service::new(&mut memory, &Config::default()).expect("enough memory");
        let (mut request, mut reply) = ([0; 65536], [0; MAX_DATAGRAM]);
        let mut answers = 0;
        while let Ok((len, client)) = socket.recv_from(&mut request) {
            let now = Time { unix: 1_700_000_000, uptime: 1 };
            let fits = len <= MAX_DATAGRAM;
            let Some(len) = library.answer(&request[..len], now, &mut reply).filter(|_| fits)
            else {
                continue;
            };
            let version = reply[8..].starts_with(b"VERSION ");
            answers += u32::from(!version);
            if version || answers != 30 {
                socket.send_to(&reply[..len], client).expect("sent");
            }
        }
    });
    assert_passes(address);
}
