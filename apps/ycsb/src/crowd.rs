//! Several clients that load the store together, and tell each other by it when.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use kvstore_local::Stored;
use libos::println;
use libos::runtime::Environment;
use libos::sched::Park;
use libos::time::Clock;
use ycsb::record::{self, fill, is_of};
use ycsb::{Chooser, MIXES, Mix, Step};

use crate::guest::{Problem, Store, number};

/// How many clients work at a time, if there are so many.
const CROWDS: [u32; 3] = [1, 2, 4];
/// How long to sleep between two looks at what the others have done.
const GLANCE_MICROS: u64 = 500;
/// Flags of every record.
const FLAGS: u32 = 7;

struct Client<'e> {
    environment: &'e Environment,
    store: Store,
    /// Which client this is, of how many.
    own: u32,
    all: u32,
    operations: u32,
    records: u32,
    value: Vec<u8>,
    buffer: Vec<u8>,
    version: u8,
}

/// What a client has counted.
#[derive(Clone, Copy, Default)]
struct Counts {
    done: u64,
    wrong: u64,
    missing: u64,
}

pub(crate) fn run(environment: &Environment, store: Store) -> Result<(), Problem> {
    let value = number(environment, "value", 1000)? as usize;
    let mut client = Client {
        environment,
        store,
        own: number(environment, "number", 0)?,
        all: number(environment, "of", 1)?,
        operations: number(environment, "operations", 10_000)?,
        records: number(environment, "records", 5_000)?,
        value: vec![0; value],
        buffer: vec![0; value],
        version: 0,
    };
    let letters = environment.argument("mixes").unwrap_or("ABCDEF");
    let mixes: Vec<Mix> = MIXES.into_iter().filter(|mix| letters.contains(mix.name)).collect();
    if client.own == 0 { client.lead(&mixes) } else { client.follow(&mixes) }
}

impl Client<'_> {
    /// Fills the store, and prints a line for each mix and number of clients.
    fn lead(&mut self, mixes: &[Mix]) -> Result<(), Problem> {
        println!(
            "{} records of {} + {} bytes, {} operations of each client, Zipf {}",
            self.records,
            record::KEY,
            self.value.len(),
            self.operations,
            ycsb::mix::EXPONENT
        );
        for (phase, (mix, crowd)) in phases(mixes, self.all).enumerate() {
            for record in 0..self.records {
                self.put(record)?;
            }
            self.meet("ready", phase, crowd)?;
            let start = self.environment.clock.nanos();
            let own = self.work(&mix)?;
            self.report(phase, own)?;
            self.meet("done", phase, crowd)?;
            let nanos = self.environment.clock.nanos() - start;
            let all = self.sum(phase)?;
            let rate = u128::from(all.done) * 1_000_000_000 / u128::from(nanos.max(1));
            println!(
                "mix {} clients {crowd}: {rate} operations/s, {} done, {} wrong, {} missing",
                mix.name, all.done, all.wrong, all.missing
            );
        }
        println!("done");
        Ok(())
    }

    /// Joins in when enough clients are wanted.
    fn follow(&mut self, mixes: &[Mix]) -> Result<(), Problem> {
        for (phase, (mix, crowd)) in phases(mixes, self.all).enumerate() {
            if self.own < crowd {
                self.meet("ready", phase, crowd)?;
                let own = self.work(&mix)?;
                self.report(phase, own)?;
                self.meet("done", phase, crowd)?;
            }
        }
        Ok(())
    }

    /// Waits until all of the crowd have come here.
    fn meet(&mut self, place: &str, phase: usize, crowd: u32) -> Result<(), Problem> {
        let name = format!("{place}-{phase}");
        let mut here = self.count(&name, 1)?;
        while here < u64::from(crowd) {
            self.glance();
            here = self.count(&name, 0)?;
        }
        Ok(())
    }

    /// Adds to a number that the clients have in common.
    fn count(&mut self, name: &str, by: u64) -> Result<u64, Problem> {
        loop {
            if let Some(number) = self.store.incr(name.as_bytes(), by)? {
                return Ok(number);
            }
            self.store.store(kvstore_local::Operation::Add, name.as_bytes(), b"0", (0, 0))?;
        }
    }

    fn glance(&self) {
        let mut park = self.environment.park;
        let seen = park.seen();
        park.park(seen, Some(self.environment.clock.after_micros(GLANCE_MICROS)));
    }

    fn report(&mut self, phase: usize, own: Counts) -> Result<(), Problem> {
        for (what, count) in own.named() {
            self.count(&format!("{what}-{phase}"), count)?;
        }
        Ok(())
    }

    fn sum(&mut self, phase: usize) -> Result<Counts, Problem> {
        let mut sum = |what: &str| self.count(&format!("{what}-{phase}"), 0);
        Ok(Counts { done: sum("operations")?, wrong: sum("wrong")?, missing: sum("missing")? })
    }

    fn put(&mut self, record: u32) -> Result<(), Problem> {
        let key = record::key(record);
        self.version = self.version % 250 + 1;
        fill(&mut self.value, &key, self.version);
        self.store.set(&key, &self.value, FLAGS, 0)?;
        Ok(())
    }

    /// Does its operations.
    fn work(&mut self, mix: &Mix) -> Result<Counts, Problem> {
        let seed = u64::from(self.own) << 8 | u64::from(mix.name);
        let mut chooser = Chooser::new(self.records, seed).ok_or(Problem::Argument("records"))?;
        let mut counts = Counts::default();
        for _ in 0..self.operations {
            match chooser.step(mix) {
                Step::Read(record) => self.read(record, &mut counts)?,
                Step::Update(record) | Step::Insert(record) => {
                    let record = self.place(record);
                    self.put(record)?;
                }
                Step::Scan(first, count) => self.scan(first, count, &mut counts)?,
                Step::Modify(record) => self.modify(record, &mut counts)?,
            }
            counts.done += 1;
        }
        Ok(counts)
    }

    /// Each client inserts records of its own.
    fn place(&self, record: u32) -> u32 {
        match record.checked_sub(self.records) {
            None => record,
            Some(inserted) => self.records + inserted * self.all + self.own,
        }
    }

    fn read(&mut self, record: u32, counts: &mut Counts) -> Result<(), Problem> {
        let key = record::key(self.place(record));
        let found = self.store.get(&key, &mut self.buffer)?;
        let value = found.map(|found| (found.flags, &self.buffer[..found.len]));
        counts.check(&key, self.value.len(), value);
        Ok(())
    }

    fn scan(&mut self, first: u32, count: u32, counts: &mut Counts) -> Result<(), Problem> {
        let end = first.saturating_add(count).min(self.records);
        let keys: Vec<_> = (first..end).map(record::key).collect();
        let asked: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let len = self.value.len();
        self.store.get_many(&asked, &mut self.buffer, |place, found| {
            if let Some(key) = keys.get(place) {
                counts.check(key, len, found.map(|(found, value)| (found.flags, value)));
            }
        })?;
        Ok(())
    }

    fn modify(&mut self, record: u32, counts: &mut Counts) -> Result<(), Problem> {
        let key = record::key(self.place(record));
        loop {
            let Some(found) = self.store.get(&key, &mut self.buffer)? else {
                counts.missing += 1;
                return Ok(());
            };
            counts.check(&key, self.value.len(), Some((found.flags, &self.buffer[..found.len])));
            self.version = self.version % 250 + 1;
            fill(&mut self.value, &key, self.version);
            match self.store.cas(&key, &self.value, (FLAGS, 0), found.cas)? {
                Stored::Stored => return Ok(()),
                // Another client was faster.
                Stored::Exists => {}
                Stored::NotFound | Stored::NotStored => {
                    counts.missing += 1;
                    return Ok(());
                }
            }
        }
    }
}

impl Counts {
    fn named(self) -> [(&'static str, u64); 3] {
        [("operations", self.done), ("wrong", self.wrong), ("missing", self.missing)]
    }

    fn check(&mut self, key: &record::Key, len: usize, found: Option<(u32, &[u8])>) {
        match found {
            None => self.missing += 1,
            Some((flags, value)) => {
                let right = flags == FLAGS && value.len() == len && is_of(value, key);
                self.wrong += u64::from(!right);
            }
        }
    }
}

/// Mixes and numbers of clients, one after the other.
fn phases(mixes: &[Mix], all: u32) -> impl Iterator<Item = (Mix, u32)> {
    let crowds = CROWDS.into_iter().filter(move |&crowd| crowd <= all);
    let mixes = mixes.to_vec();
    mixes.into_iter().flat_map(move |mix| crowds.clone().map(move |crowd| (mix, crowd)))
}
