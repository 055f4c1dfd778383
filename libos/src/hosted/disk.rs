//! An extent of the disk as a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::storage::{Block, Fault, SECTOR, within};

/// Sectors in a file.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    sectors: u64,
}

impl FileDisk {
    /// The sectors of a file that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let sectors = file.metadata()?.len() / SECTOR as u64;
        Ok(Self { file, sectors })
    }

    /// Where so many bytes from sector `first` on lie, if they are all there.
    fn place(&self, first: u64, bytes: usize) -> Result<u64, Fault> {
        within(self.sectors, first, bytes)?;
        Ok(first * SECTOR as u64)
    }
}

impl Block for FileDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let at = self.place(first, bytes.len())?;
        self.file.read_exact_at(bytes, at).map_err(|_| Fault::Device)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        let at = self.place(first, bytes.len())?;
        self.file.write_all_at(bytes, at).map_err(|_| Fault::Device)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|_| Fault::Device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::conformance;

    #[test]
    fn it_conforms() {
        let path = std::env::temp_dir().join(std::format!("exo-extent-{}", std::process::id()));
        File::create(&path).unwrap().set_len(conformance::SECTORS * SECTOR as u64).unwrap();
        conformance::check(&mut FileDisk::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
