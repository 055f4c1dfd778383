//! Many durable changes on a device that holds a small part of them: with the areas of its log
//! changing places, restarts, items that end, and a device that loses what was not flushed.
//!
//! A million of them, over days of the store's own clock, in two seconds; `EXO_SOAK=N` is another
//! number: `EXO_SOAK=20000000 cargo nextest run -p kvstore --release --no-capture soak`.
#![cfg(feature = "durable")]

use std::collections::HashMap;

use kvstore::durable::promise::Promise;
use kvstore::durable::{self, Durable, Keeper};
use kvstore::engine::Eviction;
use kvstore::stream::Conversation;
use kvstore::{Config, Service, Time};
use libos::storage::{Block, Fault, MemoryDisk, SECTOR};

/// Sets, unless it is told.
const SETS: u64 = 1_000_000;
/// When the first of them is made.
const BEGIN: u64 = 1_700_000_000;
/// Different keys: what the store holds at a time is much less than what is set.
const KEYS: u64 = 700;
/// Sets before answers leave, at most.
const BATCH: u64 = 9;
const MEMORY: usize = 1 << 20;
const CONFIG: Config = Config {
    eviction: Eviction::Sampled,
    page_size: 16 << 10,
    min_chunk: 48,
    growth_percent: 125,
    max_item: 16 << 10,
    seed: [3, 3],
    pid: 1,
};

/// A device that keeps what was flushed, and at the end of the power drops the rest.
struct Power {
    disk: MemoryDisk,
    /// Sectors as they were at the last flush, of those written since.
    before: HashMap<u64, [u8; SECTOR]>,
}

impl Power {
    /// Each sector that was not flushed is there or not, as `random` says.
    fn end(&mut self, random: &mut Random) {
        for (at, bytes) in std::mem::take(&mut self.before) {
            if random.below(2) == 0 {
                self.disk.write(at, &bytes).unwrap();
            }
        }
    }
}

impl Block for &mut Power {
    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.disk.read(first, bytes)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        for at in (first..).take(bytes.len() / SECTOR) {
            if !self.before.contains_key(&at) {
                let mut sector = [0; SECTOR];
                self.disk.read(at, &mut sector)?;
                self.before.insert(at, sector);
            }
        }
        self.disk.write(first, bytes)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.before.clear();
        Ok(())
    }
}

/// Xorshift (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// What a client knows of a key: value, and second at which it ends.
type Known = (Vec<u8>, Option<u64>);

#[test]
fn soak() {
    let sets = std::env::var("EXO_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(SETS);
    let sectors = durable::least_sectors(&Service::new(&mut vec![0; MEMORY], &CONFIG).unwrap());
    let mut power = Power { disk: MemoryDisk::new(sectors), before: HashMap::new() };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut model: HashMap<u64, Known> = HashMap::new();
    // What was changed last was not acknowledged: it is so or not.
    let mut unsure: Option<(u64, Known)> = None;
    let (mut unix, mut set, mut lives, mut switches, mut written) = (BEGIN, 0, 0, 0, 0);
    while set < sets {
        lives += 1;
        let start = unix;
        let mut memory = vec![0; MEMORY];
        let mut service = Service::new(&mut memory, &CONFIG).unwrap();
        let bytes = durable::buffer_bytes(&service);
        let (mut notes, mut scratch) = (vec![0; bytes], vec![0; bytes]);
        let now = |unix: u64| Time { unix, uptime: (unix - start) as u32 };
        let opened = Durable::open(&mut power, &mut service, [&mut notes, &mut scratch], now(unix));
        let mut durable = opened.unwrap();
        let mut conversation = Conversation::new();
        let mut output = vec![0; 64 << 10];
        let mut ask = |service: &mut Service<'_>, unix: u64, request: &[u8]| {
            let serve = conversation.serve(service, now(unix), request, &mut output);
            assert_eq!(serve.consumed, request.len());
            output[..serve.produced].to_vec()
        };
        // All that was acknowledged is there, and what has ended is not.
        for key in 0..KEYS {
            let answer = ask(&mut service, unix, format!("mg key{key} v\r\n").as_bytes());
            let shown = |known: Option<&Known>| {
                let known = known.filter(|(_, end)| end.is_none_or(|end| end > unix));
                known.map_or(b"EN\r\n".to_vec(), |(value, _)| {
                    [format!("VA {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
                })
            };
            if let Some((_, known)) = unsure.take_if(|(other, _)| *other == key)
                && answer == shown(Some(&known))
            {
                model.insert(key, known);
                continue;
            }
            let expected = shown(model.get(&key));
            assert!(answer == expected, "life {lives}, key{key}: {}", answer.escape_ascii());
        }
        // Some thousand sets, in batches; then the power ends in the middle of one.
        let end = (set + 4000 + random.below(4000)).min(sets);
        while set < end {
            unix += random.below(4);
            for _ in 0..1 + random.below(BATCH) {
                let (key, len) = (random.below(KEYS), random.below(900) as usize);
                let value = vec![b'a' + (set % 26) as u8; len];
                let life = if random.below(5) == 0 { 1 + random.below(2000) } else { 0 };
                let head = format!("set key{key} 0 {life} {len}\r\n");
                durable.make_room(&mut service);
                let request = [head.as_bytes(), &value, b"\r\n"].concat();
                let answer = ask(&mut service, unix, &request);
                assert_eq!(answer, b"STORED\r\n");
                model.insert(key, (value, (life != 0).then_some(unix + life)));
                set += 1;
            }
            durable.settle(&mut service, 0).unwrap();
        }
        let counts = *durable.counts();
        (switches, written) = (switches + counts.switches, written + counts.written);
        // One more, which is written and not flushed.
        let key = random.below(KEYS);
        unsure = model.remove(&key).map(|known| (key, known));
        durable.promise(Promise::Group(1000));
        ask(&mut service, unix, format!("delete key{key}\r\n").as_bytes());
        durable.settle(&mut service, 0).unwrap();
        power.end(&mut random);
        unix += random.below(600);
    }
    let device = sectors * SECTOR as u64;
    let hours = (unix - BEGIN) / 3600;
    println!(
        "{set} sets in {hours} hours, {lives} lives, {written} bytes written to a device of \
         {device}, {switches} changes of the area in use"
    );
    assert!(written > 4 * device && switches > set / 20_000, "the device was not filled often");
}
