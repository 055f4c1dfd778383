//! The installed memcached is the oracle: the same requests to it and to the
//! library, and the answers compared byte for byte.
//!
//! Over TCP thousands of generated requests, malformed ones among them; over UDP
//! fewer, and what is to be met with silence. Each request is followed by
//! `version`, whose answer marks the end of what belongs to the request.
//!
//! Not compared, since memcached's own answer is meant to differ or would leave
//! the connection unusable: see "deviations" in `src/protocol/mod.rs`; a data block
//! longer than what was sent; delayed `flush_all`, which needs real time.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Chance, ask, config, datagram};
use kvstore::{Service, Time};

/// A memcached of its own, killed at the end.
struct Oracle {
    process: Child,
    port: u16,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Oracle {
    /// `None`, said aloud, if memcached is not installed.
    fn start(test: &str) -> Option<(Self, TcpStream)> {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let [tcp, udp] = [format!("-p{port}"), format!("-U{port}")];
            let started = Command::new("memcached")
                // One thread, and none in the background: with its LRU maintainer,
                // whether a decremented number keeps its length depends on timing.
                .args(["-l127.0.0.1", &tcp, &udp, "-t1", "-m64", "-unobody", "-ono_modern"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(process) = started else {
                // Past the capture of the test harness: this has to be seen.
                let _ = writeln!(
                    std::io::stderr(),
                    "\n*** SKIPPED {test}: memcached is not installed, nothing was compared ***"
                );
                return None;
            };
            let oracle = Self { process, port };
            for _ in 0..200 {
                if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    return Some((oracle, stream));
                }
                sleep(Duration::from_millis(10));
            }
        }
        panic!("memcached is installed but does not accept connections");
    }
}

fn now() -> Time {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Time { unix, uptime: 10 }
}

/// The end of the answer to `version`, if that is how `text` ends.
fn ends_with_version(text: &[u8]) -> bool {
    text.ends_with(b"\r\n")
        && text[..text.len() - 2].rsplit(|&b| b == b'\n').next().unwrap().starts_with(b"VERSION ")
}

/// Without version numbers, which are meant to differ.
fn masked(text: &[u8]) -> String {
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    let lines = lines.map(|line| if line.starts_with(b"VERSION ") { b"VERSION\r\n" } else { line });
    lines.flat_map(|line| line.escape_ascii()).map(char::from).collect()
}

fn ask_tcp(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 65536];
    while !ends_with_version(&answer) {
        let n = stream.read(&mut part).unwrap_or_else(|error| {
            panic!("{error} after {:?}, request {:?}", masked(&answer), masked(request))
        });
        assert!(n > 0, "closed after {:?}, request {:?}", masked(&answer), masked(request));
        answer.extend_from_slice(&part[..n]);
    }
    answer
}

struct Requests {
    chance: Chance,
    keys: Vec<Vec<u8>>,
    /// Roughly how many CAS ids were given out.
    stored: u64,
}

impl Requests {
    fn new(seed: u64) -> Self {
        let keys = ["a", "b", "counter", "number", "noreply", "0", "key:0000000000000001", "x\u{e4}\u{df}"];
        let mut keys: Vec<Vec<u8>> = keys.map(|key| key.as_bytes().to_vec()).into();
        keys.extend([8, 9, 16, 17, 33, 250].map(|len| vec![b'k'; len]));
        Self { chance: Chance(seed), keys, stored: 0 }
    }

    fn key(&mut self) -> Vec<u8> {
        if self.chance.one_in(60) {
            return vec![b'L'; 251 + self.chance.below(200)];
        }
        let i = self.chance.below(self.keys.len());
        self.keys[i].clone()
    }

    fn exptime(&mut self) -> String {
        let (unix, chance) = (now().unix, &mut self.chance);
        let absolute = [(unix + 1000).to_string(), (unix - 100_000).to_string()];
        chance
            .pick(&[
                "0", "0", "0", "0", "0", "0", "100", "2592000", "2592001", "-1", "-100", "2147483647",
                "2147483648", "4294967296", "+50", "abc", "1.5", &absolute[0], &absolute[1],
            ])
            .to_owned()
    }

    fn flags(&mut self) -> String {
        let odd = ["-1", "4294967295", "4294967296", "x", "007", "+7", "18446744073709551616", "-0", "1x"];
        if self.chance.one_in(8) {
            self.chance.pick(&odd).to_owned()
        } else {
            (self.chance.next() as u32 >> self.chance.below(32)).to_string()
        }
    }

    fn number(&mut self) -> String {
        match self.chance.below(12) {
            0 => self.chance.next().to_string(),
            1 => u64::MAX.to_string(),
            2 => (u64::MAX - self.chance.below(3) as u64).to_string(),
            3 => "18446744073709551616".to_owned(),
            4 => self.chance.pick(&["-1", "x", "0x10", "1e3", "99999999999999999999999", "+3", "-0"]).to_owned(),
            _ => self.chance.below(2000).to_string(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.chance.below(12) {
            0 => Vec::new(),
            1 => self.chance.pick(&["10 apples", " 7", "7 ", "abc", "-5", "1\t", "12a", "+4"]).into(),
            2 => b"one\r\ntwo\r\n".to_vec(),
            3 => {
                let len = self.chance.below(300);
                self.chance.bytes(len)
            }
            4 => vec![b'v'; self.chance.below(9000)],
            5..8 => vec![b'v'; self.chance.below(120)],
            _ => self.number().into_bytes(),
        }
    }

    fn cas(&mut self) -> String {
        match self.chance.below(8) {
            0 => self.number(),
            1 => "0".to_owned(),
            _ => (self.stored.saturating_sub(self.chance.below(20) as u64)).to_string(),
        }
    }

    fn noreply(&mut self) -> &'static str {
        self.chance.pick(&["", "", "", "", "", "", "", " noreply", " noreply", " noreplyx", " 0"])
    }

    fn store(&mut self) -> Vec<u8> {
        let chance = &mut self.chance;
        let command = chance.pick(&["set", "set", "set", "add", "replace", "append", "prepend", "cas", "cas"]);
        let (key, flags, exptime, value) = (self.key(), self.flags(), self.exptime(), self.value());
        // Never more than is sent: memcached would wait for the rest.
        let len = match self.chance.below(25) {
            0 => value.len().saturating_sub(1 + self.chance.below(3)).to_string(),
            1 => self.chance.pick(&["-1", "abc", "2147483646", "2147483647", "0", "99999999999999999999"]).to_owned(),
            2 => (value.len() as u64 + (1 << 32)).to_string(),
            3 => format!("+0{}", value.len()),
            _ => value.len().to_string(),
        };
        let cas = if command == "cas" { format!(" {}", self.cas()) } else { String::new() };
        let tail = format!(" {flags} {exptime} {len}{cas}{}\r\n", self.noreply());
        self.stored += 1;
        [command.as_bytes(), b" ", &key, tail.as_bytes(), &value, b"\r\n"].concat()
    }

    fn keys_line(&mut self, command: &str) -> Vec<u8> {
        let mut line = command.as_bytes().to_vec();
        let many = if self.chance.one_in(10) { 40 } else { 4 };
        for _ in 0..self.chance.below(many) {
            line.extend_from_slice(self.chance.pick(&[" ", " ", " ", " ", "  "]).as_bytes());
            line.extend_from_slice(&self.key());
        }
        line.extend_from_slice(self.chance.pick(&["\r\n", "\r\n", "\r\n", "\n", " \r\n"]).as_bytes());
        line
    }

    fn line(&mut self, command: &str, argument: String) -> Vec<u8> {
        let key = self.key();
        let tail = format!(" {argument}{}\r\n", self.noreply());
        [command.as_bytes(), b" ", &key, tail.as_bytes()].concat()
    }

    /// A line of anything, but without control characters, and without a command
    /// that this store does not have.
    fn garbage(&mut self) -> Vec<u8> {
        let words = [
            "get", "gets", "set", "add", "cas", "incr", "decr", "touch", "gat", "gats", "delete",
            "version", "verbosity", "flush_all", "stats", "noreply", "0", "1", "-1", "a", "counter",
            "GET", "foo", "getx", "ge", "g", "", " ", "99999999999999999999", "\u{fc}", "=", "reset",
        ];
        let count = self.chance.below(9);
        let line: Vec<&str> = (0..count).map(|_| self.chance.pick(&words)).collect();
        let line = line.join(" ");
        // Would have memcached wait for data, answer with its own statistics, or
        // start a flush in the future.
        let first = line.split(' ').find(|word| !word.is_empty()).unwrap_or("");
        if matches!(first, "set" | "add" | "cas" | "stats" | "flush_all") && line.split(' ').count() > 1 {
            return b"incr\r\n".to_vec();
        }
        if first == "stats" { b"stats foo\r\n".to_vec() } else { format!("{line}\r\n").into_bytes() }
    }

    fn next(&mut self) -> Vec<u8> {
        match self.chance.below(40) {
            0..13 => self.store(),
            13..19 => self.keys_line("get"),
            19..22 => self.keys_line("gets"),
            22 => {
                let (exptime, command) = (self.exptime(), self.chance.pick(&["gat", "gats"]));
                self.keys_line(&format!("{command} {exptime}"))
            }
            23..26 => {
                let (number, command) = (self.number(), self.chance.pick(&["incr", "decr"]));
                self.stored += 1;
                self.line(command, number)
            }
            26..29 => {
                let exptime = self.exptime();
                self.line("touch", exptime)
            }
            29..33 => {
                let hold = self.chance.pick(&["", "", "", "0", "1", "x", "0 0", "0 x noreply"]).to_owned();
                self.line("delete", hold)
            }
            33 if self.chance.one_in(4) => {
                let argument =
                    self.chance.pick(&["", " 0", " -1", " noreply", " 0 noreply", " x", " x y", " 1 2 3"]);
                self.stored += 1;
                format!("flush_all{argument}\r\n").into_bytes()
            }
            34 => self
                .chance
                .pick(&["verbosity 1", "verbosity", "verbosity x", "verbosity 1 noreply", "verbosity 1 2 3"])
                .bytes()
                .chain(*b"\r\n")
                .collect(),
            _ => self.garbage(),
        }
    }
}

fn compare(service: &mut Service<'_>, request: &[u8], theirs: &[u8], now: Time, number: usize) {
    let ours = ask(service, request, now);
    let (ours, theirs) = (masked(&ours), masked(theirs));
    assert!(
        ours == theirs,
        "request {number}: {}\n ours:   {ours}\n theirs: {theirs}",
        masked(request)
    );
}

#[test]
fn tcp_answers_are_those_of_memcached() {
    for seed in 0..4 {
        let Some((_oracle, mut stream)) = Oracle::start("oracle over TCP") else { return };
        let (mut memory, now) = (vec![0; 64 << 20], now());
        let mut service = Service::new(&mut memory, &config()).unwrap();
        let mut requests = Requests::new(seed);
        for number in 0..10_000 {
            let request = [&requests.next()[..], b"version\r\n"].concat();
            let theirs = ask_tcp(&mut stream, &request);
            compare(&mut service, &request, &theirs, now, number);
        }
    }
}

#[test]
fn counters_are_those_of_memcached() {
    let Some((_oracle, mut stream)) = Oracle::start("oracle for stats") else { return };
    let (mut memory, now) = (vec![0; 64 << 20], now());
    let mut service = Service::new(&mut memory, &config()).unwrap();
    let mut requests = Requests::new(99);
    for number in 0..5_000 {
        let request = [&requests.next()[..], b"version\r\n"].concat();
        let theirs = ask_tcp(&mut stream, &request);
        compare(&mut service, &request, &theirs, now, number);
    }
    let read = |text: &[u8]| -> std::collections::BTreeMap<String, String> {
        let text = String::from_utf8_lossy(text);
        let stats = text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
        stats.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let theirs = read(&ask_tcp(&mut stream, b"stats\r\nversion\r\n"));
    let ours = read(&ask(&mut service, b"stats\r\n", now));
    // Not get_expired, get_flushed, curr_items: memcached also reclaims dead items when
    // it allocates. Not cmd_flush: it counts those with a bad argument.
    for name in [
        "cmd_get", "cmd_set", "cmd_touch", "get_hits", "get_misses", "delete_hits", "delete_misses", "incr_hits", "incr_misses", "decr_hits",
        "decr_misses", "cas_hits", "cas_misses", "cas_badval", "touch_hits", "touch_misses",
        "store_too_large", "total_items", "pointer_size", "threads",
    ] {
        assert_eq!(ours.get(name), theirs.get(name), "{name}");
    }
    let missing: Vec<_> = ours.keys().filter(|name| !theirs.contains_key(*name)).collect();
    assert!(missing.is_empty(), "not names of memcached: {missing:?}");
}

#[test]
fn large_values_are_treated_as_by_memcached() {
    let Some((_oracle, mut stream)) = Oracle::start("oracle for large values") else { return };
    let (mut memory, now) = (vec![0; 64 << 20], now());
    let mut service = Service::new(&mut memory, &config()).unwrap();
    let set = |key: &str, len: usize, tail: &str| {
        [format!("set {key} 5 0 {len}{tail}\r\n").as_bytes(), &vec![b'z'; len], b"\r\n"].concat()
    };
    let requests = [
        set("big", 3, ""),
        set("big", 900_000, ""),
        b"get big\r\n".to_vec(),
        // Too large: the old value goes, and nothing comes with noreply.
        set("big", 1_100_000, ""),
        b"get big\r\n".to_vec(),
        set("big", 3, ""),
        set("big", 1_100_000, " noreply"),
        b"get big\r\n".to_vec(),
        // An add that is too large takes nothing away.
        set("big", 3, ""),
        [b"add big 0 0 1100000\r\n" as &[u8], &vec![b'z'; 1_100_000], b"\r\n"].concat(),
        b"get big\r\n".to_vec(),
        // Joined, it would be too large.
        set("big", 700_000, ""),
        [b"append big 0 0 700000\r\n" as &[u8], &vec![b'z'; 700_000], b"\r\n"].concat(),
        b"gets big\r\n".to_vec(),
    ];
    for (number, request) in requests.iter().enumerate() {
        let request = [&request[..], b"version\r\n"].concat();
        let theirs = ask_tcp(&mut stream, &request);
        compare(&mut service, &request, &theirs, now, number);
    }
}

/// The texts of all datagrams with which memcached answers this request: one for
/// every command in it, and for every key of a `get`. They end with the answer to
/// a second datagram, told apart by its request id.
fn ask_udp(socket: &UdpSocket, request: &[u8]) -> Vec<u8> {
    socket.send(request).unwrap();
    socket.send(&[&MARK[..], &[0, 0, 0, 1, 0, 0], b"version\r\n"].concat()).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 65536];
    loop {
        let n = socket.recv(&mut part).unwrap_or_else(|error| {
            panic!("{error} after {:?}, request {:?}", masked(&answer), masked(request))
        });
        if part[..2] == MARK {
            assert!(ends_with_version(&part[8..n]));
            return answer;
        }
        answer.extend_from_slice(&part[8..n]);
    }
}

/// A request id that no other datagram has.
const MARK: [u8; 2] = [0, 7];

fn udp_socket(oracle: &Oracle) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", oracle.port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

#[test]
fn udp_answers_are_those_of_memcached() {
    let Some((oracle, _stream)) = Oracle::start("oracle over UDP") else { return };
    let socket = udp_socket(&oracle);
    let (mut memory, now) = (vec![0; 64 << 20], now());
    let mut service = Service::new(&mut memory, &config()).unwrap();
    let mut requests = Requests::new(7);
    for number in 0..3_000 {
        let request = requests.next();
        let theirs = ask_udp(&socket, &datagram(&request));
        compare(&mut service, &request, &theirs, now, number);
    }
}

#[test]
fn what_memcached_ignores_is_ignored() {
    let Some((oracle, _stream)) = Oracle::start("oracle for silence over UDP") else { return };
    let socket = udp_socket(&oracle);
    let (mut memory, now) = (vec![0; 8 << 20], now());
    let mut service = Service::new(&mut memory, &config()).unwrap();
    let frame = |total: u16, text: &[u8]| {
        let [t0, t1] = total.to_be_bytes();
        [&[0xab, 0xcd, 0, 0, t0, t1, 0, 0], text].concat()
    };
    let silent = [
        b"".to_vec(),
        b"x".to_vec(),
        vec![0; 7],
        frame(1, b""),
        frame(1, b"x"),
        frame(1, b"\r"),
        frame(1, b"get a"),
        frame(1, b"version"),
        frame(0, b"version\r\n"),
        frame(2, b"version\r\n"),
        frame(256, b"version\r\n"),
        frame(1, b"GET / HTTP/1.1\r\nversion\r\n"),
    ];
    for datagram in &silent {
        assert_eq!(masked(&ask_udp(&socket, datagram)), "", "{}", masked(datagram));
        assert_eq!(service.answer(datagram, now, &mut [0; 2048]), None, "{}", masked(datagram));
    }
}
