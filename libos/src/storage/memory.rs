//! Sectors in memory.

use alloc::vec;
use alloc::vec::Vec;

use super::{Background, Block, Fault, SECTOR, within};

/// A device that is gone with its owner: for tests, and for contents that need not last.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    bytes: Vec<u8>,
    has_job: bool,
}

impl MemoryDisk {
    /// A device of so many sectors, all zero.
    #[must_use]
    pub fn new(sectors: u64) -> Self {
        let bytes = vec![0; usize::try_from(sectors).unwrap_or(usize::MAX) * SECTOR];
        Self { bytes, has_job: false }
    }

    /// All that it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be changed by hand.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn place(&self, first: u64, len: usize) -> Result<usize, Fault> {
        within(self.sectors(), first, len)?;
        Ok(first as usize * SECTOR)
    }
}

impl Block for MemoryDisk {
    fn sectors(&self) -> u64 {
        (self.bytes.len() / SECTOR) as u64
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let at = self.place(first, bytes.len())?;
        bytes.copy_from_slice(self.bytes.get(at..at + bytes.len()).ok_or(Fault::Range)?);
        Ok(())
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        let at = self.place(first, bytes.len())?;
        self.bytes.get_mut(at..at + bytes.len()).ok_or(Fault::Range)?.copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Done at once.
impl Background for MemoryDisk {
    fn begin(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.write(first, bytes)?;
        self.has_job = true;
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<(), Fault>> {
        core::mem::take(&mut self.has_job).then_some(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn conforms() {
        let mut disk = MemoryDisk::new(conformance::SECTORS);
        conformance::check(&mut disk);
        conformance::check_background(&mut disk);
    }
}
