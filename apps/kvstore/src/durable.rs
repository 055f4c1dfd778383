//! A store whose answers are durable.
//!
//! The engine notes what changes (`engine/journal.rs`); [`Durable`] writes the notes to a device.
//! The owner answers a batch of requests, then calls [`Durable::commit`], and only then lets the
//! answers go: one write and one flush serve them all. At the start, what the device holds is made
//! the store again: every acknowledged change, with expiry times and CAS ids.
//!
//! A store may promise less ([`promise`]): then answers leave before, and the owner calls
//! [`Keeper::settle`] in time.
//!
//! Place on the packet path: between steps 5 and 6. The device is the owner's affair: a file of
//! a Linux process, an extent of a disk.

pub mod promise;

/// What a device is, and how changes are kept on one.
pub use libos::storage;
use libos::storage::{
    ApplyError, Block, Contents, Counts, Fault, HEADER, Journal, OpenError, Sink, sectors,
};

use crate::engine::{LEAD, RestoreError};
use crate::{Service, Time};
use promise::Promise;

const TAG: [u8; 8] = *b"kvstore1";

const _: () = assert!(LEAD == HEADER);

/// What becomes of a store's changes.
pub trait Keeper {
    /// Before each request: there is room to note what it changes.
    fn make_room(&mut self, service: &mut Service<'_>);

    /// Before answers leave, at `micros` on the owner's clock: what was changed is kept, as was
    /// promised.
    ///
    /// # Errors
    /// See [`Durable::commit`].
    fn settle(&mut self, service: &mut Service<'_>, micros: u64) -> Result<(), Fault>;

    /// In how many microseconds [`Keeper::settle`] must be called again, if nothing is answered
    /// before. None if it need not be.
    fn wait_micros(&self, micros: u64) -> Option<u64>;
}

/// Changes are in memory, and nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Forgetful;

impl Keeper for Forgetful {
    #[inline(always)]
    fn make_room(&mut self, _: &mut Service<'_>) {}

    #[inline(always)]
    fn settle(&mut self, _: &mut Service<'_>, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    #[inline(always)]
    fn wait_micros(&self, _: u64) -> Option<u64> {
        None
    }
}

/// The journal of a store, on a device.
#[derive(Debug)]
pub struct Durable<'m, B> {
    journal: Journal<'m, B>,
    promise: Promise,
    /// When the first change was acknowledged that is not durable yet.
    owed_since: Option<u64>,
    /// It is of no use any more.
    failed: Option<Fault>,
}

impl<B: Block> Keeper for Durable<'_, B> {
    #[inline(always)]
    fn make_room(&mut self, service: &mut Service<'_>) {
        if service.engine().must_commit() {
            self.commit_early(service);
        }
    }

    #[inline(always)]
    fn settle(&mut self, service: &mut Service<'_>, micros: u64) -> Result<(), Fault> {
        if self.owes(service) { self.settle_changes(service, micros) } else { Ok(()) }
    }

    #[inline]
    fn wait_micros(&self, micros: u64) -> Option<u64> {
        let due = self.owed_since?.saturating_add(self.promise.lag_micros());
        Some(due.saturating_sub(micros))
    }
}

/// How many bytes of memory each of the two buffers of a store's journal takes.
#[must_use]
pub fn buffer_bytes(service: &Service<'_>) -> usize {
    service.engine().journal_bytes()
}

/// How many sectors a device has at least that is to hold what this store can hold.
#[must_use]
pub fn least_sectors(service: &Service<'_>) -> u64 {
    let memory = service.engine().usage().limit as usize;
    2 * sectors(memory + memory / 2 + 3 * buffer_bytes(service))
}

impl<'m, B: Block> Durable<'m, B> {
    /// Makes `service`, which is empty, the store that `disk` holds, and has it note what changes
    /// from now on. A device with nothing on it becomes that of an empty store. Each buffer is of
    /// [`buffer_bytes`] bytes.
    ///
    /// **Cost** reads all that the device holds.
    ///
    /// # Errors
    /// See [`OpenError`]. The service is of no use then.
    pub fn open(
        disk: B,
        service: &mut Service<'m>,
        [notes, scratch]: [&'m mut [u8]; 2],
        now: Time,
    ) -> Result<Self, OpenError> {
        let least = least_sectors(service);
        if disk.sectors() < least {
            return Err(OpenError::TooSmall(least));
        }
        service.keep(notes, now);
        let journal = Journal::open(disk, TAG, scratch, service)?;
        service.begin_notes();
        let promise = Promise::Always;
        Ok(Self { journal, promise, owed_since: None, failed: None })
    }

    /// From now on answers promise this.
    pub fn promise(&mut self, promise: Promise) {
        self.promise = promise;
    }

    /// Makes durable what requests have changed since it was called last. Answers to any request,
    /// those that only read included, may leave when it has returned, and not before.
    ///
    /// **Blocking** until it is durable. **Cost** see [`Journal::commit`]; nothing if
    /// nothing was changed.
    ///
    /// # Errors
    /// See [`Fault`]. The store must stop then: no answer may leave any more.
    #[inline]
    pub fn commit(&mut self, service: &mut Service<'_>) -> Result<(), Fault> {
        if self.owes(service) { self.keep(service, true) } else { Ok(()) }
    }

    /// Whether something was changed that is not durable yet.
    #[inline(always)]
    fn owes(&self, service: &mut Service<'_>) -> bool {
        service.engine().has_notes() || self.owed_since.is_some()
    }

    /// Commits in the middle of a batch. A failure is told when the answers are about to leave.
    #[cold]
    fn commit_early(&mut self, service: &mut Service<'_>) {
        let _ = self.commit(service);
    }

    /// What the promise takes before answers leave, if something was changed.
    #[inline(never)]
    fn settle_changes(&mut self, service: &mut Service<'_>, micros: u64) -> Result<(), Fault> {
        match self.promise {
            Promise::Always => self.keep(service, true),
            _ => self.settle_later(service, micros),
        }
    }

    /// What a promise other than `always` takes before answers leave.
    fn settle_later(&mut self, service: &mut Service<'_>, micros: u64) -> Result<(), Fault> {
        if service.engine().has_notes() {
            let since = *self.owed_since.get_or_insert(micros);
            if let Promise::Group(_) = self.promise {
                self.keep(service, false)?;
                self.owed_since = Some(since);
            }
        }
        if self.wait_micros(micros) == Some(0) { self.commit(service) } else { Ok(()) }
    }

    /// Has the journal take what was changed, and flush it. If it cannot once, it never will.
    fn keep(&mut self, service: &mut Service<'_>, flushes: bool) -> Result<(), Fault> {
        let kept = match (self.failed, service.notes()) {
            (Some(fault), _) => Err(fault),
            (None, None) => Err(Fault::Full),
            (None, Some(_)) if flushes => self.journal.commit(service),
            (None, Some(_)) => self.journal.append(service),
        };
        self.failed = kept.err();
        self.owed_since = None;
        kept
    }

    /// What the log did so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.journal.counts()
    }
}

impl Contents for Service<'_> {
    fn frame(&mut self) -> (&mut [u8], usize) {
        self.notes().unwrap_or((&mut [], 0))
    }

    fn committed(&mut self) {
        self.forget_notes();
    }

    fn apply(&mut self, changes: &[u8]) -> Result<(), ApplyError> {
        self.restore(changes).map_err(|error| match error {
            RestoreError::Malformed => ApplyError::Malformed,
            RestoreError::NoMemory => ApplyError::NoMemory,
        })
    }

    fn snapshot(
        &mut self,
        cursor: u64,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Option<u64>, Fault> {
        self.engine().snapshot(cursor, budget, sink)
    }
}
