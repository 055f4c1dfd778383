//! A log: entries, one after the other, in two areas by turns.
//!
//! Half of the device is an *area*, the other half another one. Entries are appended to the one
//! in use. Before it is full, its owner writes what is still of use into the other one, as
//! entries, among them those that are appended meanwhile; then that area gets a head with a
//! higher generation, which is one sector, and is the one in use. So at any time there is one area
//! from which everything can be read, and the space is bounded.
//!
//! Recovery reads the area in use up to the first entry that is not whole. That entry was never
//! acknowledged: an owner acknowledges after [`Log::flush`]. Then an empty entry is appended, so
//! that nothing which is left behind it can continue the log.
//!
//! A head is taken away as soon as the other area is in use. If the only head is damaged, that
//! is an error, and not an occasion to fall back to older contents.

use core::fmt;

use super::entry::{Head, announced, seal, verify};
use super::{ApplyError, Background, Block, Fault, HEADER, Refused, SECTOR, sectors};

/// An entry is read in a window of so many bytes, or of its own size.
const WINDOW: usize = 256 << 10;

/// A log on a device.
#[derive(Debug)]
pub struct Log<B> {
    disk: B,
    tag: [u8; 8],
    /// Bytes of the longest entry, header included.
    longest: u32,
    active: Writer,
    next: Option<Writer>,
    /// The area that is not in use has a head.
    stale: bool,
    counts: Counts,
}

/// What a log did since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Entries appended.
    pub entries: u64,
    /// Bytes that owners wanted to be kept, of those.
    pub payload: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written, headers, padding and heads included.
    pub written: u64,
    /// Flushes.
    pub flushes: u64,
    /// Changes of the area in use.
    pub switches: u64,
}

/// Why there is no log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The device failed.
    Fault(Fault),
    /// It needs at least so many sectors.
    TooSmall(u64),
    /// It holds something else than a log, or a damaged one.
    Refused(Refused),
    /// It is the log of contents with this tag.
    OtherContents([u8; 8]),
    /// It was made on a device of so many sectors.
    OtherSize(u64),
    /// Its entries may be as long as this.
    LongEntries(u32),
    /// An entry is whole, but its changes cannot be made.
    Apply(ApplyError),
}

/// Where the next entry of an area goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Writer {
    /// 0 or 1.
    area: u64,
    generation: u64,
    /// Counted from the beginning of the area.
    sector: u64,
    /// The check of the entry before.
    before: u32,
    number: u64,
}

impl Writer {
    fn new(area: u64, head: &Head) -> Self {
        Self { area, generation: head.generation, sector: 1, before: head.seed(), number: 0 }
    }
}

impl<B: Block> Log<B> {
    /// Opens the log on `disk`, or makes one where there is nothing. `apply` is given the entries,
    /// from the first on. Entries may be as long as the whole sectors of `scratch`, which is
    /// overwritten.
    ///
    /// **Cost** reads what the log holds, and writes a sector.
    ///
    /// # Errors
    /// See [`OpenError`]. The device is unchanged then.
    pub fn open(
        mut disk: B,
        tag: [u8; 8],
        scratch: &mut [u8],
        mut apply: impl FnMut(&[u8]) -> Result<(), ApplyError>,
    ) -> Result<Self, OpenError> {
        let total = disk.sectors();
        let whole = scratch.len() / SECTOR * SECTOR;
        let scratch = scratch.get_mut(..whole).unwrap_or_default();
        let longest = u32::try_from(whole).unwrap_or(u32::MAX);
        let least = 2 * (2 * sectors(whole) + 2);
        if total < least {
            return Err(OpenError::TooSmall(least));
        }
        let mut heads = [None; 2];
        for (head, area) in heads.iter_mut().zip(0..) {
            let mut sector = [0; SECTOR];
            disk.read(area * (total / 2), &mut sector)?;
            *head = Head::read(&sector)?;
        }
        let stale = heads.iter().flatten().count() == 2;
        let used = heads.iter().zip(0..).filter_map(|(head, area)| Some((area, (*head)?)));
        let used = used.max_by_key(|(_, head)| head.generation);
        let fresh = Head { tag, generation: 1, sectors: total, longest };
        let (area, head) = used.unwrap_or((0, fresh));
        if head.tag != tag {
            return Err(OpenError::OtherContents(head.tag));
        }
        if head.sectors != total {
            return Err(OpenError::OtherSize(head.sectors));
        }
        if head.longest > longest {
            return Err(OpenError::LongEntries(head.longest));
        }
        let active = Writer::new(area, &head);
        let counts = Counts::default();
        let longest = head.longest;
        let mut log = Self { disk, tag, longest, active, next: None, stale, counts };
        if used.is_some() {
            log.replay(scratch, &mut apply)?;
        } else {
            log.write(0, &head.write())?;
        }
        log.append(scratch, 0)?;
        log.forget_stale()?;
        log.flush()?;
        Ok(log)
    }

    /// Appends an entry: the `len` bytes of `frame` from [`HEADER`] on. The bytes before and
    /// behind them, up to a whole sector, are overwritten.
    ///
    /// **Cost** one write. It is durable after [`Log::flush`].
    ///
    /// # Errors
    /// See [`Fault`]. The log is of no use any more.
    pub fn append(&mut self, frame: &mut [u8], len: usize) -> Result<(), Fault> {
        self.counts.entries += 1;
        self.counts.payload += len as u64;
        self.active = self.write_entry(self.active, frame, len)?;
        Ok(())
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// See [`Fault`]. The log is of no use any more.
    pub fn flush(&mut self) -> Result<(), Fault> {
        self.counts.flushes += 1;
        self.disk.flush()
    }

    /// Bytes for which the area in use has room, headers and padding included.
    #[must_use]
    pub fn room(&self) -> u64 {
        (self.area_sectors() - self.active.sector) * SECTOR as u64
    }

    /// Bytes of an area.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.area_sectors() * SECTOR as u64
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The device.
    pub fn into_disk(self) -> B {
        self.disk
    }

    /// Begins to fill the other area, from which nothing is needed any more.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn begin_next(&mut self) -> Result<(), Fault> {
        self.forget_stale()?;
        let area = 1 - self.active.area;
        self.next = Some(Writer::new(area, &self.head(self.active.generation + 1)));
        Ok(())
    }

    /// Appends an entry to the area that is being filled.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn append_next(&mut self, frame: &mut [u8], len: usize) -> Result<(), Fault> {
        let Some(next) = self.next else { return Ok(()) };
        self.next = Some(self.write_entry(next, frame, len)?);
        Ok(())
    }

    /// The area that was being filled is the one in use: what was appended there is the log.
    /// Durable when it returns.
    ///
    /// # Errors
    /// See [`Fault`]. The log is of no use any more.
    pub fn switch(&mut self) -> Result<(), Fault> {
        let Some(next) = self.next.take() else { return Ok(()) };
        self.flush()?;
        let head = self.head(next.generation).write();
        self.write(next.area * self.area_sectors(), &head)?;
        self.flush()?;
        self.switched(next)
    }

    /// The area that `next` fills has its head.
    fn switched(&mut self, next: Writer) -> Result<(), Fault> {
        self.active = next;
        self.counts.switches += 1;
        self.stale = true;
        self.forget_stale()
    }

    /// Takes the head of the area away that is not in use. That need not be durable soon.
    fn forget_stale(&mut self) -> Result<(), Fault> {
        if self.stale {
            self.write((1 - self.active.area) * self.area_sectors(), &[0; SECTOR])?;
            self.stale = false;
        }
        Ok(())
    }

    fn head(&self, generation: u64) -> Head {
        let sectors = self.disk.sectors();
        Head { tag: self.tag, generation, sectors, longest: self.longest }
    }

    fn area_sectors(&self) -> u64 {
        self.disk.sectors() / 2
    }

    fn write_entry(&mut self, at: Writer, frame: &mut [u8], len: usize) -> Result<Writer, Fault> {
        let (first, entry, next) = self.seal(at, frame, len)?;
        self.write(first, entry)?;
        Ok(next)
    }

    /// Makes an entry of `frame`: its first sector, its bytes, and where the next one goes.
    fn seal<'f>(
        &self,
        at: Writer,
        frame: &'f mut [u8],
        len: usize,
    ) -> Result<(u64, &'f [u8], Writer), Fault> {
        let count = sectors(HEADER.saturating_add(len));
        if at.sector + count > self.area_sectors() || len + HEADER > self.longest as usize {
            return Err(Fault::Full);
        }
        let (check, entry) = seal(frame, len, at.number, at.before).ok_or(Fault::Range)?;
        let next = Writer { sector: at.sector + count, before: check, number: at.number + 1, ..at };
        Ok((at.area * self.area_sectors() + at.sector, entry, next))
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.count_write(bytes);
        self.disk.write(first, bytes)
    }

    fn count_write(&mut self, bytes: &[u8]) {
        self.counts.writes += 1;
        self.counts.written += bytes.len() as u64;
    }

    /// Shows what the area in use holds, up to the first entry that is not whole.
    fn replay(
        &mut self,
        scratch: &mut [u8],
        apply: &mut impl FnMut(&[u8]) -> Result<(), ApplyError>,
    ) -> Result<(), OpenError> {
        let area = self.area_sectors();
        let mut window =
            Window { bytes: scratch, base: self.active.area * area, area, first: 0, count: 0 };
        loop {
            let Writer { sector, number, before, .. } = self.active;
            let Some(first) = window.show(&mut self.disk, sector, 1)? else { return Ok(()) };
            let (len, announced) = announced(first.first_chunk().unwrap_or(&[0; HEADER]));
            let end = HEADER + len as usize;
            if announced != number || end > self.longest as usize {
                return Ok(());
            }
            let entry = window.show(&mut self.disk, sector, sectors(end))?;
            let Some(entry) = entry.and_then(|entry| entry.get(..end)) else { return Ok(()) };
            let Some(check) = verify(entry, before) else { return Ok(()) };
            apply(entry.get(HEADER..).unwrap_or_default())?;
            self.active.sector += sectors(end);
            self.active.before = check;
            self.active.number += 1;
        }
    }
}

/// Jobs, of which there is one at a time: nothing else may be asked of the log meanwhile.
impl<B: Background> Log<B> {
    /// Begins to append an entry, as [`Log::append`] does, and to make durable all that was written.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn begin_append(&mut self, frame: &mut [u8], len: usize) -> Result<(), Fault> {
        let (first, entry, next) = self.seal(self.active, frame, len)?;
        self.count_write(entry);
        self.counts.entries += 1;
        self.counts.payload += len as u64;
        self.counts.flushes += 1;
        self.active = next;
        self.disk.begin(first, entry)
    }

    /// Begins to give the area that was being filled, all of which is durable, its head.
    /// [`Log::end_switch`] comes next.
    ///
    /// # Errors
    /// See [`Fault`]. The log is of no use any more.
    pub fn begin_switch(&mut self) -> Result<(), Fault> {
        let Some(next) = self.next else { return Err(Fault::Range) };
        let head = self.head(next.generation).write();
        self.count_write(&head);
        self.counts.flushes += 1;
        self.disk.begin(next.area * self.area_sectors(), &head)
    }

    /// The head is durable: the area that was being filled is the one in use.
    ///
    /// # Errors
    /// As for [`Log::switch`].
    pub fn end_switch(&mut self) -> Result<(), Fault> {
        self.next.take().map_or(Ok(()), |next| self.switched(next))
    }

    /// What came of what was begun last; `None` while it is not done.
    pub fn poll(&mut self) -> Option<Result<(), Fault>> {
        self.disk.poll()
    }
}

/// Sectors of an area that were read.
struct Window<'a> {
    bytes: &'a mut [u8],
    /// Where the area begins, and how many sectors it has.
    base: u64,
    area: u64,
    first: u64,
    count: u64,
}

impl Window<'_> {
    /// The `count` sectors from `first` on. `None` if the area has not so many.
    fn show<B: Block>(
        &mut self,
        disk: &mut B,
        first: u64,
        count: u64,
    ) -> Result<Option<&[u8]>, Fault> {
        if first + count > self.area {
            return Ok(None);
        }
        if first < self.first || first + count > self.first + self.count {
            let most = sectors(self.bytes.len()).min(self.area - first);
            let wanted = count.max(sectors(WINDOW)).min(most);
            let place = self.bytes.get_mut(..wanted as usize * SECTOR).ok_or(Fault::Range)?;
            disk.read(self.base + first, place)?;
            (self.first, self.count) = (first, wanted);
        }
        let at = (first - self.first) as usize * SECTOR;
        Ok(self.bytes.get(at..at + count as usize * SECTOR))
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refused> for OpenError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<ApplyError> for OpenError {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::TooSmall(least) => {
                write!(f, "too small: it must have at least {} KiB", least.div_ceil(2))
            }
            Self::Refused(Refused::Foreign) => {
                f.write_str("it holds something that is no log, which is left as it is")
            }
            Self::Refused(Refused::Damaged) => {
                f.write_str("the head of the log is damaged; nothing was changed")
            }
            Self::OtherContents(tag) => {
                write!(f, "it is the log of something else, \"{}\"", tag.escape_ascii())
            }
            Self::OtherSize(sectors) => {
                write!(f, "its size has changed; it was {} KiB", sectors / 2)
            }
            Self::LongEntries(bytes) => {
                write!(f, "its entries are up to {bytes} bytes long, more than are read here")
            }
            Self::Apply(ApplyError::Malformed) => {
                f.write_str("an entry of the log is whole, but does not say what it should")
            }
            Self::Apply(ApplyError::NoMemory) => {
                f.write_str("it holds more than there is memory for")
            }
        }
    }
}
