//! The engine against a model, and under memory that is much too small.

use std::collections::HashMap;
use std::format;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::config::TABLES;
use super::{Condition, Config, Delta, DeltaError, Engine, Eviction, Expiry, Key, Mode, Stored};

/// What the model knows of an item.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    flags: u32,
    value: Vec<u8>,
    cas: u64,
    expires: u32,
}

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Store(u8, u8, u32, u32, Vec<u8>),
    Cas(u8, bool, Vec<u8>),
    Delete(u8),
    Touch(u8, u32),
    Change(u8, bool, u64),
    Flush,
    Sleep(u32),
}

/// A key for each number: of many lengths, with several in a chain of the index.
fn key(number: u8) -> Vec<u8> {
    let len = [1, 3, 7, 8, 15, 16, 17, 40, 250][usize::from(number) % 9];
    let text = format!("{number:03}").into_bytes();
    if len < 3 { vec![b'A' + number / 9] } else { [text, vec![b'.'; len - 3]].concat() }
}

struct Test<'m> {
    engine: Engine<'m>,
    model: HashMap<u8, Entry>,
    now: u32,
    /// Items the model had and the engine did not.
    lost: u64,
}

impl Test<'_> {
    fn run(ops: &[Op], memory: usize, config: &Config) -> (u64, u64) {
        let mut memory = vec![0xa5; memory];
        let engine = Engine::new(&mut memory, config).unwrap();
        let mut test = Test { engine, model: HashMap::new(), now: 5, lost: 0 };
        test.engine.set_time(5);
        for op in ops {
            test.step(op);
            if test.model.len() < 8 {
                test.engine.audit();
            }
        }
        test.engine.audit();
        test.check_all();
        (test.lost, test.engine.stats().evictions)
    }

    /// The model's item, unless time has taken it or the engine has given it up.
    fn entry(&mut self, number: u8) -> Option<Entry> {
        if self.model.get(&number).is_some_and(|e| e.expires != 0 && e.expires <= self.now) {
            self.model.remove(&number);
        }
        let name = key(number);
        let found = self.engine.index.find(
            &self.engine.heap,
            self.engine.hash_key.hash(Key::new(&name).unwrap()),
            Key::new(&name).unwrap(),
        );
        if found.is_none() && self.model.remove(&number).is_some() {
            self.lost += 1;
        }
        self.model.get(&number).cloned()
    }

    fn check(&mut self, number: u8) {
        let expected = self.entry(number);
        let name = key(number);
        let found = self.engine.get(Key::new(&name).unwrap());
        match (&found, &expected) {
            (Some(value), Some(entry)) => {
                let suffix = format!(" {} {}\r\n", entry.flags, entry.value.len());
                let wire = [&name, suffix.as_bytes(), &entry.value, b"\r\n"].concat();
                assert_eq!(value.wire(), wire);
                assert_eq!(value.bytes(), entry.value);
                assert_eq!(value.cas(), entry.cas);
                assert_eq!([value.head(), value.tail()].concat(), value.wire());
            }
            (None, None) => {}
            _ => panic!("{number}: found {found:?}, expected {expected:?}"),
        }
    }

    fn check_all(&mut self) {
        for number in 0..=255 {
            self.check(number);
        }
    }

    fn stored(&mut self, number: u8, flags: u32, expires: u32, value: Vec<u8>, outcome: Stored) {
        assert_eq!(outcome, Stored::Stored);
        let cas = self.engine.last_cas;
        self.model.insert(number, Entry { flags, value, cas, expires });
    }

    fn step(&mut self, op: &Op) {
        match op.clone() {
            Op::Get(number) => self.check(number),
            Op::Store(number, mode, flags, expires, value) => {
                let mode = [Mode::Set, Mode::Add, Mode::Replace, Mode::Append, Mode::Prepend]
                    [mode as usize];
                let old = self.entry(number);
                let name = key(number);
                let expiry = if expires == 0 { Expiry::NEVER } else { Expiry::at(expires) };
                let name = Key::new(&name).unwrap();
                let outcome = self.engine.store(mode, name, flags, expiry, &value);
                match (mode, old) {
                    _ if outcome == Stored::TooLarge => {
                        assert!(!self.engine.fits(name, flags, value.len()));
                        if mode == Mode::Set {
                            self.model.remove(&number);
                        }
                    }
                    (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => {
                        self.stored(number, flags, expires, value, outcome);
                    }
                    (Mode::Append | Mode::Prepend, Some(old)) => {
                        let joined = match mode {
                            Mode::Append => [old.value, value].concat(),
                            _ => [value, old.value].concat(),
                        };
                        if outcome == Stored::NotStored {
                            // Too large, or a chunk could not be had beside the old one.
                            assert!(joined.len() > 5000);
                        } else {
                            self.stored(number, old.flags, old.expires, joined, outcome);
                        }
                    }
                    _ => assert_eq!(outcome, Stored::NotStored),
                }
            }
            Op::Cas(number, right, value) => {
                let old = self.entry(number);
                let cas = old.as_ref().map_or(1, |old| old.cas + u64::from(!right));
                let name = key(number);
                let name = Key::new(&name).unwrap();
                let outcome = self.engine.store(Mode::Cas(cas), name, 9, Expiry::NEVER, &value);
                match old {
                    _ if outcome == Stored::TooLarge => {}
                    None => assert_eq!(outcome, Stored::NotFound),
                    Some(_) if !right => assert_eq!(outcome, Stored::Exists),
                    Some(_) => self.stored(number, 9, 0, value, outcome),
                }
            }
            Op::Delete(number) => {
                let old = self.entry(number);
                assert_eq!(self.engine.delete(Key::new(&key(number)).unwrap()), old.is_some());
                self.model.remove(&number);
            }
            Op::Touch(number, expires) => {
                let old = self.entry(number);
                let expiry = if expires == 0 { Expiry::NEVER } else { Expiry::at(expires) };
                assert_eq!(
                    self.engine.touch(Key::new(&key(number)).unwrap(), expiry),
                    old.is_some()
                );
                if let Some(entry) = self.model.get_mut(&number) {
                    entry.expires = expires;
                }
            }
            Op::Change(number, up, by) => {
                let old = self.entry(number);
                let delta = if up { Delta::Up(by) } else { Delta::Down(by) };
                let outcome = self.engine.change(Key::new(&key(number)).unwrap(), delta);
                let Some(old) = old else { return assert_eq!(outcome, Err(DeltaError::NotFound)) };
                // What follows a blank need not be text.
                let text = old.value.split(|&byte| byte == b' ').next();
                let text = text.and_then(|text| core::str::from_utf8(text).ok());
                let Some(before) = text.and_then(|text| text.parse::<u64>().ok()) else {
                    return assert_eq!(outcome, Err(DeltaError::NotANumber));
                };
                let after = if up { before.wrapping_add(by) } else { before.saturating_sub(by) };
                assert_eq!(outcome, Ok(after));
                let value = format!("{after:<width$}", width = old.value.len()).into_bytes();
                self.stored(number, old.flags, old.expires, value, Stored::Stored);
            }
            Op::Flush => {
                self.engine.flush();
                self.model.clear();
            }
            Op::Sleep(seconds) => {
                self.now += seconds;
                self.engine.set_time(self.now);
            }
        }
    }
}

fn value(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => any::<u64>().prop_map(|n| format!("{n}").into_bytes()),
        2 => (0u64..2000).prop_map(|n| format!("{n}").into_bytes()),
        5 => (0..200usize, 1u8..=255).prop_map(|(len, byte)| vec![byte | 0x40; len]),
        2 => (0..max, 1u8..=255).prop_map(|(len, byte)| vec![byte | 0x40; len]),
    ]
}

fn ops(keys: u8, max: usize) -> impl Strategy<Value = Vec<Op>> {
    let expires = || prop_oneof![4 => Just(0u32), 1 => 1u32..60];
    let op = prop_oneof![
        6 => (0..keys).prop_map(Op::Get),
        8 => (0..keys, 0..5u8, any::<u32>(), expires(), value(max))
            .prop_map(|(k, mode, flags, expires, v)| Op::Store(k, mode, flags, expires, v)),
        2 => (0..keys, any::<bool>(), value(max)).prop_map(|(k, right, v)| Op::Cas(k, right, v)),
        3 => (0..keys).prop_map(Op::Delete),
        1 => (0..keys, expires()).prop_map(|(k, expires)| Op::Touch(k, expires)),
        3 => (0..keys, any::<bool>(), prop_oneof![any::<u64>(), 0u64..100])
            .prop_map(|(k, up, by)| Op::Change(k, up, by)),
        1 => (0..4u32).prop_map(Op::Sleep),
    ];
    let op = prop_oneof![200 => op, 1 => Just(Op::Flush)];
    prop::collection::vec(op, 1..400)
}

/// Small pages, to have many of them in a small memory.
fn small(max_item: u32) -> Config {
    Config { page_size: 4096, max_item, seed: [1, 1], ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_enough_memory_nothing_is_ever_lost(ops in ops(40, 3000), policy in 0..4_usize) {
        let config = Config { eviction: Eviction::ALL[policy], ..small(16384) };
        let (lost, evictions) = Test::run(&ops, 4 << 20, &config);
        prop_assert_eq!((lost, evictions), (0, 0));
    }

    #[test]
    fn with_too_little_memory_items_are_lost_but_never_wrong(
        ops in ops(200, 9000),
        policy in 0..4_usize,
    ) {
        // Eight pages, and one item may take three.
        let config = Config { eviction: Eviction::ALL[policy], ..small(12000) };
        let (lost, evictions) = Test::run(&ops, 10 * 4096, &config);
        prop_assert!(lost <= evictions, "{} lost, {} evicted", lost, evictions);
    }
}

#[test]
fn what_follows_the_blank_behind_a_number_does_not_matter() {
    let ops = [
        Op::Store(1, 0, 0, 0, b"100".to_vec()),
        Op::Change(1, false, 1), // "99 "
        Op::Store(1, 3, 0, 0, vec![0xf4; 20]),
        Op::Change(1, true, 2),
        Op::Get(1),
    ];
    assert_eq!(Test::run(&ops, 4 << 20, &small(16384)), (0, 0));
}

/// A number that looks random.
fn scramble(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

#[test]
fn a_hundred_times_the_memory_leaves_only_right_values_and_no_residue() {
    Eviction::ALL.into_iter().for_each(churn);
}

fn churn(eviction: Eviction) {
    let memory_len = 1 << 20;
    let mut memory = vec![0x5a; memory_len];
    let config = Config { page_size: 16 << 10, max_item: 200 << 10, eviction, ..Config::default() };
    let mut engine = Engine::new(&mut memory, &config).unwrap();
    let value = |n: u64| {
        // Mostly small, sometimes of many pages; the phase shifts the sizes, so that
        // buckets which were large have to give pages up.
        let phase = 1 << (n / 20_000 % 5 * 2);
        let len = scramble(n) % [64, 64, 400, 400, 3000, 150_000][(scramble(n + 1) % 6) as usize];
        vec![(n % 251) as u8 | 0x40; (len as usize * phase / 4).min(190_000)]
    };
    let (mut written, mut hits, mut n) = (0usize, 0, 0u64);
    while written < 100 * memory_len {
        let name = format!("key{}", scramble(n) % 50_000);
        let bytes = [format!("{n}:").as_bytes(), &value(n)].concat();
        let key = Key::new(name.as_bytes()).unwrap();
        assert_eq!(engine.store(Mode::Set, key, 1, Expiry::NEVER, &bytes), Stored::Stored);
        written += bytes.len();
        assert_eq!(engine.get(key).unwrap().bytes(), bytes);

        // One of the last hundred: enough of them are still there.
        let other = format!("key{}", scramble(n.saturating_sub(scramble(n) % 100)) % 50_000);
        if let Some(found) = engine.get(Key::new(other.as_bytes()).unwrap()) {
            hits += 1;
            let text = found.bytes();
            let colon = text.iter().position(|&b| b == b':').unwrap();
            let written_as: u64 = core::str::from_utf8(&text[..colon]).unwrap().parse().unwrap();
            assert_eq!(format!("key{}", scramble(written_as) % 50_000), other);
            assert_eq!(text[colon + 1..], value(written_as));
        }
        assert!(engine.usage().bytes <= memory_len as u64);
        n += 1;
        if n.is_multiple_of(5000) {
            engine.audit();
        }
    }
    engine.audit();
    assert!(hits > 1000 && engine.stats().evictions > 1000);

    for n in 0..50_000 {
        engine.delete(Key::new(format!("key{n}").as_bytes()).unwrap());
    }
    engine.audit();
    assert_eq!((engine.usage().items, engine.usage().bytes), (0, 0));
    // Every page can be had again for one large item after another.
    for n in 0..4 {
        let name = format!("large{n}");
        let key = Key::new(name.as_bytes()).unwrap();
        let evicted = engine.stats().evictions;
        assert_eq!(
            engine.store(Mode::Set, key, 0, Expiry::NEVER, &vec![b'x'; 190_000]),
            Stored::Stored
        );
        assert_eq!(engine.stats().evictions, evicted);
    }
    engine.audit();
}

#[test]
fn pages_go_to_the_item_size_that_needs_them() {
    let mut memory = vec![0; 1 << 20];
    let mut engine = Engine::new(&mut memory, &small(12000)).unwrap();
    // Stores so many items of one size and says which part of all pages they got.
    let fill = |engine: &mut Engine<'_>, prefix: &str, count: u32, len: usize| {
        for n in 0..count {
            let name = format!("{prefix}{n:06}");
            let key = Key::new(name.as_bytes()).unwrap();
            assert_eq!(
                engine.store(Mode::Set, key, 0, Expiry::NEVER, &vec![b'v'; len]),
                Stored::Stored
            );
        }
        engine.audit();
        let class = engine.slabs.holding(len + len.ilog10() as usize + 36).unwrap();
        let pages = engine.slabs.slabs(class) * engine.slabs.classes().get(class).span;
        f64::from(pages) / f64::from(engine.slabs.pages().len())
    };
    assert!(fill(&mut engine, "a", 30_000, 20) > 0.99);
    // No client reads what was there before: it has to give way.
    assert!(fill(&mut engine, "b", 20_000, 1000) > 0.35);
    assert!(fill(&mut engine, "c", 20_000, 300) > 0.2);
    // Even where one item takes more than a page, there is room for one.
    assert!(fill(&mut engine, "d", 10, 9000) > 0.0);
    for n in 0..30_000 {
        engine.get(Key::new(format!("c{n:06}").as_bytes()).unwrap());
    }
    // What was read is spared once, then it gives way too.
    assert!(fill(&mut engine, "e", 40_000, 100) > 0.1);
}

#[test]
fn what_is_read_stays_what_is_not_goes() {
    for eviction in Eviction::ALL {
        let mut memory = vec![0; 1 << 20];
        let config = Config { eviction, ..small(12000) };
        let mut engine = Engine::new(&mut memory, &config).unwrap();
        let set = |engine: &mut Engine<'_>, name: &str| {
            let key = Key::new(name.as_bytes()).unwrap();
            let stored = engine.store(Mode::Set, key, 0, Expiry::NEVER, &[b'v'; 100]);
            assert_eq!(stored, Stored::Stored);
        };
        for n in 0..1000 {
            set(&mut engine, &format!("hot{n}"));
        }
        for n in 0..100_000 {
            set(&mut engine, &format!("cold{n}"));
            engine.get(Key::new(format!("hot{}", n % 1000).as_bytes()).unwrap());
        }
        engine.audit();
        let hot = |n: usize| format!("hot{n}");
        let kept = (0..1000)
            .filter(|&n| engine.get(Key::new(hot(n).as_bytes()).unwrap()).is_some())
            .count();
        assert!(kept > 990, "{}: {kept}", eviction.name());
    }
}

#[test]
fn an_append_never_evicts_what_it_appends_to() {
    let mut memory = vec![0; 64 * 4096];
    let mut engine = Engine::new(&mut memory, &small(12000)).unwrap();
    // The small items keep some slabs; the joined ones press on them from one of
    // three buckets, the last of items larger than a page.
    for n in 0..30_000u64 {
        let names = [format!("rest{}", scramble(n) % 300), format!("{}", n % 300)];
        for name in &names {
            let key = Key::new(name.as_bytes()).unwrap();
            let stored = engine.store(Mode::Set, key, 3, Expiry::NEVER, name.as_bytes());
            assert_eq!(stored, Stored::Stored);
        }
        let key = Key::new(names[1].as_bytes()).unwrap();
        let more = vec![b'm'; [300, 1500, 9000][(scramble(n) % 97 / 48) as usize]];
        assert_eq!(engine.store(Mode::Append, key, 0, Expiry::NEVER, &more), Stored::Stored);
        assert_eq!(engine.get(key).unwrap().bytes(), [names[1].as_bytes(), &more].concat());
    }
    assert!(engine.stats().evictions > 10_000);
    engine.audit();
}

#[test]
fn a_bucket_without_memory_takes_it_but_not_from_under_an_append() {
    let append = |engine: &mut Engine<'_>, name: &str, old: &[u8]| {
        let key = Key::new(name.as_bytes()).unwrap();
        let more = [b'm'; 1000];
        assert_eq!(engine.store(Mode::Append, key, 0, Expiry::NEVER, &more), Stored::Stored);
        assert_eq!(engine.get(key).unwrap().bytes(), [old, &more].concat());
        engine.audit();
    };
    let set = |engine: &mut Engine<'_>, name: &str, value: &[u8]| {
        let key = Key::new(name.as_bytes()).unwrap();
        assert_eq!(engine.store(Mode::Set, key, 0, Expiry::NEVER, value), Stored::Stored);
    };
    // The richest bucket's hand stands where the item is.
    let mut memory = vec![0; 20 * 4096 + TABLES];
    let mut engine = Engine::new(&mut memory, &small(4096)).unwrap();
    let mut n = 0;
    while engine.stats().evictions == 0 {
        set(&mut engine, &format!("{n}"), b"old");
        n += 1;
    }
    set(&mut engine, "0", b"old");
    let here = engine.index.find(
        &engine.heap,
        engine.hash_key.hash(Key::new(b"0").unwrap()),
        Key::new(b"0").unwrap(),
    );
    let class = engine.slabs.class_of(here.unwrap()).unwrap();
    let (hand, _) = engine.slabs.slab_at_hand(class).unwrap();
    assert_eq!(engine.slabs.page_of(here.unwrap()), hand);
    append(&mut engine, "0", b"old");

    // Two buckets of one page each: only the other one can give.
    let mut memory = vec![0; 10 * 1024 + TABLES];
    let mut engine = Engine::new(&mut memory, &small(4096)).unwrap();
    set(&mut engine, "tiny", b"t");
    set(&mut engine, "middle", &[b'o'; 500]);
    append(&mut engine, "middle", &[b'o'; 500]);
    assert!(engine.get(Key::new(b"tiny").unwrap()).is_none());
}

#[test]
fn dead_items_go_before_live_ones() {
    let mut memory = vec![0; 1 << 20];
    let mut engine = Engine::new(&mut memory, &small(12000)).unwrap();
    engine.set_time(10);
    let count = 5000;
    for n in 0..count {
        let name = format!("key{n}");
        let expiry = if n % 2 == 0 { Expiry::at(20) } else { Expiry::NEVER };
        let key = Key::new(name.as_bytes()).unwrap();
        engine.store(Mode::Set, key, 0, expiry, &[b'v'; 100]);
        // All of them warm: the hand must look at more than that.
        engine.get(key);
    }
    assert_eq!(engine.stats().evictions, 0);
    engine.set_time(20);
    // More new items than there is free memory for, fewer than have died.
    for n in 0..count / 2 {
        let name = format!("new{n}");
        let key = Key::new(name.as_bytes()).unwrap();
        engine.store(Mode::Set, key, 0, Expiry::NEVER, &[b'v'; 100]);
    }
    assert_eq!(engine.stats().evictions, 0);
    assert!(engine.stats().reclaimed > 1000, "{:?}", engine.stats());
    engine.audit();
}

#[test]
fn a_delayed_flush_takes_what_was_stored_before_it() {
    let mut memory = vec![0; 1 << 20];
    let mut engine =
        Engine::new(&mut memory, &Config { page_size: 4096, ..Config::default() }).unwrap();
    let key = |name: &'static str| Key::new(name.as_bytes()).unwrap();
    engine.set_time(100);
    engine.store(Mode::Set, key("a"), 0, Expiry::NEVER, b"1");
    engine.flush_later(110);
    engine.set_time(109);
    engine.store(Mode::Set, key("b"), 0, Expiry::NEVER, b"1");
    assert!(engine.get(key("a")).is_some() && engine.get(key("b")).is_some());
    engine.set_time(110);
    assert!(engine.get(key("a")).is_none() && engine.get(key("b")).is_none());
    engine.store(Mode::Set, key("c"), 0, Expiry::NEVER, b"1");
    engine.set_time(1000);
    assert!(engine.get(key("c")).is_some());
    // A later order replaces an earlier one; one for the past is for now.
    engine.flush_later(2000);
    engine.flush_later(3000);
    engine.set_time(2500);
    assert!(engine.get(key("c")).is_some());
    engine.flush_later(1);
    assert!(engine.get(key("c")).is_none());
    engine.store(Mode::Set, key("d"), 0, Expiry::NEVER, b"1");
    engine.set_time(3000);
    assert!(engine.get(key("d")).is_some());
    engine.audit();
}

#[test]
fn an_item_that_gets_an_end_moves_if_it_has_no_room_for_one() {
    let mut memory = vec![0; 1 << 20];
    let mut engine = Engine::new(&mut memory, &small(12000)).unwrap();
    engine.set_time(10);
    let (key, other) = (Key::new(b"key").unwrap(), Key::new(b"other").unwrap());
    // Of every length, so that some fill their chunk to the last byte.
    for len in 0..200 {
        let value = vec![b'v'; len];
        let cas = if len % 2 == 0 { None } else { Some(u64::MAX - len as u64) };
        let condition = Condition { own_cas: cas, ..Condition::of(Mode::Set) };
        engine.store(Mode::Set, other, 0, Expiry::NEVER, b"other");
        let cas = engine.store_if(&condition, key, 7, Expiry::NEVER, &value).cas;
        let now = 10 + 10 * len as u32;
        assert!(engine.touch(key, Expiry::at(now + 5)));
        engine.audit();
        let found = engine.get(key).unwrap();
        assert_eq!((found.bytes(), found.flags(key), found.cas()), (&value[..], 7, cas));
        assert!(engine.touch(key, Expiry::NEVER) && engine.touch(key, Expiry::at(now + 8)));
        engine.set_time(now + 7);
        assert!(engine.get(key).is_some());
        engine.set_time(now + 8);
        assert!(engine.get(key).is_none());
        assert!(engine.get(other).is_some());
    }
    engine.audit();
}
