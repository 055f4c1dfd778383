//! Contents that are whole again after a power cut.
//!
//! The owner changes its [`Contents`] in memory, which are visible at once, and notes each change
//! in a *frame*. [`Journal::commit`] appends the frame to a log as one entry and flushes: all of
//! these changes are durable when it returns, or, after a power cut, none. So changes of many
//! clients cost one write and one flush if they are committed together.
//!
//! Once the log's area has less than an eighth of its room left, and that of two long entries,
//! each commit also writes a part of the contents to the other area, sixteen times as many bytes
//! as were committed. When all of them are there, the areas change places. So no commit waits for
//! all of the contents, and the space is bounded: what the contents take, as changes, must be at
//! most two thirds of an area, two long entries less.
//!
//! On a [`Background`] device an owner need not wait: [`Journal::stamp`] says in which commit a
//! change will be, and [`Journal::drive`] up to which commit all is durable. What is noted while a
//! commit is under way is the next one: the slower the device, the larger are the commits.

use super::{Background, Block, Counts, Fault, HEADER, Log, OpenError, SECTOR, sectors};

/// How many bytes of the contents are written beside a byte of changes.
const SHARE: u64 = 16;

/// Which part of an area is kept for what comes while the other one is filled.
const RESERVE: u64 = 8;

/// Why the changes of an entry cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyError {
    /// They are none that the contents know.
    Malformed,
    /// There is no memory for what they make.
    NoMemory,
}

/// Takes one change, in pieces that belong together.
pub type Sink<'a> = dyn FnMut(&[&[u8]]) -> Result<(), Fault> + 'a;

/// What a journal keeps.
pub trait Contents {
    /// The changes since the last commit: a buffer, in which they lie from [`HEADER`] on, and
    /// how many bytes they are. The buffer reaches up to the end of a sector, at least. It may be
    /// asked for any number of times.
    fn frame(&mut self) -> (&mut [u8], usize);

    /// They are in the log: the frame is to be empty.
    fn committed(&mut self);

    /// Makes the changes of a frame, or of a part of the contents, in recovery.
    ///
    /// # Errors
    /// See [`ApplyError`]. The contents are of no use then.
    fn apply(&mut self, changes: &[u8]) -> Result<(), ApplyError>;

    /// Gives `sink` changes that make the part of the contents from `cursor` on: about `budget`
    /// bytes. Returns where to go on, if that was not the rest. Whatever is changed between two
    /// calls, what neither was given to `sink` nor is in a frame since then, must be given later.
    ///
    /// # Errors
    /// Those of `sink`.
    fn snapshot(
        &mut self,
        cursor: u64,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Option<u64>, Fault>;
}

/// A log that keeps contents.
#[derive(Debug)]
pub struct Journal<'m, B> {
    log: Log<B>,
    /// For entries that are a part of the contents.
    scratch: &'m mut [u8],
    filling: Filling,
    /// Something was appended since the last flush.
    unflushed: bool,
    job: Option<Job>,
    /// How many commits were begun in the background, and how many are durable.
    begun: Stamp,
    durable: Stamp,
}

/// The number of a commit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Stamp(u64);

/// What a device does in the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    Commit,
    /// The other area gets its head.
    Switch,
}

/// How far the contents have been written to the other area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Filling {
    Not,
    From(u64),
    Whole,
}

impl<'m, B: Block> Journal<'m, B> {
    /// Opens the journal on `disk`, or makes one where there is nothing, and makes `contents`,
    /// which are empty, what they were. No change may be longer than `scratch`, less [`HEADER`].
    /// Journals of other contents are told apart by their `tag`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open<C: Contents>(
        disk: B,
        tag: [u8; 8],
        scratch: &'m mut [u8],
        contents: &mut C,
    ) -> Result<Self, OpenError> {
        let whole = scratch.len() / SECTOR * SECTOR;
        let scratch = scratch.get_mut(..whole).unwrap_or_default();
        let log = Log::open(disk, tag, scratch, |changes| contents.apply(changes))?;
        let mut journal = Self {
            log,
            scratch,
            filling: Filling::Not,
            unflushed: false,
            job: None,
            begun: Stamp(0),
            durable: Stamp(0),
        };
        // Each opening takes a sector, which nothing else gives back.
        if journal.log.room() < journal.log.area() / (2 * RESERVE) {
            journal.renew(contents)?;
        }
        Ok(journal)
    }

    /// Makes the changes in the frame of `contents` durable, and those that were appended before.
    /// Nothing happens if there are none.
    ///
    /// **Blocking** until they are. **Cost** one write and one flush; while the contents are
    /// written to the other area, some writes more, and for that area's head two flushes.
    ///
    /// # Errors
    /// See [`Fault`]. Whether the changes are durable is not known then, and the journal is of no
    /// use any more: nothing that depends on them may be acknowledged.
    pub fn commit<C: Contents>(&mut self, contents: &mut C) -> Result<(), Fault> {
        self.append(contents)?;
        self.flush()
    }

    /// Hands the changes in the frame of `contents` to the device. They are durable when
    /// [`Journal::flush`] has returned. If the power ends before, some of what was appended last
    /// may be gone: whole frames, from one on.
    ///
    /// **Blocking** until the device has them. **Cost** as [`Journal::commit`], without the flush.
    ///
    /// # Errors
    /// As for [`Journal::commit`].
    pub fn append<C: Contents>(&mut self, contents: &mut C) -> Result<(), Fault> {
        if contents.frame().1 == 0 {
            return Ok(());
        }
        self.fill_beside(contents)?;
        let (frame, len) = contents.frame();
        self.log.append(frame, len)?;
        self.unflushed = true;
        contents.committed();
        // What is appended later is no part of the other area.
        if self.filling == Filling::Whole { self.flush() } else { Ok(()) }
    }

    /// Writes to the other area what goes there beside the frame, if it is being filled, or is to
    /// be once the frame is in the log.
    fn fill_beside<C: Contents>(&mut self, contents: &mut C) -> Result<(), Fault> {
        let (frame, len) = contents.frame();
        let bytes = sectors(HEADER.saturating_add(len)) * SECTOR as u64;
        if let Filling::From(_) = self.filling {
            self.log.append_next(frame, len)?;
        } else if self.log.room()
            < bytes + self.log.area() / RESERVE + 2 * self.scratch.len() as u64
        {
            // The contents have the changes of this frame already.
            self.log.begin_next()?;
            self.filling = Filling::From(0);
        } else {
            return Ok(());
        }
        self.fill_next(contents, SHARE * bytes)
    }

    /// Makes durable what was appended. Nothing happens if all of it is.
    ///
    /// **Blocking** until it is.
    ///
    /// # Errors
    /// As for [`Journal::commit`].
    pub fn flush(&mut self) -> Result<(), Fault> {
        if self.unflushed {
            self.log.flush()?;
            self.finish()?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Writes all of the contents to the other area, at once.
    fn renew<C: Contents>(&mut self, contents: &mut C) -> Result<(), Fault> {
        self.log.begin_next()?;
        self.filling = Filling::From(0);
        self.fill_next(contents, u64::MAX)?;
        self.finish()
    }

    /// Changes areas, if all of the contents are in the other one.
    fn finish(&mut self) -> Result<(), Fault> {
        if self.filling == Filling::Whole {
            self.log.switch()?;
            self.filling = Filling::Not;
        }
        Ok(())
    }

    /// What the log did so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.log.counts()
    }

    /// The device.
    pub fn into_disk(self) -> B {
        self.log.into_disk()
    }

    /// Writes about `budget` bytes more of the contents to the other area, if it is being filled.
    fn fill_next<C: Contents>(&mut self, contents: &mut C, budget: u64) -> Result<(), Fault> {
        let Self { log, scratch, filling, .. } = self;
        let Filling::From(cursor) = *filling else { return Ok(()) };
        let mut len = 0;
        let mut sink = |change: &[&[u8]]| {
            let more: usize = change.iter().map(|piece| piece.len()).sum();
            if HEADER + len + more > scratch.len() {
                log.append_next(scratch, len)?;
                len = 0;
            }
            for piece in change {
                let place = scratch.get_mut(HEADER + len..).ok_or(Fault::Range)?;
                place.get_mut(..piece.len()).ok_or(Fault::Range)?.copy_from_slice(piece);
                len += piece.len();
            }
            Ok(())
        };
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let rest = contents.snapshot(cursor, budget, &mut sink)?;
        if len > 0 {
            log.append_next(scratch, len)?;
        }
        *filling = rest.map_or(Filling::Whole, Filling::From);
        Ok(())
    }
}

/// While the owner goes on. It commits either so or by [`Journal::commit`], and not both ways.
impl<B: Background> Journal<'_, B> {
    /// The commit in which the changes will be that are noted now: they are durable when
    /// [`Journal::drive`] has returned this or a later one.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp(self.begun.0 + 1)
    }

    /// Sees what the device has done and begins the next commit, if there are changes. Returns the
    /// last commit that is durable, as are all before it. To be called after a change and after
    /// each event.
    ///
    /// **Blocking** for no flush; while the contents are written to the other area, for their
    /// writes. **Cost** as [`Journal::commit`], for all that was noted since the commit before.
    ///
    /// # Errors
    /// As for [`Journal::commit`].
    pub fn drive<C: Contents>(&mut self, contents: &mut C) -> Result<Stamp, Fault> {
        loop {
            match self.job {
                Some(job) => {
                    let Some(result) = self.log.poll() else { return Ok(self.durable) };
                    result?;
                    self.job = self.done(job)?;
                }
                None if contents.frame().1 == 0 => return Ok(self.durable),
                None => {
                    self.fill_beside(contents)?;
                    let (frame, len) = contents.frame();
                    self.log.begin_append(frame, len)?;
                    contents.committed();
                    self.begun.0 += 1;
                    self.job = Some(Job::Commit);
                }
            }
        }
    }

    /// What follows at once.
    fn done(&mut self, job: Job) -> Result<Option<Job>, Fault> {
        match job {
            Job::Commit => {
                self.durable = self.begun;
                if self.filling == Filling::Whole {
                    self.log.begin_switch()?;
                    return Ok(Some(Job::Switch));
                }
            }
            Job::Switch => {
                self.log.end_switch()?;
                self.filling = Filling::Not;
            }
        }
        Ok(None)
    }
}
