//! The installed memcached is the oracle: the same requests to it and to the
//! library, and the answers compared byte for byte.
//!
//! Over TCP thousands of generated requests, malformed ones among them; over UDP
//! fewer, and what is to be met with silence. Each request is followed by
//! `version`, whose answer marks the end of what belongs to the request.
//!
//! These requests are made for the parser that memcached had up to 1.6.39; with a newer one
//! installed they are skipped. What the two parsers answer differently is not
//! asked here: `tests/table.rs` asks that, of either.
//!
//! Not compared: what is meant to differ (see "Deviations" in `src/protocol/mod.rs`),
//! and delayed `flush_all`, which needs real time.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::oracle::{Oracle, ask_tcp, ask_udp, masked, udp_socket};
use common::{Chance, ask, config, datagram};
use kvstore::protocol::is_reply;
use kvstore::{Service, Time};

fn now() -> Time {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Time { unix, uptime: 10 }
}

struct Requests {
    chance: Chance,
    keys: Vec<Vec<u8>>,
    /// Roughly how many CAS ids were given out.
    stored: u64,
}

impl Requests {
    fn new(seed: u64) -> Self {
        let keys = [
            "a",
            "b",
            "counter",
            "number",
            "noreply",
            "0",
            "key:0000000000000001",
            "x\u{e4}\u{df}",
        ];
        let mut keys: Vec<Vec<u8>> = keys.map(|key| key.as_bytes().to_vec()).into();
        keys.extend([8, 9, 16, 17, 33, 250].map(|len| vec![b'k'; len]));
        Self { chance: Chance(seed), keys, stored: 0 }
    }

    fn key(&mut self) -> Vec<u8> {
        if self.chance.one_in(60) {
            return vec![b'L'; 251 + self.chance.below(200)];
        }
        self.valid_key()
    }

    fn valid_key(&mut self) -> Vec<u8> {
        let i = self.chance.below(self.keys.len());
        self.keys[i].clone()
    }

    /// Of `touch` and `gat`.
    fn exptime(&mut self) -> String {
        let unix = now().unix;
        let absolute = [(unix + 1000).to_string(), (unix - 100_000).to_string()];
        let both = ["0", "0", "0", "0", "0", "0", "100", "2592000", "2592001", "-1", "-100"];
        let more = ["2147483647", "abc", "1.5", &absolute[0], &absolute[1]];
        self.chance.pick(&[&both[..], &more, &["+50"]].concat()).to_owned()
    }

    /// Of storage commands.
    fn stored_exptime(&mut self) -> String {
        let unix = now().unix;
        let absolute = [(unix + 1000).to_string(), (unix - 100_000).to_string()];
        let both = ["0", "0", "0", "0", "0", "0", "100", "2592000", "2592001", "-1", "-100"];
        let more = ["2147483647", "2147483648", "4294967296", "+50", &absolute[0], &absolute[1]];
        self.chance.pick(&[&both[..], &more].concat()).to_owned()
    }

    fn flags(&mut self) -> String {
        if self.chance.one_in(8) {
            self.chance.pick(&["4294967295", "4294967296", "007", "+7", "-0"]).to_owned()
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
            4 => self
                .chance
                .pick(&["-1", "x", "0x10", "1e3", "99999999999999999999999", "+3", "-0"])
                .to_owned(),
            _ => self.chance.below(2000).to_string(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.chance.below(12) {
            0 => Vec::new(),
            1 => {
                self.chance.pick(&["10 apples", " 7", "7 ", "abc", "-5", "1\t", "12a", "+4"]).into()
            }
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
            0 => self.chance.pick(&["18446744073709551615", "+3", "-0"]).to_owned(),
            1 => "0".to_owned(),
            _ => (self.stored.saturating_sub(self.chance.below(20) as u64)).to_string(),
        }
    }

    fn noreply(&mut self) -> &'static str {
        self.chance.pick(&["", "", "", "", "", "", "", " noreply", " noreply", " noreplyx", " 0"])
    }

    fn store(&mut self) -> Vec<u8> {
        let chance = &mut self.chance;
        let command = chance
            .pick(&["set", "set", "set", "add", "replace", "append", "prepend", "cas", "cas"]);
        let (key, flags) = (self.valid_key(), self.flags());
        let (exptime, value) = (self.stored_exptime(), self.value());
        // Never more than is sent: memcached would wait for the rest.
        let len = match self.chance.below(25) {
            0 => value.len().saturating_sub(1 + self.chance.below(3)).to_string(),
            1 => self
                .chance
                .pick(&["-1", "abc", "2147483646", "2147483647", "0", "99999999999999999999"])
                .to_owned(),
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
        for _ in 0..1 + self.chance.below(many) {
            line.extend_from_slice(self.chance.pick(&[" ", " ", " ", " ", "  "]).as_bytes());
            line.extend_from_slice(&self.key());
        }
        line.extend_from_slice(
            self.chance.pick(&["\r\n", "\r\n", "\r\n", "\n", " \r\n"]).as_bytes(),
        );
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
            "get",
            "gets",
            "set",
            "add",
            "cas",
            "incr",
            "decr",
            "touch",
            "gat",
            "gats",
            "delete",
            "version",
            "verbosity",
            "flush_all",
            "stats",
            "noreply",
            "0",
            "1",
            "-1",
            "a",
            "counter",
            "GET",
            "foo",
            "getx",
            "ge",
            "g",
            "",
            " ",
            "99999999999999999999",
            "\u{fc}",
            "=",
            "reset",
        ];
        let count = self.chance.below(9);
        let line: Vec<&str> = (0..count).map(|_| self.chance.pick(&words)).collect();
        let line = line.join(" ");
        // Would have memcached wait for data, answer with its own statistics, or
        // start a flush in the future.
        let first = line.split(' ').find(|word| !word.is_empty()).unwrap_or("");
        if matches!(first, "set" | "add" | "cas" | "stats" | "flush_all")
            && line.split(' ').count() > 1
        {
            return b"foo\r\n".to_vec();
        }
        // With a number of arguments that is wrong, or a wish for no answer, parsers differ.
        let command = matches!(
            first,
            "set"
                | "add"
                | "cas"
                | "get"
                | "gets"
                | "incr"
                | "decr"
                | "touch"
                | "gat"
                | "gats"
                | "delete"
                | "verbosity"
        );
        let differs = command || line.trim_end().ends_with("noreply");
        if differs {
            b"bar\r\n".to_vec()
        } else if first == "stats" {
            b"stats foo\r\n".to_vec()
        } else {
            format!("{line}\r\n").into_bytes()
        }
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
                let hold = self.chance.pick(&["", "0", "0 noreply", "noreply"]).to_owned();
                [b"delete ", &self.key()[..], format!(" {hold}\r\n").as_bytes()].concat()
            }
            33 if self.chance.one_in(4) => {
                let both = ["", " 0", " -1", " noreply", " 0 noreply", " x", " x y"];
                let argument = self.chance.pick(&both);
                self.stored += 1;
                format!("flush_all{argument}\r\n").into_bytes()
            }
            34 => {
                let lines = ["verbosity 1", "verbosity x", "verbosity 1 noreply", "verbosity 1 2"];
                format!("{}\r\n", self.chance.pick(&lines)).into_bytes()
            }
            _ => self.garbage(),
        }
    }
}

/// Both stores, and how to ask the other one.
struct Pair<'m, F> {
    ours: Service<'m>,
    theirs: F,
    now: Time,
}

impl<'m, F: FnMut(&[u8]) -> Vec<u8>> Pair<'m, F> {
    fn new(memory: &'m mut [u8], theirs: F) -> Self {
        let ours = Service::new(memory, &config()).unwrap();
        Self { ours, theirs, now: now() }
    }

    /// Asks both, compares, and returns the answer.
    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let answer = (self.theirs)(request);
        let ours = masked(&ask(&mut self.ours, request, self.now));
        // Meant to differ: what looks like a reply gets none.
        if is_reply(request) {
            assert_eq!(ours, "", "request: {}", masked(request));
            return answer;
        }
        let theirs = masked(&answer);
        assert!(ours == theirs, "request: {}\n ours:   {ours}\n theirs: {theirs}", masked(request));
        answer
    }

    /// The same for a generated request.
    ///
    /// To see whether a number from 2^63 up is negative, memcached looks for a '-' up
    /// to the next zero byte, beyond the end of the value; what it finds there is
    /// chance. So arithmetic is only done with numbers below.
    fn ask_tame(&mut self, request: &[u8], mark: &[u8]) -> Vec<u8> {
        let mut words =
            request.split(|byte| matches!(byte, b' ' | b'\r')).filter(|w| !w.is_empty());
        if let (Some(b"incr" | b"decr"), Some(key)) = (words.next(), words.next()) {
            let value = self.ask(&[b"get ", key, b"\r\n", mark].concat());
            let digits = |line: &[u8]| {
                let line = line.trim_ascii();
                let line = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                std::str::from_utf8(line).ok()?.parse::<u64>().ok()
            };
            let number = value.split(|&byte| byte == b'\n').nth(1).and_then(digits);
            if number.is_some_and(|n| n > i64::MAX as u64) {
                return self.ask(&[b"touch ", key, b" 0\r\n", mark].concat());
            }
        }
        self.ask(&[request, mark].concat())
    }
}

/// Answers that the generated requests must have brought about, or the comparison
/// would say little.
const ALL_ANSWERS: [&str; 16] = [
    "STORED",
    "NOT_STORED",
    "EXISTS",
    "NOT_FOUND",
    "DELETED",
    "TOUCHED",
    "OK",
    "END",
    "ERROR",
    "VALUE ",
    "1",
    "CLIENT_ERROR bad command line format",
    "CLIENT_ERROR bad data chunk",
    "CLIENT_ERROR invalid exptime argument",
    "CLIENT_ERROR invalid numeric delta argument",
    "CLIENT_ERROR cannot increment or decrement non-numeric value",
];

#[test]
fn tcp_answers_are_those_of_memcached() {
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    for seed in 0..4 {
        let Some((_oracle, mut stream)) = Oracle::start_older("oracle over TCP") else { return };
        let mut memory = vec![0; 64 << 20];
        let mut pair = Pair::new(&mut memory, |request| ask_tcp(&mut stream, request));
        let mut requests = Requests::new(seed);
        for _ in 0..10_000 {
            let theirs = pair.ask_tame(&requests.next(), b"version\r\n");
            for answer in ALL_ANSWERS {
                let starts = |line: &[u8]| match answer {
                    "VALUE " | "1" => line.starts_with(answer.as_bytes()),
                    _ => line == answer.as_bytes(),
                };
                let first = theirs.split(|&byte| byte == b'\r').next().unwrap_or_default();
                *seen.entry(answer).or_default() += usize::from(starts(first));
            }
        }
    }
    for answer in ALL_ANSWERS {
        assert!(seen[answer] >= 20, "{answer} was seen {} times", seen[answer]);
    }
}

#[test]
fn counters_are_those_of_memcached() {
    let Some((_oracle, mut stream)) = Oracle::start_older("oracle for stats") else { return };
    let mut memory = vec![0; 64 << 20];
    let mut pair = Pair::new(&mut memory, |request| ask_tcp(&mut stream, request));
    let mut requests = Requests::new(99);
    for _ in 0..5_000 {
        pair.ask_tame(&requests.next(), b"version\r\n");
    }
    let read = |text: &[u8]| -> std::collections::BTreeMap<String, String> {
        let text = String::from_utf8_lossy(text);
        let stats = text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
        stats.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let theirs = read(&(pair.theirs)(b"stats\r\nversion\r\n"));
    let ours = read(&ask(&mut pair.ours, b"stats\r\n", pair.now));
    // Not get_expired, get_flushed, curr_items: memcached also reclaims dead items when
    // it allocates. Not cmd_flush: it counts those with a bad argument.
    for name in [
        "cmd_get",
        "cmd_set",
        "cmd_touch",
        "get_hits",
        "get_misses",
        "delete_hits",
        "delete_misses",
        "incr_hits",
        "incr_misses",
        "decr_hits",
        "decr_misses",
        "cas_hits",
        "cas_misses",
        "cas_badval",
        "touch_hits",
        "touch_misses",
        "store_too_large",
        "total_items",
        "pointer_size",
        "threads",
    ] {
        assert_eq!(ours.get(name), theirs.get(name), "{name}");
    }
    // memcached has no budget for a source of datagrams, nor requests of several.
    let own = ["datagrams_over_budget", "requests_incomplete"];
    let is_known = |name: &str| theirs.contains_key(name) || own.contains(&name);
    let missing: Vec<_> = ours.keys().filter(|name| !is_known(name)).collect();
    assert!(missing.is_empty(), "not names of memcached: {missing:?}");
}

#[test]
fn large_and_negative_values_are_treated_as_by_memcached() {
    let Some((_oracle, mut stream)) = Oracle::start_older("oracle for large and negative values")
    else {
        return;
    };
    let mut memory = vec![0; 64 << 20];
    let mut pair = Pair::new(&mut memory, |request| ask_tcp(&mut stream, request));
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
        // Values that are negative numbers.
        b"set n 0 0 2\r\n-5\r\nincr n 1\r\ndecr n 1\r\nget n\r\n".to_vec(),
        b"set n 0 0 2\r\n-0\r\nincr n 12\r\nget n\r\n".to_vec(),
        // Joined, it would be too large.
        set("big", 700_000, ""),
        [b"append big 0 0 700000\r\n" as &[u8], &vec![b'z'; 700_000], b"\r\n"].concat(),
        b"gets big\r\n".to_vec(),
    ];
    for request in &requests {
        pair.ask(&[request, b"version\r\n" as &[u8]].concat());
    }
}

#[test]
fn udp_answers_are_those_of_memcached() {
    let Some((oracle, _stream)) = Oracle::start_older("oracle over UDP") else { return };
    let socket = udp_socket(&oracle);
    let mut memory = vec![0; 64 << 20];
    let mut pair = Pair::new(&mut memory, |request| ask_udp(&socket, &datagram(request)));
    let mut requests = Requests::new(7);
    for _ in 0..3_000 {
        pair.ask_tame(&requests.next(), b"");
    }
}

#[test]
fn what_memcached_ignores_is_ignored() {
    let Some((oracle, _stream)) = Oracle::start_older("oracle for silence over UDP") else {
        return;
    };
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
