//! An application brings its own policy of what a log keeps, and when it moves it.
//!
//! `libos::storage::Journal` keeps all of its contents, and moves them to the log's other area little
//! by little. A meter wants its newest readings and no others: here the area in use is filled to its
//! end, and then these go to the other one at once, in one entry. The power is cut everywhere in
//! what it does, and it must find what it has acknowledged.
//!
//! ```sh
//! cargo run -p libos --example own_log
//! ```

use std::collections::VecDeque;

use libos::storage::powercut::{self, Recorder};
use libos::storage::{Block, Fault, HEADER, Log, MemoryDisk, OpenError, SECTOR};

const TAG: [u8; 8] = *b"meter\0\0\0";
/// Readings that are kept.
const KEPT: usize = 16;
/// Bytes of an area that are left for openings, each of which takes a sector.
const RESERVE: u64 = 4 * SECTOR as u64;

/// The newest readings of a meter, on a device.
pub(crate) struct Meter<B> {
    log: Log<B>,
    newest: VecDeque<u32>,
}

impl<B: Block> Meter<B> {
    pub(crate) fn open(disk: B) -> Result<Self, OpenError> {
        let mut newest = VecDeque::new();
        let log = Log::open(disk, TAG, &mut [0; SECTOR], |entry| {
            entry.as_chunks().0.iter().for_each(|it| keep(&mut newest, u32::from_le_bytes(*it)));
            Ok(())
        })?;
        let mut meter = Self { log, newest };
        if meter.log.room() < RESERVE {
            meter.renew()?;
        }
        Ok(meter)
    }

    /// Notes a reading, which is durable when this returns.
    pub(crate) fn note(&mut self, reading: u32) -> Result<(), Fault> {
        keep(&mut self.newest, reading);
        if self.log.room() < RESERVE {
            return self.renew();
        }
        let mut frame = [0; SECTOR];
        frame[HEADER..HEADER + 4].copy_from_slice(&reading.to_le_bytes());
        self.log.append(&mut frame, 4)?;
        self.log.flush()
    }

    /// The other area gets all that is kept, and is the one in use.
    fn renew(&mut self) -> Result<(), Fault> {
        let mut frame = [0; SECTOR];
        let places = frame[HEADER..].as_chunks_mut().0.iter_mut();
        places.zip(&self.newest).for_each(|(place, reading)| *place = reading.to_le_bytes());
        self.log.begin_next()?;
        self.log.append_next(&mut frame, 4 * self.newest.len())?;
        self.log.switch()
    }
}

fn keep(newest: &mut VecDeque<u32>, reading: u32) {
    newest.push_back(reading);
    if newest.len() > KEPT {
        newest.pop_front();
    }
}

#[cfg_attr(test, test)]
fn main() {
    let blank = MemoryDisk::new(32);
    let recorder = Recorder::new(blank.clone());
    let mut meter = Meter::open(recorder.clone()).expect("a blank device");
    let mut history = vec![VecDeque::new()];
    for reading in 0..100 {
        meter.note(reading).expect("a device without faults");
        recorder.acknowledge();
        history.push(meter.newest.clone());
    }
    let found = |disk| Meter::open(disk).expect("a meter's log").newest;
    let states = powercut::check(&blank, &recorder, &history, 7, found).expect("nothing is lost");
    println!("{states} states after a power cut, each with the newest {KEPT} readings at most");
    assert!(states > 500, "{states}");
}
