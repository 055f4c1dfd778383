//! A file, or a disk of the host, as a device for the store's journal.
//!
//! Writes go to Linux's page cache, and a flush is `fdatasync(2)`: what it returns for is on the
//! disk, as far as Linux and the disk tell the truth. The file is locked, so that no two stores
//! write to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use kvstore::durable::storage::{Block, Fault, SECTOR, within};

/// An open file, and its size.
#[derive(Debug)]
pub(crate) struct FileDisk {
    file: File,
    sectors: u64,
}

impl FileDisk {
    /// Opens the file at `path`. One that is not there, or empty, becomes one of `sectors` zeros.
    ///
    /// # Errors
    /// As a sentence.
    pub(crate) fn open(path: &Path, sectors: u64) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{}: another store has it open", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
        if bytes == 0 {
            bytes = sectors * SECTOR as u64;
            let made = file.set_len(bytes).and_then(|()| file.sync_all());
            made.and_then(|()| sync_directory(path)).map_err(failed)?;
        }
        Ok(Self { file, sectors: bytes / SECTOR as u64 })
    }

    /// Where so many bytes from a sector on are, if they are all there.
    fn place(&self, first: u64, bytes: usize) -> Result<u64, Fault> {
        within(self.sectors, first, bytes)?;
        Ok(first * SECTOR as u64)
    }
}

/// A new file's name is durable once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
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
    use kvstore::durable::storage::conformance;

    use super::*;

    #[test]
    fn conforms_and_is_for_one_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let mut disk = FileDisk::open(&path, conformance::SECTORS).unwrap();
        conformance::check(&mut disk);
        let error = FileDisk::open(&path, 1).unwrap_err();
        assert!(error.contains("another store"), "{error}");
        drop(disk);
        // What is there stays as large as it is.
        assert_eq!(FileDisk::open(&path, 1).unwrap().sectors(), conformance::SECTORS);
        let error = FileDisk::open(&directory.path().join("a/b"), 1).unwrap_err();
        assert!(error.contains("a/b: "), "{error}");
    }
}
