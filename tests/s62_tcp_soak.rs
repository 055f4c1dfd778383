//! Many requests over connections, with values of up to a mebibyte, in a store that evicts all the
//! time: every answer is checked, and every request has exactly one.
//!
//! A short form always; a long one by
//! `SOAK_REQUESTS=10000000 cargo test --release -p machine-tests -- s62_tcp_soak --ignored --nocapture`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use exo_cmd::machine::Machine;
use exo_cmd::manifest::Transport;
use machine_tests::model::Random;
use machine_tests::{LONG, STORE, boot, manifest, net_app};

/// Clients at the same time.
const CLIENTS: u64 = 4;
/// Keys of each: more bytes together than the store has.
const KEYS: u64 = 1000;
/// Most requests that are written together.
const PIPELINE: u64 = 16;
/// Requests of the short form, and batches after which a client connects anew.
const SHORT: u64 = 20_000;
const BATCHES: u64 = 200;
/// The longest value: an item may take a mebibyte with its key and what the store keeps of it.
const LONGEST: u64 = (1 << 20) - 512;

/// What a client counted.
#[derive(Default, Debug)]
struct Counts {
    sent: u64,
    answered: u64,
    gets: u64,
    hits: u64,
    /// Of items that were stored and not deleted: evicted.
    lost: u64,
    sets: u64,
    /// Values that found no room, since too much was held for other connections.
    refused: u64,
    deletes: u64,
    bytes: u64,
    connections: u64,
}

/// What a client asked for.
enum Asked {
    Get(u64),
    Set(u64),
    Delete(u64),
}

/// What the store may hold of a key.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The version that was stored last, if it was not deleted.
    version: Option<u64>,
    /// One that was stored before it, if it is not known that it is gone: a value that found no
    /// room may have left the one before.
    before: Option<u64>,
}

struct Client<'m> {
    machine: &'m Machine,
    number: u64,
    random: Random,
    known: HashMap<u64, Known>,
    versions: u64,
    counts: Counts,
}

impl Client<'_> {
    fn key(&self, key: u64) -> String {
        // Lengths from short to the longest allowed.
        let name = format!("soak-{}-{key}-", self.number);
        let length = if key.is_multiple_of(16) { 250 } else { 20 };
        format!("{name:k<length$}")
    }

    /// Most are short, some are long.
    fn length(version: u64) -> u64 {
        let mut random = Random::new(version);
        let most = match random.below(100) {
            0..80 => 1 << 10,
            80..95 => 16 << 10,
            95..99 => 128 << 10,
            _ => LONGEST,
        };
        random.below(most + 1)
    }

    /// The value of a version: no two have the same.
    fn value(version: u64) -> Vec<u8> {
        let (length, mut random) = (Self::length(version) as usize, Random::new(!version));
        let mut value: Vec<u8> = Vec::with_capacity(length + 8);
        while value.len() < length {
            value.extend(random.word().to_le_bytes());
        }
        value.truncate(length);
        value
    }

    /// A batch of requests, and what they are.
    fn batch(&mut self) -> (Vec<u8>, Vec<(Asked, u64)>) {
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..=self.random.below(PIPELINE) {
            let key = self.random.below(KEYS);
            let name = self.key(key);
            match self.random.below(100) {
                0..48 => {
                    bytes.extend(format!("get {name}\r\n").bytes());
                    asked.push((Asked::Get(key), 0));
                }
                48..96 => {
                    self.versions += CLIENTS;
                    let version = self.versions;
                    let value = Self::value(version);
                    let flags = version as u32;
                    bytes.extend(format!("set {name} {flags} 0 {}\r\n", value.len()).bytes());
                    bytes.extend(&value);
                    bytes.extend(b"\r\n");
                    asked.push((Asked::Set(key), version));
                }
                _ => {
                    bytes.extend(format!("delete {name}\r\n").bytes());
                    asked.push((Asked::Delete(key), 0));
                }
            }
        }
        (bytes, asked)
    }

    /// Makes at least so many requests.
    fn run(mut self, requests: u64) -> Counts {
        self.versions = self.number;
        while self.counts.sent < requests {
            let at = self.machine.store_address(Transport::Tcp).expect("TCP is forwarded");
            let stream = TcpStream::connect(at).expect("a connection");
            stream.set_read_timeout(Some(LONG)).expect("a time");
            stream.set_nodelay(true).expect("an option");
            self.counts.connections += 1;
            let mut writer = stream.try_clone().expect("a second handle");
            let mut reader = BufReader::new(stream);
            for _ in 0..BATCHES {
                let (bytes, asked) = self.batch();
                self.counts.sent += asked.len() as u64;
                self.counts.bytes += bytes.len() as u64;
                // Both at once: neither side has room for all of it.
                thread::scope(|scope| {
                    scope.spawn(|| writer.write_all(&bytes).expect("sent"));
                    for (asked, version) in asked {
                        self.check(&mut reader, asked, version);
                    }
                });
                if self.counts.sent >= requests {
                    break;
                }
            }
            writer.write_all(b"quit\r\n").expect("sent");
            let rest = reader.read(&mut [0; 8]).expect("the end");
            assert_eq!(rest, 0, "more was answered than asked");
        }
        self.counts
    }

    fn check(&mut self, reader: &mut impl BufRead, asked: Asked, version: u64) {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        self.counts.answered += 1;
        match asked {
            Asked::Set(key) => {
                self.counts.sets += 1;
                let known = self.known.entry(key).or_default();
                if line == "STORED\r\n" {
                    *known = Known { version: Some(version), before: None };
                } else {
                    let full = "SERVER_ERROR out of memory storing object\r\n";
                    assert_eq!(line, full, "of {} bytes", Self::length(version));
                    self.counts.refused += 1;
                    *known = Known { version: None, before: known.version.or(known.before) };
                }
            }
            Asked::Delete(key) => {
                self.counts.deletes += 1;
                let known = self.known.remove(&key).unwrap_or_default();
                let may_be = known.version.or(known.before).is_some();
                let fits = line == "NOT_FOUND\r\n" || line == "DELETED\r\n" && may_be;
                assert!(fits, "{line:?}");
            }
            Asked::Get(key) => self.check_get(reader, key, &line),
        }
    }

    fn check_get(&mut self, reader: &mut impl BufRead, key: u64, line: &str) {
        self.counts.gets += 1;
        let known = self.known.get(&key).copied().unwrap_or_default();
        if line == "END\r\n" {
            self.counts.lost += u64::from(known.version.is_some());
            // What was evicted does not come back.
            self.known.remove(&key);
            return;
        }
        self.counts.hits += 1;
        let versions = [known.version, known.before].into_iter().flatten();
        let name = self.key(key);
        let head =
            |version: u64| format!("VALUE {name} {} {}\r\n", version as u32, Self::length(version));
        let version = versions.into_iter().find(|&version| head(version) == line);
        let Some(version) = version else { panic!("{line:?} is no answer that there may be") };
        let mut value = vec![0; Self::length(version) as usize + 7];
        reader.read_exact(&mut value).expect("a value");
        let is_right = value.strip_suffix(b"\r\nEND\r\n") == Some(&Self::value(version)[..]);
        assert!(is_right, "the value of {name} is not what was stored");
    }
}

/// A number that the store tells.
fn stat(stats: &str, name: &str) -> u64 {
    let row = stats.lines().find_map(|row| row.strip_prefix(&format!("STAT {name} ")));
    row.and_then(|row| row.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}: {stats}"))
}

fn soak(requests: u64) {
    let mut app = net_app("kvstore", STORE);
    // Less than the keys take all together: something is given up all the time.
    app.frames = 5120;
    let machine = boot(manifest(vec![app]));
    machine.store(LONG).expect("the store answers");
    let each = requests.div_ceil(CLIENTS);
    let counts: Vec<Counts> = thread::scope(|scope| {
        let clients = (0..CLIENTS).map(|number| {
            let machine = &machine;
            scope.spawn(move || {
                let (random, known) = (Random::new(number), HashMap::new());
                let counts = Counts::default();
                Client { machine, number, random, known, versions: 0, counts }.run(each)
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().expect("every answer is right")).collect()
    });
    let sum = |what: fn(&Counts) -> u64| counts.iter().map(what).sum::<u64>();
    for counts in &counts {
        println!("{counts:?}");
    }
    assert_eq!(sum(|counts| counts.sent), sum(|counts| counts.answered));
    assert!(sum(|counts| counts.sent) >= requests);

    // The store has counted the same, and has no connection but this one.
    let at = machine.store_address(Transport::Tcp).expect("TCP is forwarded");
    let mut stream = TcpStream::connect(at).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    let mut ask = || {
        stream.write_all(b"stats\r\n").expect("sent");
        let mut text = Vec::new();
        while !text.ends_with(b"END\r\n") {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).expect("an answer");
            assert!(length > 0, "closed");
            text.extend(&piece[..length]);
        }
        String::from_utf8(text).expect("text")
    };
    let stats = machine_tests::wait_until("connections are left", || {
        Some(ask()).filter(|stats| stat(stats, "curr_connections") == 1)
    });
    assert_eq!(stat(&stats, "cmd_get"), sum(|counts| counts.gets));
    assert_eq!(stat(&stats, "get_hits"), sum(|counts| counts.hits));
    assert_eq!(stat(&stats, "cmd_set"), sum(|counts| counts.sets));
    let evictions = stat(&stats, "evictions");
    assert!(evictions > 1000 && sum(|counts| counts.hits) > requests / 10, "{stats}");
    assert!(sum(|counts| counts.lost) <= evictions, "what was lost was not evicted: {stats}");
    println!("{evictions} evicted");
    assert!(machine.running());
}

#[test]
fn every_answer_over_a_connection_is_right() {
    soak(SHORT);
}

#[test]
#[ignore = "as long as it is told to be"]
fn every_answer_over_a_connection_is_right_for_long() {
    let requests = std::env::var("SOAK_REQUESTS").ok();
    soak(requests.map_or(1_000_000, |requests| requests.parse().expect("a number")));
}
