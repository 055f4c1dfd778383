//! Power cuts, damaged devices, and what a log must not do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use exo_abi::EventCount;
use proptest::prelude::*;

use super::powercut::{self, Recorder, Violation};
use super::*;
use crate::sched::{Park, Scheduler, Tasks, Ticks};

thread_local! {
    static BLIND: Cell<bool> = const { Cell::new(false) };
}

/// Whether checks are left out, so that it is seen what they are for.
pub(super) fn blind() -> bool {
    BLIND.get()
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

const DISK: u64 = 128;
const SCRATCH: usize = 8 * SECTOR;

fn open(disk: Recorder, scratch: &mut [u8]) -> PersistentMap<'_, Recorder> {
    PersistentMap::open(disk, scratch).unwrap()
}

fn all<B: Block>(map: &PersistentMap<'_, B>) -> Map {
    map.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Commits so often, with values of up to some sectors, and a restart in between. Returns what the
/// map was after each.
fn work(recorder: &Recorder, commits: u8) -> Vec<Map> {
    let mut scratch = vec![0; SCRATCH];
    let mut history = vec![Map::new()];
    let mut map = open(recorder.clone(), &mut scratch);
    let mut switches = 0;
    for n in 0..commits {
        for i in 0..=n % 3 {
            let value = vec![n; usize::from(n) * 37 % 1200];
            map.put(&[b'k', (n + i) % 7], &value).unwrap();
        }
        if n % 4 == 3 {
            map.remove(&[b'k', n % 7]).unwrap();
        }
        history.push(all(&map));
        map.commit().unwrap();
        recorder.acknowledge();
        if n % 16 == 15 {
            switches += map.counts().switches;
            drop(map);
            map = open(recorder.clone(), &mut scratch);
            assert_eq!(Some(&all(&map)), history.last());
        }
    }
    assert!(commits < 40 || switches > 1, "the areas changed places {switches} times");
    history
}

/// Cuts the power in what `recorder` has noted of [`work`].
fn cut(recorder: &Recorder, history: &[Map]) -> Result<u64, Violation<Map>> {
    powercut::check(&MemoryDisk::new(DISK), recorder, history, 7, |disk| {
        let mut scratch = vec![0; SCRATCH];
        let Ok(mut map) = PersistentMap::open(disk.clone(), &mut scratch) else {
            return Map::from([(b"malformed".to_vec(), Vec::new())]);
        };
        // (A cut while it recovers may come after the end of this.)
        let mut found = all(&map);
        found.remove(&b"more"[..]);
        // It goes on as if nothing had been.
        map.put(b"more", b"x").unwrap();
        map.commit().unwrap();
        drop(map);
        let mut scratch = vec![0; SCRATCH];
        let again = open(disk, &mut scratch);
        assert_eq!(again.get(b"more"), Some(&b"x"[..]));
        found
    })
}

#[test]
fn a_map_survives_a_power_cut_at_any_time() {
    let recorder = Recorder::new(MemoryDisk::new(DISK));
    let history = work(&recorder, 200);
    let states = cut(&recorder, &history).unwrap();
    assert!(states > 5_000, "only {states} states were tried");
}

#[test]
fn without_checks_half_an_entry_would_be_taken_for_a_whole_one() {
    BLIND.set(true);
    let recorder = Recorder::new(MemoryDisk::new(DISK));
    let history = work(&recorder, 70);
    let violation = cut(&recorder, &history).unwrap_err();
    BLIND.set(false);
    assert!(!history.contains(&violation.found), "{violation:?}");
}

/// As [`work`], by an owner that goes on while the device does. Returns what the map was with each
/// commit. An owner that is `hasty` acknowledges what it has begun.
fn work_on(recorder: &Recorder, changes: u8, hasty: bool) -> Vec<Map> {
    let mut scratch = vec![0; SCRATCH];
    let mut history = vec![Map::new()];
    let mut map = open(recorder.clone(), &mut scratch);
    let (mut stamp, mut acknowledged) = (map.stamp(), 0);
    let mut waiting = Waiting::new();
    for n in 0..changes {
        map.put(&[b'k', n % 7], &vec![n; usize::from(n) * 37 % 700]).unwrap();
        waiting.add(map.stamp(), n);
        let durable = map.drive().unwrap();
        if map.stamp() > stamp {
            history.push(all(&map));
            stamp = map.stamp();
        }
        let begun = history.len() - 1;
        let told = std::iter::from_fn(|| waiting.next_due(durable)).count();
        let until = if hasty { begun } else { acknowledged + usize::from(told > 0) };
        (acknowledged..until).for_each(|_| recorder.acknowledge());
        acknowledged = until;
    }
    assert!(2 * usize::from(changes) > 3 * history.len(), "changes do not share commits");
    assert!(changes < 200 || map.counts().switches > 1, "the areas have not changed places");
    history
}

#[test]
fn what_is_committed_in_the_background_survives_a_power_cut_at_any_time() {
    let recorder = Recorder::new(MemoryDisk::new(DISK));
    let history = work_on(&recorder, 250, false);
    let states = cut(&recorder, &history).unwrap();
    assert!(states > 3_000, "only {states} states were tried");

    let recorder = Recorder::new(MemoryDisk::new(DISK));
    let history = work_on(&recorder, 50, true);
    cut(&recorder, &history).expect_err("it acknowledged what was not durable");
}

/// Tasks append records and wait for them: what each has waited for is on the device.
#[test]
fn tasks_wait_until_their_records_are_durable() {
    const TASKS: u8 = 9;
    const ROUNDS: u8 = 20;
    let mut scratch = vec![0; SCRATCH];
    let recorder = Recorder::new(MemoryDisk::new(1 << 10));
    let log = RefCell::new(PersistentQueue::open(recorder.clone(), &mut scratch).unwrap());
    let mut tasks = Tasks::new();
    for task in 0..TASKS {
        let (events, log) = (tasks.events(), &log);
        let append = async move {
            for round in 0..ROUNDS {
                let stamp = {
                    let mut log = log.borrow_mut();
                    log.push(&[task, round]).unwrap();
                    log.stamp()
                };
                durable(|| log.borrow_mut().drive(), stamp, &events).await.unwrap();
            }
            0
        };
        tasks.spawn(append).unwrap();
    }
    assert_eq!(tasks.run(&mut Restless), 0);
    drop(tasks);
    let mut scratch = vec![0; SCRATCH];
    let found = PersistentQueue::open(recorder.contents(), &mut scratch).unwrap();
    for task in 0..TASKS {
        let rounds = found.iter().filter(|record| record[0] == task).map(|record| record[1]);
        assert!(rounds.eq(0..ROUNDS), "task {task}");
    }
}

/// An environment in which something always happens.
struct Restless;

impl Park for Restless {
    fn seen(&mut self) -> EventCount {
        EventCount(0)
    }

    fn park(&mut self, _: EventCount, _: Option<Ticks>) {}
}

/// Forgets to flush.
#[derive(Clone)]
struct Lazy(Recorder);

impl Block for Lazy {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.read(first, bytes)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.0.write(first, bytes)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn an_acknowledgement_before_the_flush_is_found() {
    let blank = MemoryDisk::new(DISK);
    let recorder = Recorder::new(blank.clone());
    let mut scratch = vec![0; SCRATCH];
    let mut map = PersistentMap::open(Lazy(recorder.clone()), &mut scratch).unwrap();
    let mut history = vec![Map::new()];
    for n in 0..3 {
        map.put(b"k", &[n]).unwrap();
        history.push(all(&map));
        map.commit().unwrap();
        recorder.acknowledge();
    }
    let outcome = powercut::check(&blank, &recorder, &history, 7, |disk| {
        let mut scratch = vec![0; SCRATCH];
        all(&open(disk, &mut scratch))
    });
    assert_eq!(outcome.unwrap_err().acknowledged, 1);
}

#[test]
fn a_queue_survives_a_power_cut_at_any_time() {
    let blank = MemoryDisk::new(DISK);
    let recorder = Recorder::new(blank.clone());
    let mut scratch = vec![0; SCRATCH];
    let list = |queue: &PersistentQueue<'_, Recorder>| -> Vec<Vec<u8>> {
        queue.iter().map(<[u8]>::to_vec).collect()
    };
    let mut queue = PersistentQueue::open(recorder.clone(), &mut scratch).unwrap();
    let mut history = vec![Vec::new()];
    for n in 0..160_u8 {
        queue.push(&vec![n; usize::from(n) * 53 % 1300]).unwrap();
        if n % 5 != 0 {
            queue.push(&[n]).unwrap();
            queue.pop().unwrap();
        }
        if n % 3 == 0 || queue.iter().count() > 6 {
            queue.pop().unwrap();
            queue.pop().unwrap();
        }
        history.push(list(&queue));
        queue.commit().unwrap();
        recorder.acknowledge();
    }
    assert!(queue.counts().switches > 0);
    let states = powercut::check(&blank, &recorder, &history, 9, |disk| {
        let mut scratch = vec![0; SCRATCH];
        list(&PersistentQueue::open(disk, &mut scratch).unwrap())
    })
    .unwrap();
    assert!(states > 3_000, "only {states} states were tried");
}

#[test]
fn a_commit_is_one_write_and_one_flush() {
    let mut scratch = vec![0; SCRATCH];
    let mut map = PersistentMap::open(MemoryDisk::new(1 << 12), &mut scratch).unwrap();
    let before = *map.counts();
    for n in 0..100_u8 {
        map.put(&[n], &[n; 100]).unwrap();
        map.put(b"counter", &[n]).unwrap();
        map.commit().unwrap();
        map.commit().unwrap();
    }
    let after = *map.counts();
    assert_eq!((after.writes - before.writes, after.flushes - before.flushes), (100, 100));
    assert_eq!(after.written - before.written, 100 * SECTOR as u64);
}

/// It may be opened any number of times, and hold a device's worth of changes any number of times.
#[test]
fn the_space_is_bounded() {
    let (mut disk, mut scratch) = (MemoryDisk::new(DISK), vec![0; SCRATCH]);
    for n in 0..400_u32 {
        let mut map = PersistentMap::open(&mut disk, &mut scratch).unwrap();
        assert_eq!(map.get(b"n"), n.checked_sub(1).map(u32::to_le_bytes).as_ref().map(|n| &n[..]));
        for i in 0..n % 5 * 20 {
            map.put(b"other", &i.to_le_bytes()).unwrap();
            map.commit().unwrap();
        }
        map.put(b"n", &n.to_le_bytes()).unwrap();
        map.commit().unwrap();
    }
    for _ in 0..DISK {
        let map = PersistentMap::open(&mut disk, &mut scratch).unwrap();
        assert_eq!(map.get(b"n"), Some(&399_u32.to_le_bytes()[..]));
    }
}

#[test]
fn what_is_no_log_is_an_error_and_stays_as_it_is() {
    let mut scratch = vec![0; SCRATCH];
    let mut open = |disk: &mut MemoryDisk, scratch_len: usize| {
        PersistentMap::open(disk, &mut scratch[..scratch_len]).err()
    };
    let mut disk = MemoryDisk::new(DISK);
    assert_eq!(open(&mut disk, SCRATCH), None);

    let refused = |disk: &MemoryDisk, at: usize, byte: u8| {
        let mut other = disk.clone();
        other.bytes_mut()[at] ^= byte;
        other
    };
    let area = DISK as usize / 2 * SECTOR;
    for (at, refusal) in [
        (0, Refused::Foreign),
        (9, Refused::Damaged),
        (17, Refused::Damaged),
        (SECTOR - 1, Refused::Damaged),
        (area + 3, Refused::Foreign),
    ] {
        let mut other = refused(&disk, at, 1);
        let kept = other.clone();
        assert_eq!(open(&mut other, SCRATCH), Some(OpenError::Refused(refusal)), "byte {at}");
        assert!(other.bytes() == kept.bytes());
    }
    let error = PersistentQueue::open(&mut disk, &mut vec![0; SCRATCH]).err();
    assert_eq!(error, Some(OpenError::OtherContents(*b"map\0\0\0\0\0")));
    assert_eq!(open(&mut disk, SCRATCH / 2), Some(OpenError::LongEntries(SCRATCH as u32)));
    let mut grown = MemoryDisk::new(2 * DISK);
    grown.bytes_mut()[..disk.bytes().len()].copy_from_slice(disk.bytes());
    assert_eq!(open(&mut grown, SCRATCH), Some(OpenError::OtherSize(DISK)));
    let least = 2 * (2 * sectors(SCRATCH) + 2);
    let small = open(&mut MemoryDisk::new(least - 1), SCRATCH);
    assert_eq!(small, Some(OpenError::TooSmall(least)));
    assert_eq!(open(&mut MemoryDisk::new(least), SCRATCH), None);
}

/// Fails from the given call on.
struct Failing(MemoryDisk, u32);

impl Failing {
    fn count(&mut self) -> Result<(), Fault> {
        self.1 = self.1.checked_sub(1).ok_or(Fault::Device)?;
        Ok(())
    }
}

impl Block for Failing {
    fn sectors(&self) -> u64 {
        self.0.sectors()
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.read(first, bytes)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.count()?;
        self.0.write(first, bytes)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.count()?;
        self.0.flush()
    }
}

#[test]
fn what_the_device_refuses_is_never_acknowledged() {
    for calls in 3..40 {
        let mut scratch = vec![0; SCRATCH];
        let disk = Failing(MemoryDisk::new(DISK), calls);
        let mut map = PersistentMap::open(disk, &mut scratch).unwrap();
        let mut acknowledged = 0_u8;
        while map.put(b"n", &[acknowledged + 1]).and_then(|()| map.commit()).is_ok() {
            acknowledged += 1;
        }
        let disk = map.into_disk().0;
        let map = PersistentMap::open(disk, &mut scratch).unwrap();
        let found = map.get(b"n").map_or(0, |n| n[0]);
        assert!(found == acknowledged || found == acknowledged + 1, "{found}, {acknowledged}");
    }
}

proptest! {
    /// A log with any bytes in it, or any bytes changed, opens or does not, and nothing more.
    #[test]
    fn nothing_on_the_device_is_believed(changes in proptest::collection::vec((0..DISK as usize * SECTOR, any::<u8>()), 0..40)) {
        let recorder = Recorder::new(MemoryDisk::new(DISK));
        work(&recorder, 12);
        let mut disk = recorder.contents();
        for (at, byte) in changes {
            // Half of them where most is.
            let at = if byte % 2 == 0 { at % (8 * SECTOR) } else { at };
            disk.bytes_mut()[at] = byte;
        }
        let mut scratch = vec![0; SCRATCH];
        let _ = PersistentMap::open(disk, &mut scratch);
    }
}
