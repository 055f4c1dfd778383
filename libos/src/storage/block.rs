//! Sectors that can be read, written and flushed.

use core::fmt;

/// Bytes of a sector: what a device writes as a whole or not at all.
pub const SECTOR: usize = 512;

/// How many sectors hold so many bytes.
#[must_use]
pub const fn sectors(bytes: usize) -> u64 {
    bytes.div_ceil(SECTOR) as u64
}

/// A device, or a part of one, that its owner has for itself.
///
/// Every method takes whole sectors: a slice whose length is no multiple of [`SECTOR`], or that
/// reaches beyond the last sector, is refused and changes nothing.
pub trait Block {
    /// How many sectors there are.
    fn sectors(&self) -> u64;

    /// Reads the sectors from `first` on.
    ///
    /// **Blocking** until they are there.
    ///
    /// # Errors
    /// See [`Fault`]. What `bytes` holds then is unspecified.
    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault>;

    /// Writes the sectors from `first` on. Reads see it from then on; a power cut may undo it, or
    /// a part of it, until the next flush.
    ///
    /// # Errors
    /// See [`Fault`]. Each sector holds what it held, or what it was to hold.
    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Makes what was written durable.
    ///
    /// **Blocking** until it is.
    ///
    /// # Errors
    /// See [`Fault`]. What was written since the flush before may be durable or not, and another
    /// flush says nothing of it.
    fn flush(&mut self) -> Result<(), Fault>;
}

impl<B: Block> Block for &mut B {
    fn sectors(&self) -> u64 {
        (**self).sectors()
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        (**self).read(first, bytes)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        (**self).write(first, bytes)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        (**self).flush()
    }
}

/// A device that works while its owner goes on.
///
/// There is one *job* at a time. From [`Background::begin`] until [`Background::poll`] has said what
/// came of it, no method of [`Block`] but [`Block::sectors`] may be called.
pub trait Background: Block {
    /// Begins to write the sectors from `first` on, and then to make durable all that was ever
    /// written. The bytes are the caller's again when it returns.
    ///
    /// # Errors
    /// See [`Fault`]. Nothing was begun then.
    fn begin(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// What came of the job; `None` while it is not done. The device's owner has an event when
    /// there may be more to see.
    fn poll(&mut self) -> Option<Result<(), Fault>>;
}

impl<B: Background> Background for &mut B {
    fn begin(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        (**self).begin(first, bytes)
    }

    fn poll(&mut self) -> Option<Result<(), Fault>> {
        (**self).poll()
    }
}

/// Why a device did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The sectors are not all there, or not whole.
    Range,
    /// The device reported an error, or did not answer in time.
    Device,
    /// The log has no room.
    Full,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "sectors beyond the end of the device, or parts of sectors",
            Self::Device => "the device reported an error, or did not answer in time",
            Self::Full => "the log is full",
        })
    }
}

/// Whether a device of `total` sectors has those that `bytes` bytes from `first` on need.
///
/// # Errors
/// [`Fault::Range`] if not, or if they are not whole sectors.
pub fn within(total: u64, first: u64, bytes: usize) -> Result<(), Fault> {
    let end = first.checked_add((bytes / SECTOR) as u64);
    let whole = bytes.is_multiple_of(SECTOR) && end.is_some_and(|end| end <= total);
    if whole { Ok(()) } else { Err(Fault::Range) }
}
