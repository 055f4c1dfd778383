//! A log that its owner appends to while the disk works: `as=disk-later`.
//!
//! Serves datagrams from one loop that looks at the network and at the disk and sleeps for both.
//! `keep` appends what follows to a log, and `end` ends it. The answer to anything is how many
//! records there are, how many of them are durable, and how many commits that took.

use alloc::vec;

use exo_abi::{Error, RingOrder};
use libos::net::bind::{BindError, bind};
use libos::net::udp::FastUdp;
use libos::net::{Endpoint, NetDevice, Service, UdpStack};
use libos::println;
use libos::runtime::Environment;
use libos::sched::{RunToCompletion, Scheduler, Turn};
use libos::storage::{Background, Fault, OpenError, PersistentQueue, SECTOR, Waiting};

const PORT: u16 = 4005;
const RINGS: RingOrder = RingOrder::new(4).expect("1 to 8");
const BATCH: u32 = 16;
/// Pages of the disk's buffer, and the longest commit.
const BUFFER: u32 = 1;
const COMMIT: usize = 16 * SECTOR;

/// Serves until told to end. Returns the exit code.
pub(crate) fn run(environment: Environment) -> u64 {
    serve(environment).unwrap_or_else(|failure| {
        println!("{failure}");
        1
    })
}

fn serve(mut environment: Environment) -> Result<u64, Failure> {
    let (handle, extent) = environment.start.disk.ok_or(Error::NoDevice)?;
    let (memory, park) = (environment.memory, environment.park);
    let disk = libos::disk::blocking(memory, park, handle, extent, BUFFER)?;
    let mut scratch = vec![0; COMMIT];
    let log = PersistentQueue::open(disk, &mut scratch)?;
    let records = log.iter().count() as u64;
    println!("disk: {records} records found");
    let config = environment.net_config().ok_or(BindError::NoNetwork)?;
    let mut device = bind(&environment, &config, PORT, RINGS)?;
    let mut stack = FastUdp::new(&config, PORT);
    let (waiting, durable) = (Waiting::new(), records);
    let mut notes = Notes { log, waiting, records, durable, is_last: false };
    println!("serving {}", Endpoint { address: config.address, port: PORT });
    let turn = || {
        let moved = stack.poll(&mut device, &mut notes, 0, BATCH);
        let moved = moved.and_then(|moved| device.sync().map(|_| moved));
        match (moved, notes.drive()) {
            (Err(_), _) | (_, Err(_)) => Turn::Done(2),
            _ if notes.is_last => Turn::Done(0),
            (Ok(BATCH..), _) => Turn::Progress,
            // A packet ends this sleep, and so does the disk.
            _ => Turn::Idle(None),
        }
    };
    Ok(RunToCompletion::new(turn).run(&mut environment.park))
}

struct Notes<'m, B> {
    log: PersistentQueue<'m, B>,
    /// How many records there were with the last of a commit.
    waiting: Waiting<u64>,
    records: u64,
    durable: u64,
    is_last: bool,
}

impl<B: Background> Notes<'_, B> {
    fn drive(&mut self) -> Result<(), Fault> {
        let durable = self.log.drive()?;
        while let Some(records) = self.waiting.next_due(durable) {
            self.durable = records;
        }
        Ok(())
    }
}

impl<B: Background> Service for Notes<'_, B> {
    fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
        match request.strip_prefix(b"keep ") {
            Some(record) => {
                self.log.push(record).ok()?;
                self.records += 1;
                self.waiting.add(self.log.stamp(), self.records);
            }
            None => self.is_last = request == b"end",
        }
        let numbers = [self.records, self.durable, self.log.counts().entries];
        for (place, number) in reply.as_chunks_mut().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        Some(24)
    }
}

/// Why it does not serve.
enum Failure {
    Disk(Error),
    Log(OpenError),
    Network(BindError),
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "disk: {error}"),
            Self::Log(error) => write!(f, "disk: {error}"),
            Self::Network(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Disk(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Log(error)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::Network(error)
    }
}
