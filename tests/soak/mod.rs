//! Clients that ask a store for long, know what it may answer, and account for every request and
//! every byte.
//!
//! | file | what it is |
//! |---|---|
//! | [`tcp`] | a client that writes requests together, over connections |
//! | [`udp`] | a client that asks one by one, in datagrams |
//! | [`lost`] | datagrams that the host has thrown away, as it tells itself |
//!
//! The store may give up any item at any time. So a `get` may find nothing, and what it finds is
//! the version that was stored last.

pub mod lost;
pub mod tcp;
pub mod udp;

use std::collections::HashMap;
use std::io::BufRead;

use crate::model::Random;

/// Keys of each client.
const KEYS: u64 = 1000;
/// The longest value: an item may take a mebibyte with its key and what the store keeps of it.
const LONGEST: u64 = (1 << 20) - 512;
/// Of how many clients each has versions of its own.
const CLIENTS: u64 = 64;

/// What a client counted.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Requests sent, and those of them that were answered, and not: a datagram was lost.
    pub sent: u64,
    /// See [`Counts::sent`].
    pub answered: u64,
    /// See [`Counts::sent`].
    pub lost: u64,
    /// Reads that were answered, and those that found their item.
    pub gets: u64,
    /// See [`Counts::gets`].
    pub hits: u64,
    /// Items that were stored and not deleted, and not found: evicted.
    pub gone: u64,
    /// Stores that were answered.
    pub sets: u64,
    /// Values that found no room, since too much was held for other connections.
    pub refused: u64,
    /// Items deleted, found or not.
    pub deletes: u64,
    /// Bytes of answers that came, the eight in front of each datagram included.
    pub received: u64,
    /// Datagrams missing of answers of which some came: it falls when they come late.
    pub missing: i64,
    /// Connections made.
    pub connections: u64,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Get,
    Set { version: u64 },
    Delete,
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

/// A client's own keys, and what it knows of them.
pub(crate) struct Items {
    number: u64,
    pub(crate) random: Random,
    known: HashMap<u64, Known>,
    versions: u64,
    pub(crate) counts: Counts,
}

impl Items {
    /// The keys of client `number`.
    pub(crate) fn new(number: u64) -> Self {
        assert!(number < CLIENTS, "versions would be another client's");
        let counts = Counts::default();
        Self {
            number,
            random: Random::new(number),
            known: HashMap::new(),
            versions: number,
            counts,
        }
    }

    fn name(&self, key: u64) -> String {
        // Lengths from short to the longest allowed.
        let name = format!("soak-{}-{key}-", self.number);
        let length = if key.is_multiple_of(16) { 250 } else { 20 };
        format!("{name:k<length$}")
    }

    /// Most are short, some are long.
    pub(crate) fn length(version: u64) -> u64 {
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

    /// Chooses a request.
    pub(crate) fn choose(&mut self) -> (u64, Asked) {
        let key = self.random.below(KEYS);
        let asked = match self.random.below(100) {
            0..48 => Asked::Get,
            48..96 => {
                self.versions += CLIENTS;
                Asked::Set { version: self.versions }
            }
            _ => Asked::Delete,
        };
        (key, asked)
    }

    /// Writes a request behind `bytes`.
    pub(crate) fn write(&self, key: u64, asked: Asked, bytes: &mut Vec<u8>) {
        let name = self.name(key);
        match asked {
            Asked::Get => bytes.extend(format!("get {name}\r\n").bytes()),
            Asked::Set { version } => {
                let (value, flags) = (Self::value(version), version as u32);
                bytes.extend(format!("set {name} {flags} 0 {}\r\n", value.len()).bytes());
                bytes.extend(&value);
                bytes.extend(b"\r\n");
            }
            Asked::Delete => bytes.extend(format!("delete {name}\r\n").bytes()),
        }
    }

    /// No answer came: whether it was carried out is not known.
    pub(crate) fn lost(&mut self, key: u64, asked: Asked) {
        self.counts.lost += 1;
        let known = self.known.entry(key).or_default();
        let before = known.version.or(known.before);
        match asked {
            Asked::Get => {}
            Asked::Set { version } => *known = Known { version: Some(version), before },
            Asked::Delete => *known = Known { version: None, before },
        }
    }

    /// Takes the answer to a request from `reader`.
    ///
    /// # Panics
    /// If it is not one that there may be.
    pub(crate) fn check(&mut self, reader: &mut impl BufRead, key: u64, asked: Asked) {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        self.counts.answered += 1;
        self.counts.received += line.len() as u64;
        match asked {
            Asked::Set { version } => {
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
            Asked::Delete => {
                self.counts.deletes += 1;
                let known = self.known.remove(&key).unwrap_or_default();
                let may_be = known.version.or(known.before).is_some();
                let fits = line == "NOT_FOUND\r\n" || line == "DELETED\r\n" && may_be;
                assert!(fits, "{line:?}");
            }
            Asked::Get => self.check_get(reader, key, &line),
        }
    }

    fn check_get(&mut self, reader: &mut impl BufRead, key: u64, line: &str) {
        self.counts.gets += 1;
        let known = self.known.get(&key).copied().unwrap_or_default();
        if line == "END\r\n" {
            self.counts.gone += u64::from(known.version.is_some());
            // What was evicted does not come back.
            self.known.remove(&key);
            return;
        }
        self.counts.hits += 1;
        let versions = [known.version, known.before].into_iter().flatten();
        let name = self.name(key);
        let head =
            |version: u64| format!("VALUE {name} {} {}\r\n", version as u32, Self::length(version));
        let version = versions.into_iter().find(|&version| head(version) == line);
        let Some(version) = version else { panic!("{line:?} is no answer that there may be") };
        let mut value = vec![0; Self::length(version) as usize + 7];
        reader.read_exact(&mut value).expect("a value");
        self.counts.received += value.len() as u64;
        let is_right = value.strip_suffix(b"\r\nEND\r\n") == Some(&Self::value(version)[..]);
        assert!(is_right, "the value of {name} is not what was stored");
    }
}
