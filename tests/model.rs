//! A store as simple as can be, to compare a real one with; and a client that makes
//! random requests and checks every answer.

use std::collections::BTreeMap;

use exo_cmd::Result;
use exo_cmd::client::{Client, Storage, Stored};

/// What the model knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: Vec<u8>,
    flags: u32,
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.word() as u8).collect()
    }
}

/// One client with its own keys, and what the store should hold of them.
///
/// A request without an answer may or may not have been carried out. Then
/// the model forgets what it knew of the key, and a `set` or `delete` of it, which may
/// be repeated, makes it known again. On the loopback interface answers do come, but
/// a test must not depend on that.
pub struct Worker {
    client: Client,
    random: Random,
    prefix: String,
    keys: u64,
    entries: BTreeMap<u64, Entry>,
    unknown: std::collections::BTreeSet<u64>,
    /// Whether to ask for several keys at once, too. Not of the original: it spreads the answer
    /// over datagrams that do not say how many they are.
    pub several: bool,
    /// Requests made, and those that no answer came to.
    pub requests: u64,
    /// See [`Worker::requests`].
    pub unanswered: u64,
}

impl Worker {
    /// A worker with `keys` keys that begin with `prefix`.
    #[must_use]
    pub fn new(mut client: Client, prefix: &str, keys: u64, seed: u64) -> Self {
        client.timeout = std::time::Duration::from_secs(5);
        client.attempts = 12;
        Self {
            client,
            random: Random::new(seed),
            prefix: prefix.to_owned(),
            keys,
            entries: BTreeMap::new(),
            unknown: std::collections::BTreeSet::new(),
            several: true,
            requests: 0,
            unanswered: 0,
        }
    }

    fn name(&self, key: u64) -> Vec<u8> {
        // Lengths from short to the longest allowed.
        let mut name = format!("{}{key}", self.prefix).into_bytes();
        let length = match key % 16 {
            0 => 250,
            1 => 100,
            _ => name.len(),
        };
        name.resize(length.max(name.len()), b'k');
        name
    }

    /// Makes one random request and checks the answer.
    ///
    /// # Errors
    /// If the store answers nonsense, or not at all to what can be repeated.
    ///
    /// # Panics
    /// If the answer is not what the model says.
    pub fn step(&mut self) -> Result<()> {
        self.requests += 1;
        let key = self.random.below(self.keys);
        let name = self.name(key);
        if self.unknown.contains(&key) {
            return self.set(key, &name);
        }
        match self.random.below(100) {
            0..40 => self.get(key, &name),
            40..65 => self.set(key, &name),
            65..70 => self.condition(key, &name, Storage::Add),
            70..75 => self.condition(key, &name, Storage::Replace),
            75..80 => self.extend(key, &name, Storage::Append),
            80..83 => self.extend(key, &name, Storage::Prepend),
            83..88 => self.cas(key, &name),
            88..93 => self.delete(key, &name),
            93..97 => self.count(key, &name),
            _ if self.several => self.get_many(key),
            _ => self.get(key, &name),
        }
    }

    /// Checks every key.
    ///
    /// # Errors
    /// As [`Worker::step`].
    ///
    /// # Panics
    /// As [`Worker::step`].
    pub fn check_all(&mut self) -> Result<()> {
        for key in 0..self.keys {
            if !self.unknown.contains(&key) {
                let name = self.name(key);
                self.get(key, &name)?;
            }
        }
        Ok(())
    }

    /// Values of all sizes that fit a datagram with the longest key.
    fn value(&mut self) -> Vec<u8> {
        let length = match self.random.below(8) {
            0 => 0,
            1 => self.random.below(900),
            2 => 900 + self.random.below(100),
            _ => self.random.below(100),
        };
        self.random.bytes(length)
    }

    /// Takes in the answer to something that is not repeated.
    fn once<T>(
        &mut self,
        key: u64,
        answer: Result<T, exo_cmd::client::ClientError>,
    ) -> Result<Option<T>> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(exo_cmd::client::ClientError::NoAnswer { .. }) => {
                self.unanswered += 1;
                self.entries.remove(&key);
                self.unknown.insert(key);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn get(&mut self, key: u64, name: &[u8]) -> Result<()> {
        let found = self.client.get(name)?;
        let found = found.map(|item| Entry { value: item.value, flags: item.flags });
        assert_eq!(found.as_ref(), self.entries.get(&key), "get {}", String::from_utf8_lossy(name));
        Ok(())
    }

    fn get_many(&mut self, key: u64) -> Result<()> {
        // As many as an answer of one datagram has room for.
        let mut room = 1200;
        let keys: Vec<u64> = (0..5)
            .map(|step| (key + step) % self.keys)
            .filter(|key| !self.unknown.contains(key) && !matches!(key % 16, 0 | 1))
            .take_while(|key| {
                room -= 60 + self.entries.get(key).map_or(0, |entry| entry.value.len() as i64);
                room > 0
            })
            .collect();
        let names: Vec<_> = keys.iter().map(|key| self.name(*key)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let request = [b"get ", names.join(&b' ').as_slice(), b"\r\n"].concat();
        let mut wanted = Vec::new();
        for (key, name) in keys.iter().zip(&names) {
            let Some(Entry { value, flags }) = self.entries.get(key) else { continue };
            let name = String::from_utf8_lossy(name);
            wanted.extend(format!("VALUE {name} {flags} {}\r\n", value.len()).into_bytes());
            wanted.extend(value);
            wanted.extend(b"\r\n");
        }
        wanted.extend(b"END\r\n");
        let found = self.client.ask_again(&request)?;
        assert_eq!(found, wanted, "get of several");
        Ok(())
    }

    fn set(&mut self, key: u64, name: &[u8]) -> Result<()> {
        let (value, flags) = (self.value(), self.random.word() as u32);
        assert_eq!(self.client.set(name, &value, flags, 0)?, Stored::Stored, "set");
        self.entries.insert(key, Entry { value, flags });
        self.unknown.remove(&key);
        Ok(())
    }

    /// `add` and `replace`.
    fn condition(&mut self, key: u64, name: &[u8], how: Storage) -> Result<()> {
        let (value, flags) = (self.value(), self.random.word() as u32);
        let wanted = match (how, self.entries.contains_key(&key)) {
            (Storage::Add, false) | (Storage::Replace, true) => Stored::Stored,
            _ => Stored::NotStored,
        };
        let answer = self.client.store(how, name, &value, flags, 0);
        let Some(stored) = self.once(key, answer)? else { return Ok(()) };
        assert_eq!(stored, wanted, "{how:?} {}", String::from_utf8_lossy(name));
        if stored == Stored::Stored {
            self.entries.insert(key, Entry { value, flags });
        }
        Ok(())
    }

    /// `append` and `prepend`.
    fn extend(&mut self, key: u64, name: &[u8], how: Storage) -> Result<()> {
        let length = self.random.below(20);
        let more = self.random.bytes(length);
        let old = self.entries.get(&key).cloned();
        if old.as_ref().is_some_and(|entry| entry.value.len() > 960) {
            return self.set(key, name);
        }
        let answer = self.client.store(how, name, &more, 0, 0);
        let Some(stored) = self.once(key, answer)? else { return Ok(()) };
        let wanted = if old.is_some() { Stored::Stored } else { Stored::NotStored };
        assert_eq!(stored, wanted, "{how:?} {}", String::from_utf8_lossy(name));
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.value = match how {
                Storage::Append => [&entry.value[..], &more].concat(),
                _ => [&more[..], &entry.value].concat(),
            };
        }
        Ok(())
    }

    fn cas(&mut self, key: u64, name: &[u8]) -> Result<()> {
        let found = self.client.gets(name)?;
        let old = self.entries.get(&key);
        assert_eq!(found.as_ref().map(|item| &item.value), old.map(|entry| &entry.value), "gets");
        let id = found.and_then(|item| item.cas);
        let stale = self.random.below(3) == 0;
        let (value, flags) = (self.value(), self.random.word() as u32);
        let wanted = match id {
            None => Stored::NotFound,
            Some(_) if stale => Stored::Exists,
            Some(_) => Stored::Stored,
        };
        let id = id.unwrap_or(1) ^ if stale { 1 << 40 } else { 0 };
        let answer = self.client.store(Storage::Cas(id), name, &value, flags, 0);
        let Some(stored) = self.once(key, answer)? else { return Ok(()) };
        assert_eq!(stored, wanted, "cas {}", String::from_utf8_lossy(name));
        if stored == Stored::Stored {
            self.entries.insert(key, Entry { value, flags });
        }
        Ok(())
    }

    fn delete(&mut self, key: u64, name: &[u8]) -> Result<()> {
        let answer = self.client.delete(name);
        let Some(deleted) = self.once(key, answer)? else { return Ok(()) };
        let wanted = self.entries.remove(&key).is_some();
        assert_eq!(deleted, wanted, "delete {}", String::from_utf8_lossy(name));
        Ok(())
    }

    /// Makes the key a number and counts with it.
    fn count(&mut self, key: u64, name: &[u8]) -> Result<()> {
        let start = self.random.word() >> self.random.below(64);
        let text = start.to_string().into_bytes();
        assert_eq!(self.client.set(name, &text, 7, 0)?, Stored::Stored, "set of a number");
        self.entries.insert(key, Entry { value: text, flags: 7 });
        let delta = self.random.word() >> self.random.below(64);
        let (answer, wanted) = if self.random.below(2) == 0 {
            (self.client.incr(name, delta), start.wrapping_add(delta))
        } else {
            (self.client.decr(name, delta), start.saturating_sub(delta))
        };
        let Some(number) = self.once(key, answer)? else { return Ok(()) };
        assert_eq!(number, Some(wanted), "{start} and {delta}");
        // How a number that got shorter is padded is the store's affair: read it back.
        let item = self.client.get(name)?.expect("it was there");
        let text = String::from_utf8_lossy(&item.value).trim_end().to_owned();
        assert_eq!((text, item.flags), (wanted.to_string(), 7), "the number");
        self.entries.insert(key, Entry { value: item.value, flags: 7 });
        Ok(())
    }
}
