//! What is kept when sizes mix and the memory does not hold it all, compared with the
//! installed memcached of the same memory.
//!
//! The fault that these are for: a store full of old items of one size, and new items of
//! another that push each other out.

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;

use common::oracle::{Oracle, ask_tcp};
use common::{Chance, config};
use kvstore::engine::{Engine, Expiry, Key, Mode, Stored};

/// Mebibytes of each store.
const MEMORY: usize = 16;

/// A store under comparison.
trait Store {
    fn set(&mut self, key: &str, len: usize);
    fn get(&mut self, key: &str);
    /// Which of the keys are there.
    fn kept(&mut self, keys: &[String]) -> Vec<bool>;
}

struct Ours<'m>(Engine<'m>);

fn checked(key: &str) -> Key<'_> {
    Key::new(key.as_bytes()).expect("a key")
}

impl Store for Ours<'_> {
    fn set(&mut self, key: &str, len: usize) {
        let stored = self.0.store(Mode::Set, checked(key), 0, Expiry::NEVER, &vec![b'v'; len]);
        assert_eq!(stored, Stored::Stored);
    }

    fn get(&mut self, key: &str) {
        self.0.get(checked(key));
    }

    fn kept(&mut self, keys: &[String]) -> Vec<bool> {
        keys.iter().map(|key| self.0.get(checked(key)).is_some()).collect()
    }
}

/// memcached; what it is to do waits in `batch` until there is enough.
struct Theirs {
    stream: TcpStream,
    batch: Vec<u8>,
    /// How many `get`s are in it: their replies must not fill the connection.
    gets: usize,
}

impl Theirs {
    fn flush(&mut self) -> Vec<u8> {
        self.gets = 0;
        self.batch.extend_from_slice(b"version\r\n");
        ask_tcp(&mut self.stream, &std::mem::take(&mut self.batch))
    }
}

impl Store for Theirs {
    fn set(&mut self, key: &str, len: usize) {
        write!(self.batch, "set {key} 0 0 {len} noreply\r\n").expect("memory");
        self.batch.resize(self.batch.len() + len, b'v');
        self.batch.extend_from_slice(b"\r\n");
        if self.batch.len() > 1 << 20 {
            self.flush();
        }
    }

    fn get(&mut self, key: &str) {
        write!(self.batch, "get {key}\r\n").expect("memory");
        self.gets += 1;
        if self.gets == 20 {
            self.flush();
        }
    }

    fn kept(&mut self, keys: &[String]) -> Vec<bool> {
        self.flush();
        let mut kept = Vec::new();
        // `touch` answers with one short line a key, and is read in whole batches.
        for keys in keys.chunks(500) {
            for key in keys {
                write!(self.batch, "touch {key} 0\r\n").expect("memory");
            }
            let answer = self.flush();
            let lines = answer.split(|&byte| byte == b'\n').take(keys.len());
            kept.extend(lines.map(|line| line.starts_with(b"TOUCHED")));
        }
        kept
    }
}

/// What a mix stored, by name: the keys whose keeping is compared.
type Groups = HashMap<String, Vec<String>>;

/// `count` items of this size, in a group of their own.
fn store(store: &mut dyn Store, groups: &mut Groups, name: &str, count: usize, len: usize) {
    let keys: Vec<_> = (0..count).map(|n| format!("{name}-{len}-{n}")).collect();
    keys.iter().for_each(|key| store.set(key, len));
    groups.insert(format!("{name} {len}"), keys);
}

/// A full store of large items that no client reads; then few of each of ten sizes.
fn burst(to: &mut dyn Store) -> Groups {
    let mut groups = Groups::new();
    store(to, &mut groups, "old", 15_000, 1380);
    groups.clear();
    for len in [1, 10, 60, 100, 200, 400, 700, 1000, 1200, 1430] {
        store(to, &mut groups, "new", 300, len);
    }
    groups
}

/// The same where each old item was read once, right after it was stored.
fn burst_after_reads(to: &mut dyn Store) -> Groups {
    let mut groups = Groups::new();
    for n in 0..15_000 {
        let key = format!("old-{n}");
        to.set(&key, 1380);
        to.get(&key);
    }
    for len in [1, 60, 200, 700, 1430] {
        store(to, &mut groups, "new", 300, len);
    }
    groups
}

/// Items of up to several pages after small ones.
fn large_after_small(to: &mut dyn Store) -> Groups {
    let mut groups = Groups::new();
    store(to, &mut groups, "old", 250_000, 50);
    groups.clear();
    for (count, len) in [(300, 1000), (100, 5000), (40, 20_000), (8, 100_000), (2, 300_000)] {
        store(to, &mut groups, "new", count, len);
    }
    groups
}

/// Each size fills the store in turn; then some of all.
fn sizes_in_turn(to: &mut dyn Store) -> Groups {
    let mut groups = Groups::new();
    for (round, len) in [100, 300, 1000, 100, 4000, 30].into_iter().enumerate() {
        let count = (MEMORY << 20) / (len + 60);
        store(to, &mut groups, &format!("old{round}"), count, len);
    }
    groups.clear();
    for len in [30, 100, 300, 1000, 4000] {
        store(to, &mut groups, "new", 400, len);
    }
    groups
}

/// Sizes mixed at random, three times the memory: what was stored last, up to a quarter of
/// the memory.
fn at_random(to: &mut dyn Store) -> Groups {
    let mut chance = Chance(5);
    let mut all = Vec::new();
    let mut bytes = 0;
    while bytes < (3 * MEMORY) << 20 {
        let len = 20 << chance.below(8);
        let key = format!("mixed-{len}-{}", all.len());
        to.set(&key, len);
        bytes += len + 60;
        all.push((key, len));
    }
    let mut groups = Groups::new();
    let mut room = (MEMORY << 20) / 4;
    for (key, len) in all.into_iter().rev() {
        let Some(rest) = room.checked_sub(len + 60) else { break };
        room = rest;
        groups.entry(format!("mixed {len}")).or_default().push(key);
    }
    groups
}

/// A few thousand items that are read all the time, while others pass through.
fn some_read(to: &mut dyn Store) -> Groups {
    let mut groups = Groups::new();
    store(to, &mut groups, "read", 1000, 150);
    store(to, &mut groups, "read", 250, 900);
    let read: Vec<_> = groups.values().flatten().cloned().collect();
    for n in 0..45_000 {
        to.set(&format!("passing-{n}"), [40, 400, 1200][n % 3]);
        to.get(&read[n % read.len()]);
    }
    groups
}

/// A full store of which one item in ten is read; then a burst of another size.
fn one_in_ten_read(to: &mut dyn Store) -> Groups {
    let mut groups = Groups::new();
    store(to, &mut groups, "old", 12_000, 1200);
    let old = groups.remove("old 1200").unwrap_or_default();
    let read: Vec<_> = old.into_iter().skip(3000).step_by(10).collect();
    read.iter().for_each(|key| to.get(key));
    for n in 0..4000 {
        to.set(&format!("new-{n}"), 200);
        to.get(&read[n % read.len()]);
    }
    groups.insert("read".to_owned(), read);
    groups.insert("new".to_owned(), (0..4000).map(|n| format!("new-{n}")).collect());
    groups
}

#[test]
fn mixes_of_sizes_are_kept_as_by_memcached() {
    type Mix = (&'static str, fn(&mut dyn Store) -> Groups);
    let mixes: [Mix; 7] = [
        ("a burst", burst),
        ("a burst after reads", burst_after_reads),
        ("large after small", large_after_small),
        ("sizes in turn", sizes_in_turn),
        ("at random", at_random),
        ("some read", some_read),
        ("one in ten read", one_in_ten_read),
    ];
    let mut report = String::new();
    let mut good = true;
    for (name, mix) in mixes {
        let mut memory = vec![0; MEMORY << 20];
        let mut ours = Ours(Engine::new(&mut memory, &config()).expect("memory enough"));
        let groups = mix(&mut ours);
        let option = format!("-m{MEMORY}");
        let mut theirs = Oracle::start_with("mixes of sizes", &[&option])
            .map(|(oracle, stream)| (oracle, Theirs { stream, batch: Vec::new(), gets: 0 }));
        if let Some((_, theirs)) = &mut theirs {
            mix(theirs);
        }
        let mut names: Vec<_> = groups.keys().collect();
        names.sort();
        for group in names {
            let keys = &groups[group];
            let count = |kept: Vec<bool>| kept.into_iter().filter(|&kept| kept).count();
            let our = count(ours.kept(keys));
            let their = theirs.as_mut().map(|(_, theirs)| count(theirs.kept(keys)));
            report += &format!("{name}, {group}: of {} ours {our}, theirs {their:?}\n", keys.len());
            // All of these are young, and all together fit. One in a hundred is chance.
            good &= our + keys.len() / 100 >= their.unwrap_or(0).max(keys.len());
        }
    }
    assert!(good, "young items are lost, or fewer kept than by memcached:\n{report}");
}
