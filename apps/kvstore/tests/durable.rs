//! A store that is durable: the same after a restart, at any time the power is cut.
#![cfg(feature = "durable")]

use std::collections::BTreeMap;

use kvstore::durable::promise::Promise;
use kvstore::durable::{self, Durable, Keeper};
use kvstore::engine::Eviction;
use kvstore::stream::{Conversation, Next};
use kvstore::{Config, Service, Time};
use libos::storage::powercut::{self, Recorder};
use libos::storage::{Block, Counts, MemoryDisk, OpenError, Refused};
use proptest::prelude::*;

const MEMORY: usize = 512 << 10;
const CONFIG: Config = Config {
    eviction: Eviction::Sampled,
    page_size: 16 << 10,
    min_chunk: 48,
    growth_percent: 125,
    max_item: 32 << 10,
    seed: [7, 7],
    pid: 1,
};
const START: Time = Time { unix: 1_700_000_000, uptime: 0 };

/// Notes of items, by key.
type All = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a store and its journal lie in.
struct Memory {
    store: Vec<u8>,
    buffers: [Vec<u8>; 2],
}

impl Memory {
    fn new() -> Self {
        let mut store = vec![0; MEMORY];
        let bytes = durable::buffer_bytes(&Service::new(&mut store, &CONFIG).unwrap());
        Self { store, buffers: [vec![0; bytes], vec![0; bytes]] }
    }
}

/// A store and its journal, as long as this life of it lasts.
struct Life<'m, B> {
    service: Service<'m>,
    durable: Durable<'m, B>,
    conversation: Conversation,
    now: Time,
    commits: u32,
}

fn disk_sectors() -> u64 {
    durable::least_sectors(&Service::new(&mut vec![0; MEMORY], &CONFIG).unwrap())
}

impl<'m, B: Block> Life<'m, B> {
    fn begin(memory: &'m mut Memory, disk: B, unix: u64) -> Result<Self, OpenError> {
        let now = Time { unix, uptime: 0 };
        let mut service = Service::new(&mut memory.store, &CONFIG).unwrap();
        let buffers = memory.buffers.each_mut().map(Vec::as_mut_slice);
        let durable = Durable::open(disk, &mut service, buffers, now)?;
        Ok(Self { service, durable, conversation: Conversation::new(), now, commits: 0 })
    }

    /// The answer to requests, which is durable then.
    fn ask(&mut self, requests: &[u8]) -> Vec<u8> {
        let answer = self.answer(requests);
        self.durable.commit(&mut self.service).unwrap();
        self.commits += 1;
        answer
    }

    /// The answer to requests, which is not durable unless there was no room for more notes. They
    /// come in pieces.
    fn answer(&mut self, mut requests: &[u8]) -> Vec<u8> {
        let (mut output, mut answer, mut shown) = (vec![0; 8192], Vec::new(), 0);
        loop {
            if self.service.engine().must_commit() {
                self.durable.commit(&mut self.service).unwrap();
                self.commits += 1;
            }
            shown = (shown + 1500).min(requests.len());
            let input = &requests[..shown];
            let serve = self.conversation.serve(&mut self.service, self.now, input, &mut output);
            requests = &requests[serve.consumed..];
            shown -= serve.consumed;
            answer.extend_from_slice(&output[..serve.produced]);
            if serve.next != Next::Room && shown == requests.len() {
                assert!(requests.is_empty(), "{} is left", requests.escape_ascii());
                return answer;
            }
        }
    }

    /// Everything that clients could find out: notes of all items, by key, and of the store.
    fn all(&self) -> All {
        let mut all = BTreeMap::new();
        let mut sink = |pieces: &[&[u8]]| -> Result<(), ()> {
            let note = pieces.concat();
            let key = match note[0] {
                1 => note[24..24 + usize::from(note[1])].to_vec(),
                kind => vec![0, kind],
            };
            assert!(all.insert(key, note).is_none(), "an item is there twice");
            Ok(())
        };
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            cursor = self.service.engine().snapshot(from, 500, &mut sink).unwrap();
        }
        all
    }

    fn counts(&self) -> Counts {
        *self.durable.counts()
    }
}

/// Requests that change something, of a few clients' keys; `{}` is a number that counts.
const REQUESTS: [&str; 34] = [
    "set K F 0 L\r\nV\r\n",
    "set K F 0 L\r\nV\r\n",
    "set K 0 30 L\r\nV\r\n",
    "set K 0 -1 L\r\nV\r\n",
    "add K F 0 L\r\nV\r\n",
    "replace K F 10 L\r\nV\r\n",
    "append K 0 0 L\r\nV\r\n",
    "prepend K 0 0 L\r\nV\r\n",
    "cas K 0 0 L F\r\nV\r\n",
    "set K 0 0 2\r\n99\r\n",
    "incr K 1\r\n",
    "incr K 18446744073709551000\r\n",
    "decr K 5\r\n",
    "touch K 20\r\n",
    "touch K 0\r\n",
    "gat 40 K K\r\n",
    "gats 0 K\r\n",
    "delete K\r\n",
    "get K\r\n",
    "flush_all\r\n",
    "flush_all 15\r\n",
    "ms K L T30\r\nV\r\n",
    "ms K L EF00 TF\r\nV\r\n",
    "ms K L MA N50\r\nV\r\n",
    "ms K L I CF\r\nV\r\n",
    "md K I T30\r\n",
    "md K x\r\n",
    "md K IE12345\r\n",
    "md K\r\n",
    "mg K s v N30 t\r\n",
    "mg K R100 T60 c\r\n",
    "mg K\r\n",
    "ma K N0 J13 D2 v\r\n",
    "ma K EF7 T9\r\n",
];

#[derive(Clone, Debug)]
struct Step {
    request: prop::sample::Index,
    key: u8,
    flags: u16,
    len: usize,
    pass: u32,
    ends: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![3 => 0..60_usize, 1 => 0..2000_usize, 1 => 2000..9000_usize];
    let pass = prop_oneof![4 => Just(0), 1 => 1..12_u32];
    let key = 0..5_u8;
    (any::<prop::sample::Index>(), key, 0..300_u16, len, pass, 0..12_u8).prop_map(
        |(request, key, flags, len, pass, ends)| Step { request, key, flags, len, pass, ends },
    )
}

impl Step {
    fn bytes(&self) -> Vec<u8> {
        let template = self.request.get(&REQUESTS);
        let mut bytes = Vec::new();
        for token in template.chars() {
            match token {
                'K' => bytes.extend([b"key".as_slice(), &[b'0' + self.key]].concat()),
                'F' => bytes.extend(self.flags.to_string().bytes()),
                'L' => bytes.extend(self.len.to_string().bytes()),
                'V' => bytes.extend(vec![b'a' + self.key; self.len]),
                other => bytes.push(other as u8),
            }
        }
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever was done, and whenever it restarts, it is what it was.
    #[test]
    fn a_restart_changes_nothing(steps in prop::collection::vec(step(), 1..120)) {
        let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
        let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
        for step in &steps {
            life.now.uptime += step.pass;
            life.now.unix += u64::from(step.pass);
            if step.ends > 3 {
                life.answer(&step.bytes());
                continue;
            }
            life.ask(&step.bytes());
            if step.ends == 0 {
                let (before, unix) = (life.all(), life.now.unix);
                life = Life::begin(&mut memory, &mut disk, unix).unwrap();
                prop_assert_eq!(life.all(), before);
            }
        }
    }

    /// Notes that are none make no store, and nothing worse.
    #[test]
    fn no_notes_are_believed(notes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..7_u8, cut in any::<prop::sample::Index>()) {
        let mut memory = Memory::new();
        let mut true_notes: Vec<u8> = Vec::new();
        let disk = MemoryDisk::new(disk_sectors());
        let mut life = Life::begin(&mut memory, disk, START.unix).unwrap();
        life.ask(b"set key 5 9 3\r\nabc\r\n");
        life.ask(b"ms k2 3 E77\r\nabc\r\n");
        life.service.engine().snapshot(0, 1 << 20, &mut |pieces| -> Result<(), ()> {
            true_notes.extend(pieces.concat());
            Ok(())
        }).unwrap();
        let mut service = Service::new(&mut memory.store, &CONFIG).unwrap();
        service.keep(&mut memory.buffers[0], START);
        for (at, byte) in notes.iter().enumerate().filter(|(_, byte)| **byte > 250) {
            let at = at % true_notes.len();
            true_notes[at] ^= *byte;
        }
        true_notes.truncate(cut.index(true_notes.len() + 1).max(kind.into()));
        let _ = service.restore(&true_notes);
        let _ = service.restore(&[&[kind], &notes[..]].concat());
        service.begin_notes();
        let mut reply = [0; kvstore::MAX_DATAGRAM];
        service.answer(b"\0\0\0\0\0\x01\0\0mn\r\n", START, &mut reply);
    }
}

#[test]
fn it_is_whole_after_a_power_cut_at_any_time() {
    let blank = MemoryDisk::new(disk_sectors());
    let recorder = Recorder::new(blank.clone());
    let mut memory = Memory::new();
    let mut life = Life::begin(&mut memory, recorder.clone(), START.unix).unwrap();
    let mut history = vec![life.all()];
    for n in 0..60_u32 {
        // Batches of several requests, of up to some sectors.
        for i in 0..n % 4 + 1 {
            let (key, len) = ((n + i) % 9, (n * 97 + i * 31) % 1100);
            let set = format!("set key{key} 0 0 {len}\r\n{}\r\n", "x".repeat(len as usize));
            life.answer(set.as_bytes());
        }
        if n % 5 == 4 {
            life.answer(format!("delete key{}\r\ntouch key{} 900\r\n", n % 9, n % 7).as_bytes());
        }
        if n == 40 {
            life.answer(b"flush_all\r\n");
        }
        life.ask(b"set counter 0 0 2\r\n10\r\nincr counter 7\r\n");
        recorder.acknowledge();
        history.push(life.all());
    }
    let mut memory = Memory::new();
    let states = powercut::check(&blank, &recorder, &history, 11, |disk| {
        Life::begin(&mut memory, disk, START.unix).unwrap().all()
    });
    let states = states.map_err(|violation| (violation.acknowledged, violation.durable)).unwrap();
    assert!(states > 1_000, "only {states} states were tried");
}

/// Microseconds between two requests of the test below, and for how long it promises nothing.
const PAUSE: u64 = 700;
const LAG_MILLIS: u32 = 5;

/// Serves with `keeps`, of which what is older than `promised` microseconds must be durable. Returns the states tried, and how many acknowledgements at most were not durable.
fn cut_while_it_promises(
    keeps: Promise,
    promised: u64,
) -> Result<(u64, usize), powercut::Violation<All>> {
    let blank = MemoryDisk::new(disk_sectors());
    let recorder = Recorder::new(blank.clone());
    let mut memory = Memory::new();
    let mut life = Life::begin(&mut memory, recorder.clone(), START.unix).unwrap();
    life.durable.promise(keeps);
    let (mut history, mut times) = (vec![life.all()], Vec::new());
    let (mut micros, mut owed) = (1_000_000, 0);
    for n in 0..48_u32 {
        // Bursts, and pauses in which nothing is asked.
        let next = micros + if n % 17 == 16 { 40_000 } else { PAUSE * u64::from(n % 3) };
        while let Some(wait) = life.durable.wait_micros(micros).filter(|wait| micros + wait <= next)
        {
            micros += wait;
            life.durable.settle(&mut life.service, micros).unwrap();
        }
        micros = micros.max(next);
        let (key, len) = (n % 9, n * 97 % 1100);
        life.answer(
            format!("set key{key} 0 0 {len}\r\n{}\r\n", "x".repeat(len as usize)).as_bytes(),
        );
        life.answer(b"set counter 0 0 2\r\n10\r\nincr counter 7\r\n");
        life.durable.settle(&mut life.service, micros).unwrap();
        history.push(life.all());
        times.push(micros);
        recorder.acknowledge_early();
        // All that is older must be there.
        let durable = times.partition_point(|time| time + promised <= micros);
        recorder.promise(durable);
        owed = owed.max(times.len() - durable);
    }
    let mut memory = Memory::new();
    let states = powercut::check(&blank, &recorder, &history, 13, |disk| {
        Life::begin(&mut memory, disk, START.unix).unwrap().all()
    })?;
    Ok((states, owed))
}

/// What is left is what it was at one moment, and that moment is not longer ago than it promised.
#[test]
fn it_loses_no_more_than_it_promises() {
    for promise in [Promise::Always, Promise::Group(LAG_MILLIS), Promise::Async(LAG_MILLIS)] {
        let outcome = cut_while_it_promises(promise, promise.lag_micros());
        let (states, owed) = outcome.map_err(|it| (promise, it.acknowledged, it.durable)).unwrap();
        assert!(states > 500, "{promise}: only {states} states were tried");
        assert_eq!(owed > 1, promise != Promise::Always, "{promise}: {owed}");
    }
}

/// The checker finds a store that keeps half of what it promises.
#[test]
fn a_promise_that_is_not_kept_is_found() {
    for keeps in [Promise::Group(2 * LAG_MILLIS), Promise::Async(2 * LAG_MILLIS)] {
        let outcome = cut_while_it_promises(keeps, u64::from(LAG_MILLIS) * 1000);
        assert!(outcome.is_err(), "{keeps}");
    }
}

/// With `group` a change is with the device before its answer leaves, so that the end of the
/// process loses nothing; with `async` it is not.
#[test]
fn a_group_is_written_before_its_answers_leave() {
    for (promise, found) in [
        (Promise::Always, b"HD s1\r\n".as_slice()),
        (Promise::Group(LAG_MILLIS), b"HD s1\r\n"),
        (Promise::Async(LAG_MILLIS), b"EN\r\n"),
    ] {
        let (mut memory, recorder) =
            (Memory::new(), Recorder::new(MemoryDisk::new(disk_sectors())));
        let mut life = Life::begin(&mut memory, recorder.clone(), START.unix).unwrap();
        life.durable.promise(promise);
        let flushes = life.counts().flushes;
        life.answer(b"set key 0 0 1\r\nv\r\n");
        life.durable.settle(&mut life.service, 0).unwrap();
        let flushed = life.counts().flushes - flushes;
        assert_eq!(flushed, u64::from(promise == Promise::Always));
        // What the device has is there; what the process had is gone.
        let mut disk = recorder.contents();
        let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
        assert_eq!(life.ask(b"mg key s\r\n"), found, "{promise}");
    }
}

/// However many requests a client sends at once, each finds room for its notes.
#[test]
fn requests_at_once_are_committed_in_between() {
    let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    let requests = "set k 0 0 1\r\nv\r\n".repeat(20_000);
    let (mut rest, mut stored) = (requests.as_bytes(), 0);
    let mut output = vec![0; 20_000 * 16];
    while !rest.is_empty() {
        life.durable.make_room(&mut life.service);
        let serve = life.conversation.serve(&mut life.service, life.now, rest, &mut output);
        rest = &rest[serve.consumed..];
        stored += output[..serve.produced].split(|&byte| byte == b'\n').count() - 1;
        assert!(output[..serve.produced].starts_with(b"STORED\r\n"));
    }
    assert_eq!(stored, 20_000);
    life.durable.commit(&mut life.service).unwrap();
}

/// Much more is stored than the device holds, and requests come one by one.
#[test]
fn the_areas_change_places_while_it_serves() {
    let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    let mut most = 0;
    for n in 0..30_000_u32 {
        let (key, len) = (n.wrapping_mul(0x9e37_79b1) >> 24, n % 700);
        let set = format!("set key{key} 0 0 {len}\r\n{}\r\n", "x".repeat(len as usize));
        let before = life.counts().written;
        assert_eq!(life.ask(set.as_bytes()), b"STORED\r\n");
        most = most.max(life.counts().written - before);
        if n % 4000 == 3999 {
            let before = life.all();
            life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
            assert_eq!(life.all(), before);
        }
    }
    let counts = life.counts();
    assert!(counts.switches > 0 || counts.written < 4 << 20, "{counts:?}");
    assert!(most < 64 << 10, "one commit wrote {most} bytes");
    assert!(most > 2 << 10, "the areas never changed places");
}

/// A cache forgets; this does not.
#[test]
fn what_it_has_no_room_for_is_refused_and_nothing_is_lost() {
    let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    let (mut stored, mut refused) = (Vec::new(), 0);
    for n in 0..3000_usize {
        let len = n * 37 % 900;
        let set = format!("set key{n} 0 0 {len}\r\n{}\r\n", "x".repeat(len));
        match life.ask(set.as_bytes()).as_slice() {
            b"STORED\r\n" => stored.push((n, len)),
            answer => {
                assert_eq!(answer, b"SERVER_ERROR out of memory storing object\r\n");
                refused += 1;
            }
        }
    }
    assert!(refused > 500 && stored.len() > 500, "{refused} of 3000 were refused");
    assert_eq!(life.service.engine().stats().evictions, 0);
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    for &(n, len) in &stored {
        let answer = life.ask(format!("mg key{n} s\r\n").as_bytes());
        assert_eq!(answer, format!("HD s{len}\r\n").as_bytes(), "key{n}");
    }
    // What is deleted, or has ended, makes room.
    life.ask(b"flush_all\r\n");
    let again = stored.iter().filter(|(n, len)| {
        let set = format!("set other{n} 0 0 {len}\r\n{}\r\n", "x".repeat(*len));
        life.ask(set.as_bytes()) == b"STORED\r\n"
    });
    assert!(again.count() * 10 > stored.len() * 9);
}

#[test]
fn a_batch_is_one_write_and_one_flush() {
    let (mut memory, disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, disk, START.unix).unwrap();
    let before = life.counts();
    for n in 0..32 {
        life.answer(format!("set key{n} 0 0 4\r\nabcd\r\n").as_bytes());
    }
    life.ask(b"get key1\r\n");
    life.ask(b"get key1\r\nget none\r\ndelete none\r\n");
    let after = life.counts();
    assert_eq!((after.writes - before.writes, after.flushes - before.flushes), (1, 1));
    assert_eq!(
        after.payload - before.payload,
        9 + 32 * 24
            + (0..32).map(|n| { format!("key{n} 0 4\r\nabcd\r\n").len() as u64 }).sum::<u64>()
    );
}

/// More than fits the notes of one batch: answers of one connection.
#[test]
fn long_values_are_committed_in_between() {
    let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    let long = "y".repeat(30_000);
    let mut requests = format!("set long 0 0 30000\r\n{long}\r\n");
    for _ in 0..40 {
        requests += "append long 0 0 1\r\nz\r\n";
    }
    let answer = life.ask(requests.as_bytes());
    assert_eq!(answer, "STORED\r\n".repeat(41).as_bytes());
    assert!(life.commits > 1);
    let before = life.all();
    assert_eq!(Life::begin(&mut memory, &mut disk, START.unix).unwrap().all(), before);
}

#[test]
fn times_pass_while_it_is_off() {
    let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    life.ask(b"set short 0 100 1\r\na\r\nset long 0 1000 1\r\nb\r\nset ever 0 0 1\r\nc\r\n");
    life.ask(b"set later 0 0 1\r\nd\r\n");
    let mut life = Life::begin(&mut memory, &mut disk, START.unix + 500).unwrap();
    assert_eq!(
        life.ask(b"mg short t\r\nmg long t\r\nmg ever t\r\n"),
        b"EN\r\nHD t500\r\nHD t-1\r\n"
    );
    life.ask(b"flush_all 100\r\n");
    let mut life = Life::begin(&mut memory, &mut disk, START.unix + 700).unwrap();
    assert_eq!(life.ask(b"mg long t\r\nmg ever t\r\nget later\r\n"), b"EN\r\nEN\r\nEND\r\n");
    life.ask(b"set new 0 0 1\r\ne\r\n");
    let mut life = Life::begin(&mut memory, &mut disk, START.unix + 700).unwrap();
    assert_eq!(life.ask(b"mg new t\r\nmg ever t\r\n"), b"HD t-1\r\nEN\r\n");
}

/// An id that was given once is never given again, even if its item is gone.
#[test]
fn cas_ids_go_on() {
    let (mut memory, mut disk) = (Memory::new(), MemoryDisk::new(disk_sectors()));
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    life.ask(b"set a 0 0 1\r\n1\r\n");
    let answer = life.ask(b"mg a c\r\n");
    life.ask(b"delete a\r\n");
    let mut life = Life::begin(&mut memory, &mut disk, START.unix).unwrap();
    life.ask(b"set a 0 0 1\r\n2\r\n");
    assert_ne!(life.ask(b"mg a c\r\n"), answer);
}

#[test]
fn a_device_that_cannot_be_used_is_told() {
    let least = disk_sectors();
    let mut memory = Memory::new();
    let mut error = |disk: &mut MemoryDisk| Life::begin(&mut memory, disk, START.unix).err();
    assert_eq!(error(&mut MemoryDisk::new(least - 1)), Some(OpenError::TooSmall(least)));
    let mut foreign = MemoryDisk::new(least);
    foreign.bytes_mut()[0] = 1;
    assert_eq!(error(&mut foreign), Some(OpenError::Refused(Refused::Foreign)));
    assert_eq!(foreign.bytes()[0], 1);
}
