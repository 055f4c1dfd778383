//! What the store must do wherever it runs: as an application of the exokernel, as a process
//! of Linux, or as anything else that has a UDP port.
//!
//! The library answers in this process, too, and each answer is compared byte for byte with
//! that of the placement, silence included; then random requests of an ordinary client are
//! checked against a model.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exo_cmd::client::Client;
use kvstore::datagrams::{Datagrams, LEAST_MEMORY, MOST_REQUESTS, REQUEST_MEMORY, Source};
use kvstore::{Config, MAX_DATAGRAM, Service, Time};

use crate::model::{Random, Worker};

/// Generated datagrams that are compared.
const DATAGRAMS: u32 = 3000;
/// Requests that are checked against the model.
const REQUESTS: u32 = 3000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asserts that the store at `address`, which is to be empty and new, answers as the library
/// does.
///
/// # Panics
/// If it does not.
pub fn assert_passes(address: SocketAddr) {
    let mut memory = vec![0; LEAST_MEMORY + MOST_REQUESTS * REQUEST_MEMORY];
    let mut datagrams = Datagrams::new(&mut memory, u32::MAX).expect("enough memory");
    // Whatever it is to the placement, there is one.
    let from = Source { address: [127, 0, 0, 1], port: 4000 };
    assert_answers_as_the_library(address, |library, request, now| {
        let mut reply = [0; MAX_DATAGRAM];
        if let Some((len, _)) = datagrams.answer(library, request, from, now, &mut reply) {
            return vec![reply[..len].to_vec()];
        }
        let more = || datagrams.next(library, &mut reply).map(|(len, _)| reply[..len].to_vec());
        std::iter::from_fn(more).collect()
    });
    assert_agrees_with_the_model(address);
}

/// The same of a store that takes and sends one datagram at a time.
///
/// # Panics
/// If it does not.
pub fn assert_passes_in_one_datagram(address: SocketAddr) {
    assert_answers_as_the_library(address, |library, request, now| {
        let mut reply = [0; MAX_DATAGRAM];
        let answer = library.answer(request, now, &mut reply);
        answer.map(|len| reply[..len].to_vec()).into_iter().collect()
    });
    assert_agrees_with_the_model(address);
}

/// Not for the original: it spreads the answer to a `get` of several keys over datagrams
/// that do not say how many they are.
fn assert_agrees_with_the_model(address: SocketAddr) {
    let client = Client::connect(address).expect("a client");
    let mut worker = Worker::new(client, "placement-", 300, 98);
    for _ in 0..REQUESTS {
        worker.step().expect("an answer");
    }
    worker.check_all().expect("an answer");
}

fn assert_answers_as_the_library(
    address: SocketAddr,
    mut answers: impl FnMut(&mut Service<'_>, &[u8], Time) -> Vec<Vec<u8>>,
) {
    let mut memory = vec![0; 8 << 20];
    let mut library = Service::new(&mut memory, &Config::default()).expect("enough memory");
    let mut placement = Placement::connect(address);
    let mut random = Random::new(98);
    let start = Instant::now();
    let scripted = SCRIPT.iter().map(|text| datagram(1, text.as_bytes()));
    let generated = (0..DATAGRAMS).map(|_| generate(&mut random));
    let mut answered = 0;
    for request in scripted.chain(generated) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = Time { unix, uptime: start.elapsed().as_secs() as u32 };
        let expected = match request.len() {
            // It does not fit one Ethernet frame: no placement sees it whole.
            len if len > MAX_DATAGRAM => Vec::new(),
            _ => answers(&mut library, &request, now),
        };
        answered += u32::from(!expected.is_empty());
        let answer = placement.ask(&request);
        assert!(
            answer == expected,
            "to \"{}\"\nthe library answers  {}\nthe placement answers {}",
            request.escape_ascii(),
            shown(&expected),
            shown(&answer)
        );
    }
    // A generator that only made nonsense would show little.
    assert!(answered > DATAGRAMS / 2, "only {answered} answers");
}

fn shown(answer: &[Vec<u8>]) -> String {
    match answer {
        [] => "nothing".to_owned(),
        _ => format!("{} datagrams, \"{}\"", answer.len(), answer.concat().escape_ascii()),
    }
}

/// One client socket of a store.
struct Placement {
    socket: UdpSocket,
    next: u16,
}

impl Placement {
    fn connect(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        socket.connect(address).expect("an address");
        Self { socket, next: 0x8000 }
    }

    /// The datagrams that the store sends for one. The answer to the `version` that
    /// follows shows when it is done: one client's datagrams are answered in order.
    fn ask(&mut self, request: &[u8]) -> Vec<Vec<u8>> {
        self.socket.send(request).expect("sent");
        self.next = self.next.wrapping_add(1) | 0x8000;
        self.socket.send(&datagram(self.next, b"version\r\n")).expect("sent");
        let mut answer = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        loop {
            let mut bytes = vec![0; 65536];
            let len = match self.socket.recv(&mut bytes) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("{error} after \"{}\"", request.escape_ascii()),
            };
            assert!(Instant::now() < deadline, "the store does not answer `version`");
            bytes.truncate(len);
            if bytes.starts_with(&self.next.to_be_bytes()) {
                assert!(bytes[8..].starts_with(b"VERSION "), "{}", bytes.escape_ascii());
                return answer;
            }
            answer.push(bytes);
        }
    }
}

fn datagram(id: u16, text: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    [&[high, low, 0, 0, 0, 1, 0, 0], text].concat()
}

/// Each command once as it is meant, and the mistakes that have answers of their own.
const SCRIPT: &[&str] = &[
    "get absent\r\n",
    "set a 5 0 3\r\none\r\n",
    "get a\r\n",
    "gets a absent a\r\n",
    "add a 0 0 1\r\nx\r\n",
    "add b 0 0 1\r\n7\r\n",
    "replace absent 0 0 1\r\nx\r\n",
    "replace a 1 0 2\r\n22\r\n",
    "append a 0 0 2\r\n33\r\n",
    "prepend a 0 0 2\r\n11\r\n",
    "cas a 0 0 1 999999\r\nx\r\n",
    "cas absent 0 0 1 1\r\nx\r\n",
    "incr a 1\r\n",
    "decr b 10\r\n",
    "incr absent 1\r\n",
    "append b 0 0 1\r\nx\r\n",
    "incr b 1\r\n",
    "touch a 100\r\n",
    "gat 100 a absent\r\n",
    "gats 100 a\r\n",
    "touch absent 1\r\n",
    "set gone 0 -1 1\r\nx\r\n",
    "get gone\r\n",
    "delete b\r\n",
    "delete b\r\n",
    "set q 0 0 1 noreply\r\nx\r\n",
    "get q\r\n",
    "set q 0 0 5\r\nshort\r\nget q\r\nget a\r\n",
    "set q 0 0 9\r\nshort\r\n",
    "set q 0 0 -1\r\n\r\n",
    "set q 0 0\r\n",
    "set q x 0 1\r\nx\r\n",
    "verbosity 1\r\n",
    "version\r\n",
    "stats nonsense\r\n",
    "flush_all\r\n",
    "get a\r\n",
    "nonsense\r\n",
    "get\r\n",
    "\r\n",
    "",
    "quit\r\n",
    "get a",
    "GET a\r\n",
];

/// A datagram: mostly requests as clients make them, some with mistakes, some not requests
/// at all, some too long.
fn generate(random: &mut Random) -> Vec<u8> {
    let id = random.word() as u16 & 0x7fff;
    let key = match random.below(20) {
        0 => "k".repeat(random.below(300) as usize),
        number => format!("key{number}"),
    };
    let noreply = if random.below(12) == 0 { " noreply" } else { "" };
    let text = match random.below(20) {
        0..8 => {
            let commands = ["set", "set", "add", "replace", "append", "prepend"];
            let command = commands[random.below(6) as usize];
            let len = match random.below(12) {
                0 => random.below(3000),
                _ => random.below(100),
            };
            let wrong = if random.below(20) == 0 { random.below(3) } else { 0 };
            let expiry = ["0", "0", "0", "1000", "-1", "2592001", "x"][random.below(7) as usize];
            let value: Vec<u8> = match random.below(3) {
                0 => random.word().to_string().into_bytes(),
                _ => (0..len).map(|_| random.word() as u8).collect(),
            };
            let flags = random.word() as u32 >> random.below(32);
            let len = value.len() as u64 + wrong;
            let line = format!("{command} {key} {flags} {expiry} {len}{noreply}\r\n");
            [line.as_bytes(), &value, b"\r\n"].concat()
        }
        8..13 => {
            let other = random.below(20);
            let command = ["get", "get", "gets", "gat 0", "gats 100"][random.below(5) as usize];
            format!("{command} {key} key{other}\r\n").into_bytes()
        }
        13..15 => format!("delete {key}{noreply}\r\n").into_bytes(),
        15..17 => {
            let command = ["incr", "decr"][random.below(2) as usize];
            let delta = random.word() >> random.below(64);
            format!("{command} {key} {delta}{noreply}\r\n").into_bytes()
        }
        17 => format!("touch {key} 1000{noreply}\r\n").into_bytes(),
        18 => format!("get {key}\r\nset {key} 0 0 1\r\nx\r\nget {key}\r\n").into_bytes(),
        // Bytes of any kind, as a line.
        _ => {
            let len = random.below(60);
            let mut bytes: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
            bytes.extend(b"\r\n");
            bytes
        }
    };
    let mut datagram = datagram(id, &text);
    match random.below(60) {
        // A header that is not the first of one; or not a whole one.
        0 => datagram[random.below(8) as usize] ^= 1 << random.below(8),
        1 => datagram.truncate(random.below(12) as usize),
        _ => {}
    }
    // The answer's id tells it from that to `version`.
    if let Some(first) = datagram.first_mut() {
        *first &= 0x7f;
    }
    datagram
}
