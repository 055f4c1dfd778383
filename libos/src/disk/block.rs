//! An extent as the device of a log.

use exo_abi::Error;

use super::{Blocking, Doorbell};
use crate::sched::Park;
use crate::storage::{Background, Block, Fault};

impl<B: Doorbell, P: Park> Block for Blocking<B, P> {
    fn sectors(&self) -> u64 {
        Self::sectors(self).into()
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let first = place(self, first, bytes.len())?;
        Self::read(self, first, bytes).map_err(fault)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        let first = place(self, first, bytes.len())?;
        Self::write(self, first, bytes).map_err(fault)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        Self::flush(self).map_err(fault)
    }
}

impl<B: Doorbell, P: Park> Background for Blocking<B, P> {
    fn begin(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        let first = place(self, first, bytes.len())?;
        self.begin_job(first, bytes).map_err(fault)
    }

    fn poll(&mut self) -> Option<Result<(), Fault>> {
        self.poll_job().map(|result| result.map_err(fault))
    }
}

/// Looked at before anything is done: a long transfer is several requests.
fn place<D: Block>(disk: &D, first: u64, bytes: usize) -> Result<u32, Fault> {
    crate::storage::within(disk.sectors(), first, bytes)?;
    u32::try_from(first).map_err(|_| Fault::Range)
}

fn fault(error: Error) -> Fault {
    match error {
        Error::OutOfRange | Error::BadArgument => Fault::Range,
        _ => Fault::Device,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Extent;
    use super::super::model::{Awake, buffer, disk};
    use super::*;
    use crate::storage::conformance;

    #[test]
    fn an_extent_conforms() {
        let sectors = conformance::SECTORS as u32;
        let disk = disk(Extent { first: 10, sectors }, sectors as usize + 20);
        let mut disk = Blocking::new(disk, Awake, buffer(2048));
        conformance::check(&mut disk);
        conformance::check_background(&mut disk);
    }
}
