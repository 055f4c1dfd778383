//! Programs in XDP of a Linux guest's NIC: the cache before memcached answers, and never an
//! old value; the echo sends back.
//!
//! Where apt cannot give what the guest is made of, these tests say so and show nothing.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use exo_cmd::client::Client;
use exo_cmd::linux::{Guest, Kernel, Memcached, READY, Xdp};
use exo_cmd::machine::{Machine, Network, STORE_PORT};
use machine_tests::frame::{Heard, Wire, datagram};
use machine_tests::model::{Random, Worker};
use machine_tests::{LONG, STORE, expect, needed};

/// Requests checked against the model, of each worker.
const REQUESTS: u32 = 1500;
/// Bursts of requests that are not waited for.
const BURSTS: u32 = 300;
/// How often to ask for what may be lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A guest with that program, unless there are no packages to make it of.
fn guest(test: &str, program: Xdp) -> Option<Guest> {
    let packages = Kernel::of_distribution().and_then(|kernel| {
        Memcached::packages()?;
        Xdp::compiler()?;
        Ok(kernel)
    });
    let mut guest = Guest::new(needed(test, packages)?);
    guest.networked();
    program.add_to(&mut guest, 32).expect("the program is built");
    Some(guest)
}

/// What the loader printed last of a count.
fn counted(machine: &Machine, name: &str) -> u64 {
    let lines = machine.console().lines();
    let line = lines.iter().rev().find(|line| line.contains("kvstore-xdp: hits="));
    let words = line.into_iter().flat_map(|line| line.split_whitespace());
    let numbers = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    numbers.filter_map(|number| number.parse().ok()).next().unwrap_or(0)
}

/// Waits until the loader has printed that a count has grown beyond `least`.
fn wait_for_count(machine: &Machine, name: &str, least: u64) {
    let deadline = Instant::now() + LONG;
    while counted(machine, name) <= least {
        assert!(Instant::now() < deadline, "{name} does not grow beyond {least}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_cache_answers_and_never_an_old_value() {
    let test = "the_cache_answers_and_never_an_old_value";
    let Some(guest) = guest(test, Xdp::Cache { report: Some(1) }) else { return };
    let machine = guest.boot(&guest.config()).expect("the machine starts");
    expect(&machine, "kvstore-xdp: attached to eth0");
    expect(&machine, READY);
    let server = machine.store(LONG).expect("memcached answers").server();

    // Waiting for each answer, with clients in turn: what any store must do.
    let worker = |name: &str, seed| {
        let mut worker = Worker::new(Client::connect(server).expect("a client"), name, 200, seed);
        worker.several = false;
        worker
    };
    let mut workers = [worker("one-", 1), worker("two-", 2)];
    for _ in 0..REQUESTS {
        for worker in &mut workers {
            worker.step().expect("an answer");
        }
    }
    for worker in &mut workers {
        worker.check_all().expect("an answer");
    }
    wait_for_count(&machine, "hits", 0);
    let hits = counted(&machine, "hits");

    let pipe = Pipe::connect(server);
    bursts(&pipe);
    wait_for_count(&machine, "hits", hits + u64::from(BURSTS));
    // Some replies were overtaken by a write, and were seen to be.
    wait_for_count(&machine, "late", 0);
    many(&machine, &pipe);
    expires(&pipe);
    assert!(machine.console().lines().iter().all(|line| !line.contains(" closed")));

    // A write that hides behind a read: it is seen that it is not understood.
    pipe.settled("set k 0 0 3\r\nold\r\n");
    assert_eq!(pipe.get("k"), Some("old".to_owned()));
    assert_eq!(pipe.get("k"), Some("old".to_owned()));
    pipe.settled("get other\r\nset k 0 0 3\r\nnew\r\n");
    assert_eq!(pipe.get("k"), Some("new".to_owned()));
    assert_eq!(pipe.get("k"), Some("new".to_owned()));
    expect(&machine, " closed");
}

/// Reads and writes of one key, several on the way at once, all with the same id.
fn bursts(pipe: &Pipe) {
    let mut random = Random::new(97);
    for burst in 0..BURSTS {
        let key = format!("burst-{}", random.below(3));
        let mut last = String::new();
        let requests = 2 + random.below(8);
        for number in 0..requests {
            if number + 1 < requests && random.below(3) > 0 {
                pipe.send(1, &format!("get {key}\r\n"));
                continue;
            }
            last = format!("{burst}-{number}");
            let noreply = if random.below(4) == 0 { " noreply" } else { "" };
            pipe.send(1, &format!("set {key} 0 0 {}{noreply}\r\n{last}\r\n", last.len()));
            if random.below(2) == 0 {
                pipe.send(1, &format!("get {key}\r\n"));
            }
        }
        pipe.fence();
        for _ in 0..3 {
            assert_eq!(pipe.get(&key).as_ref(), Some(&last), "burst {burst}, {key}");
        }
    }
}

/// As many keys as are far from filling the cache, alike but for their ends, all stay in it.
fn many(machine: &Machine, pipe: &Pipe) {
    let keys: Vec<_> = (0..400).map(|number| format!("{number:016}")).collect();
    for key in &keys {
        assert_eq!(pipe.ask(&format!("set {key} 0 0 16\r\n{key}\r\n")), "STORED\r\n");
        assert_eq!(pipe.get(key).as_ref(), Some(key));
    }
    // Sure to have been printed: the counts that follow are of this.
    std::thread::sleep(Duration::from_secs(2));
    let hits = counted(machine, "hits");
    for key in &keys {
        assert_eq!(pipe.get(key).as_ref(), Some(key));
    }
    wait_for_count(machine, "hits", hits + keys.len() as u64 - 1);
}

/// A value that was cached before it got a time to expire does expire.
fn expires(pipe: &Pipe) {
    pipe.settled("set mayfly 0 0 1\r\n1\r\n");
    assert_eq!(pipe.get("mayfly"), Some("1".to_owned()));
    pipe.settled("set mayfly 0 2 1\r\n2\r\n");
    let deadline = Instant::now() + LONG;
    while let Some(value) = pipe.get("mayfly") {
        assert_eq!(value, "2");
        assert!(Instant::now() < deadline, "it does not expire");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A client that does not wait.
struct Pipe {
    socket: UdpSocket,
    next: std::cell::Cell<u16>,
}

impl Pipe {
    fn connect(server: std::net::SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        Self { socket, next: std::cell::Cell::new(100) }
    }

    fn send(&self, id: u16, text: &str) {
        let [high, low] = id.to_be_bytes();
        let header = [high, low, 0, 0, 0, 1, 0, 0];
        self.socket.send(&[&header, text.as_bytes()].concat()).expect("sent");
    }

    /// The answer to `text`, which is asked again if none comes.
    fn ask(&self, text: &str) -> String {
        for _ in 0..12 {
            // Never that of a burst.
            let id = self.next.get().wrapping_add(1) | 0x4000;
            self.next.set(id);
            self.send(id, text);
            let mut bytes = [0; 2048];
            loop {
                match self.socket.recv(&mut bytes) {
                    Ok(len) if bytes[..2] == id.to_be_bytes() => {
                        return String::from_utf8_lossy(&bytes[8..len]).into_owned();
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
        panic!("no answer to {text:?}");
    }

    /// Waits until all that was sent has been carried out: memcached answers in order.
    fn fence(&self) {
        assert!(self.ask("version\r\n").starts_with("VERSION "));
    }

    /// Sends it, and waits until it has been carried out.
    fn settled(&self, text: &str) {
        self.send(1, text);
        self.fence();
    }

    fn get(&self, key: &str) -> Option<String> {
        let answer = self.ask(&format!("get {key}\r\n"));
        if answer == "END\r\n" {
            return None;
        }
        let start = format!("VALUE {key} 0 ");
        let rest = answer.strip_prefix(&start).unwrap_or_else(|| panic!("{answer:?}"));
        let (length, rest) = rest.split_once("\r\n").expect("a line");
        let value = rest.strip_suffix("\r\nEND\r\n").expect("an end");
        assert_eq!(length.parse(), Ok(value.len()));
        Some(value.to_owned())
    }
}

#[test]
fn the_echo_sends_back() {
    let Some(guest) = guest("the_echo_sends_back", Xdp::Echo) else { return };
    let mut config = guest.config();
    config.network = Network::Frames;
    let machine = guest.boot(&config).expect("the machine starts");
    expect(&machine, READY);
    let wire = Wire::of(&machine);
    for length in [1, 18, 500, 1472] {
        let payload = vec![length as u8; length];
        wire.ask(&datagram(4000, STORE, STORE_PORT, &payload), |heard| match heard {
            Heard::Udp((STORE, STORE_PORT), (_, 4000), answer) => {
                assert_eq!(*answer, payload);
                Some(())
            }
            _ => None,
        });
    }
}
