//! Random requests in all protocols.
//!
//! A *round* is a pipeline of up to sixteen commands in one protocol, which ends with a command
//! that shows the end of the answers. Keys are few, so that requests meet each other's items.
//! CAS ids are drawn near the last that was given out, and 0.

use std::fmt::Write as _;

/// The same seed, the same requests (`SplitMix64`).
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// One below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Text and meta commands.
    Text,
    /// The binary protocol.
    Binary,
}

/// Requests, and how the answers to them end.
#[derive(Debug)]
pub struct Round {
    /// In which protocol.
    pub protocol: Protocol,
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// The last bytes of the answers.
    pub end: Vec<u8>,
    /// How many commands.
    pub commands: u64,
}

/// Makes rounds.
#[derive(Debug)]
pub struct Requests {
    /// What decides.
    pub chance: Chance,
    /// The last CAS id that was given out, as far as that can be told from here.
    pub last_cas: u64,
    /// Whether the peer knows what came with 1.6.40 and before.
    newest: bool,
    marks: u32,
    /// Keys that the round has read. As long as memcached has not sent the answer, a number
    /// under such a key is not changed in its place: the new one is then not padded with blanks,
    /// and what was noted of the item is lost. So none is changed.
    read: Vec<&'static str>,
}

const KEYS: [&str; 8] = [
    "a",
    "b",
    "counter",
    "number",
    "key:0000000000000001",
    "x\u{e4}",
    "a-key-of-24-characters-",
    "K",
];
/// Keys that only base64 can write; none of them is one of the others.
const ENCODED: [&str; 3] = ["AAEC", "YiBi", "CmxmCg=="];

impl Requests {
    /// Of this seed, for a peer that knows the newest commands or does not.
    #[must_use]
    pub fn new(seed: u64, newest: bool) -> Self {
        Self { chance: Chance(seed), last_cas: 0, newest, marks: 0, read: Vec::new() }
    }

    /// The next round.
    pub fn round(&mut self) -> Round {
        self.read.clear();
        let commands = 1 + self.chance.below(16) as u64;
        let protocol = if self.chance.one_in(3) { Protocol::Binary } else { Protocol::Text };
        let mut bytes = Vec::new();
        for _ in 0..commands {
            match protocol {
                Protocol::Binary => self.packet(&mut bytes),
                Protocol::Text if self.chance.one_in(2) => self.meta(&mut bytes),
                Protocol::Text => self.text(&mut bytes),
            }
        }
        self.marks += 1;
        let end = match protocol {
            Protocol::Text => {
                bytes.extend(b"mn\r\n");
                b"MN\r\n".to_vec()
            }
            Protocol::Binary => {
                let opaque = 0xfeed_0000_u32.wrapping_add(self.marks).to_be_bytes();
                bytes.extend(packet_with(0x0a, opaque, 0, b"", b"", b""));
                [&[0x81, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &opaque, &[0; 8]].concat()
            }
        };
        Round { protocol, bytes, end, commands }
    }

    fn key(&mut self) -> &'static str {
        self.chance.pick(&KEYS)
    }

    /// A key that is read.
    fn key_to_read(&mut self) -> &'static str {
        let key = self.key();
        self.read.push(key);
        key
    }

    /// A key whose number may be changed.
    fn key_to_change(&mut self) -> &'static str {
        let key = self.key();
        if self.read.contains(&key) { "absent" } else { key }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.chance.below(24) {
            0 => Vec::new(),
            1 => b"one\r\ntwo\r\n".to_vec(),
            2 => self.chance.pick(&["10 apples", " 7", "7 ", "abc", "-5", "12a"]).into(),
            3 => {
                let len = self.chance.below(300);
                (0..len).map(|_| self.chance.number() as u8).collect()
            }
            4 => vec![b'v'; self.chance.below(9000)],
            5 if self.chance.one_in(20) => vec![b'w'; 1000 * self.chance.below(1000)],
            6..14 => vec![b'v'; self.chance.below(120)],
            _ => self.number().into_bytes(),
        }
    }

    fn number(&mut self) -> String {
        match self.chance.below(10) {
            // Far from 2^63: above that, memcached refuses a number if it finds a `-` in the memory
            // behind it.
            0..2 => (self.chance.number() >> 2).to_string(),
            2 => self.chance.pick(&["x", "18446744073709551616", "0"]).into(),
            _ => self.chance.below(2000).to_string(),
        }
    }

    fn cas(&mut self) -> u64 {
        match self.chance.below(8) {
            0 => 0,
            _ => self.last_cas.saturating_sub(self.chance.below(20) as u64),
        }
    }

    fn exptime(&mut self) -> &'static str {
        self.chance.pick(&["0", "0", "0", "0", "0", "0", "1000", "2592000", "-1"])
    }

    /// A line, and its data block.
    fn block(bytes: &mut Vec<u8>, line: &str, value: &[u8]) {
        bytes.extend(line.bytes());
        bytes.extend(b"\r\n");
        bytes.extend(value);
        bytes.extend(b"\r\n");
    }

    fn text(&mut self, bytes: &mut Vec<u8>) {
        let key = self.key();
        let noreply = if self.chance.one_in(6) { " noreply" } else { "" };
        let line = match self.chance.below(24) {
            0..4 => format!("get {}", self.key_to_read()),
            4 => {
                let keys: Vec<_> =
                    (0..1 + self.chance.below(30)).map(|_| self.key_to_read()).collect();
                format!("{} {}", self.chance.pick(&["get", "gets"]), keys.join(" "))
            }
            5 => format!(
                "{} {} {} {}",
                self.chance.pick(&["gat", "gats"]),
                self.exptime(),
                self.key_to_read(),
                self.key_to_read()
            ),
            6 => format!("gets {}", self.key_to_read()),
            7 => {
                let (verb, key) = (self.chance.pick(&["incr", "decr"]), self.key_to_change());
                format!("{verb} {key} {}{noreply}", self.number())
            }
            8 => format!("delete {key}{noreply}"),
            9 => format!("touch {key} {}{noreply}", self.exptime()),
            10 if self.chance.one_in(10) => format!("flush_all{noreply}"),
            11 => self
                .chance
                .pick(&[
                    "nonsense",
                    "get  a",
                    "GET a",
                    "mx",
                    "ms a",
                    "verbosity 1",
                    "shutdown",
                    "cache_memlimit 7",
                    "cache_memlimit x",
                    "stats nonsense",
                    "stats sizes",
                    "stats detail",
                    "   ",
                ])
                .into(),
            12 => format!("get {}", "L".repeat(240 + self.chance.below(11))),
            _ => {
                let value = self.value();
                let verb = self
                    .chance
                    .pick(&["set", "set", "set", "add", "replace", "append", "prepend", "cas"]);
                let cas = if verb == "cas" { format!(" {}", self.cas()) } else { String::new() };
                let flags = self.chance.number() as u32 >> self.chance.below(32);
                let exptime = self.exptime();
                let len = match self.chance.below(40) {
                    // A block that is longer than its line says.
                    0 => value.len().saturating_sub(1),
                    _ => value.len(),
                };
                let line = format!("{verb} {key} {flags} {exptime} {len}{cas}{noreply}");
                return Self::block(bytes, &line, &value);
            }
        };
        bytes.extend(line.bytes());
        bytes.extend(b"\r\n");
    }

    /// A key, and the flag that says so if it is in base64.
    fn meta_key(&mut self) -> (&'static str, &'static str) {
        if self.chance.one_in(4) { (self.chance.pick(&ENCODED), " b") } else { (self.key(), "") }
    }

    fn meta(&mut self, bytes: &mut Vec<u8>) {
        let (key, mut line) = (self.meta_key(), String::new());
        let (key, encoded) = key;
        let verb = match self.chance.pick(&["mg", "mg", "ms", "ms", "md", "ma", "me"]) {
            // (For the reason below, in `flags`.)
            "me" if !encoded.is_empty() => "mg",
            "ma" if self.read.contains(&key) => "md",
            verb => verb,
        };
        if verb == "mg" {
            self.read.push(key);
        }
        let _ = write!(line, "{verb} {key}");
        let value = self.value();
        if verb == "ms" {
            let _ = write!(line, " {}", value.len());
        }
        line.push_str(encoded);
        if verb != "me" {
            self.flags(verb, !encoded.is_empty(), &mut line);
        }
        if verb == "ms" {
            Self::block(bytes, &line, &value);
        } else {
            bytes.extend(line.bytes());
            bytes.extend(b"\r\n");
        }
    }

    fn flags(&mut self, verb: &str, is_encoded: bool, line: &mut String) {
        let known = match verb {
            // memcached answers the key of an item that `ms` did not make in base64 as it is,
            // blanks and all.
            "mg" if is_encoded => "cfhlOqstuvNRT",
            "mg" => "cfhklOqstuvNRT",
            "ms" => "ckOqFCITM",
            "md" => "kOqCIT",
            // Up to 1.6.18 an `ma` that makes an item is told in spite of `q`.
            // And memcached forgets the `T` of an `ma` whose number gets longer.
            _ if !self.newest => "OtcvkNJDMC",
            _ => "OqtcvkNJDMC",
        };
        let newest = match verb {
            "mg" => "EC",
            "ms" => "EsN",
            "md" => "Ex",
            _ => "E",
        };
        let mut flags: Vec<u8> = known.bytes().collect();
        if self.newest {
            flags.extend(newest.bytes());
        }
        for _ in 0..self.chance.below(7) {
            if flags.is_empty() {
                break;
            }
            let flag = flags.swap_remove(self.chance.below(flags.len()));
            line.push(' ');
            line.push(char::from(flag));
            match flag {
                b'O' => line.push_str(self.chance.pick(&[
                    "",
                    "1",
                    "opaque",
                    "0123456789012345678901234567890",
                ])),
                b'N' | b'T' => line.push_str(self.chance.pick(&["0", "30", "1000", "1000", "0"])),
                // None of the times above: whether one is below itself is a matter of ticks.
                b'R' => line.push_str(self.chance.pick(&["0", "500"])),
                b'F' | b'D' | b'J' => {
                    let _ = write!(line, "{}", self.chance.below(100_000));
                }
                b'C' | b'E' => {
                    let _ = write!(line, "{}", self.cas());
                }
                b'M' if verb == "ma" => line.push_str(self.chance.pick(&["I", "D", "+", "-", "x"])),
                b'M' => line.push_str(self.chance.pick(&["E", "A", "P", "R", "S", "x"])),
                _ => {}
            }
        }
        // Now and then a fault that is told in the same words by all versions.
        if verb == "mg" && self.chance.one_in(20) {
            line.push_str(
                self.chance.pick(&[" !", " v v", " Tx", " N", " C", " Mxx", " Dx", " Jx"]),
            );
        }
    }

    fn packet(&mut self, bytes: &mut Vec<u8>) {
        let key = if self.chance.one_in(8) { "\n b" } else { self.key() };
        let value = self.value();
        let cas = if self.chance.one_in(4) { self.cas() } else { 0 };
        let exptime = *self.chance.pick(&[&0_u32, &0, &0, &1000, &2_592_001]);
        let flags = self.chance.number() as u32 >> self.chance.below(32);
        let opaque = (self.chance.number() as u32).to_be_bytes();
        let mut change = Vec::new();
        change.extend((self.chance.below(2000) as u64).to_be_bytes());
        change.extend((self.chance.below(2000) as u64).to_be_bytes());
        change.extend((if self.chance.one_in(2) { u32::MAX } else { exptime }).to_be_bytes());
        let store = [flags.to_be_bytes(), exptime.to_be_bytes()].concat();
        let exptime = exptime.to_be_bytes();
        let (opcodes, extras, key, value): (&[u8], &[u8], &str, &[u8]) = match self.chance.below(20)
        {
            0..5 => {
                self.read.push(key);
                (&[0, 9, 0x0c, 0x0d], b"", key, b"")
            }
            5..10 => (&[1, 2, 3, 0x11, 0x12, 0x13], &store, key, &value),
            10..12 => (&[0x0e, 0x0f, 0x19, 0x1a], b"", key, &value),
            12..14 if !self.read.contains(&key) => (&[5, 6, 0x15, 0x16], &change, key, b""),
            14..16 => (&[4, 0x14], b"", key, b""),
            16..18 => {
                self.read.push(key);
                (&[0x1c, 0x1d, 0x1e, 0x23, 0x24], &exptime, key, b"")
            }
            18 => (&[0x0a, 0x7f, 0x20, 0x40], b"", "", b""),
            _ => (&[0x09, 0x0d], b"", "absent", b""),
        };
        let opcode = opcodes[self.chance.below(opcodes.len())];
        bytes.extend(packet_with(opcode, opaque, cas, extras, key.as_bytes(), value));
    }
}

fn packet_with(
    opcode: u8,
    opaque: [u8; 4],
    cas: u64,
    extras: &[u8],
    key: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let mut head = vec![0x80, opcode];
    head.extend((key.len() as u16).to_be_bytes());
    head.extend([extras.len() as u8, 0, 0, 0]);
    head.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    head.extend(opaque);
    head.extend(cas.to_be_bytes());
    [&head, extras, key, value].concat()
}
