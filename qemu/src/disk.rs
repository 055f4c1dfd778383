//! The machine's disk as a file of the host.
//!
//! The file is the disk, sector by sector. Its first sectors hold the table of extents
//! ([`root::extents`]); here it is read, and made or changed only for a verb that says so. QEMU locks
//! the file of a running machine, as the store does that of its process: [`Image::is_in_use`].

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use root::extents::{Copies, Extent, RESERVED_BYTES, SECTOR, Table};

use crate::manifest;

/// Sectors of a disk that is made without a size: 512 MiB, of which the file holds what was written.
const SECTORS: u32 = 1 << 20;

/// A disk that a machine is to have: the file, and its size if it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Its size in sectors, if it was named.
    pub sectors: Option<u32>,
}

impl Place {
    /// Reads `FILE` or `FILE:SIZE`.
    pub fn parse(text: &str) -> Result<Self> {
        let named = text.rsplit_once(':').filter(|(path, _)| !path.is_empty());
        let sized = named.and_then(|(path, size)| Some((path, manifest::sectors(size).ok()?)));
        let (path, sectors) = sized.map_or((text, None), |(path, size)| (path, Some(size)));
        ensure!(!path.is_empty(), "the disk's file has no name");
        Ok(Self { path: path.into(), sectors })
    }

    /// Makes the file with an empty table, if it does not exist. Whether it was made.
    pub fn provide(&self) -> Result<bool> {
        if self.exists()? {
            return Ok(false);
        }
        Image::create(&self.path, self.sectors.unwrap_or(SECTORS))?;
        Ok(true)
    }

    /// Makes the file without a table, all zero, if it does not exist: for a process of this host,
    /// which has all of it.
    pub fn provide_blank(&self) -> Result<()> {
        if !self.exists()? {
            blank(&self.path, self.sectors.unwrap_or(SECTORS))?;
        }
        Ok(())
    }

    fn exists(&self) -> Result<bool> {
        self.path.try_exists().with_context(|| format!("{}", self.path.display()))
    }
}

/// A new file of so many sectors, all zero.
fn blank(path: &Path, sectors: u32) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    file.set_len(u64::from(sectors) * SECTOR as u64)
        .with_context(|| format!("cannot make {} so long", path.display()))?;
    Ok(file)
}

/// A disk.
#[derive(Debug)]
pub struct Image {
    file: File,
    sectors: u32,
}

impl Image {
    /// Makes a file of so many sectors, all zero, with an empty table.
    pub fn create(path: &Path, sectors: u32) -> Result<Self> {
        let image = Self { file: blank(path, sectors)?, sectors };
        image.format()?;
        Ok(image)
    }

    /// Opens the file at `path`, to be changed or only to be read.
    pub fn open(path: &Path, writes: bool) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(writes).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let bytes = file.metadata().context("cannot ask for its length")?.len();
        let sectors = bytes / SECTOR as u64;
        let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
        Ok(Self { file, sectors })
    }

    /// Its length in sectors.
    #[must_use]
    pub fn sectors(&self) -> u32 {
        self.sectors
    }

    /// Whether a process has the file locked, as Linux tells. One that cannot be asked tells of none.
    pub fn is_in_use(&self) -> Result<bool> {
        let file = self.file.metadata().context("cannot ask for its number")?;
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        Ok(is_locked(&locks, &format!("{major:02x}:{minor:02x}:{}", file.ino())))
    }

    /// The table, and which of its copies are whole.
    pub fn table(&self) -> Result<(Table, Copies)> {
        let mut area = [0; RESERVED_BYTES];
        match self.file.read_exact_at(&mut area, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bail!("the file is shorter than a table of extents")
            }
            Err(error) => return Err(error).context("cannot read the table of extents"),
        }
        Ok(Table::read(&area, self.sectors)?)
    }

    /// Writes an empty table, both copies.
    pub fn format(&self) -> Result<()> {
        let mut table = Table::new(self.sectors).with_context(|| {
            format!("{} sectors are too few for a table of extents", self.sectors)
        })?;
        self.write(&mut table)?;
        self.write(&mut table)
    }

    /// Writes the next copy of `table`.
    pub fn write(&self, table: &mut Table) -> Result<()> {
        let (first, bytes) = table.next_copy();
        let written = self.file.write_all_at(&bytes, u64::from(first) * SECTOR as u64);
        written.and_then(|()| self.file.sync_all()).context("cannot write the table of extents")
    }

    /// Fills an extent.
    pub fn fill(&self, extent: &Extent, byte: u8) -> Result<()> {
        let bytes = vec![byte; extent.sectors as usize * SECTOR];
        let written = self.file.write_all_at(&bytes, u64::from(extent.first) * SECTOR as u64);
        written.with_context(|| format!("cannot write {} sectors", extent.sectors))
    }

    /// Hands the contents of an extent to `each`, piece by piece.
    pub fn read_extent(
        &self,
        extent: &Extent,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut piece = vec![0; 128 * SECTOR];
        let mut at = extent.first;
        while at < extent.end() {
            let sectors = (extent.end() - at).min(128);
            let bytes = &mut piece[..sectors as usize * SECTOR];
            let read = self.file.read_exact_at(bytes, u64::from(at) * SECTOR as u64);
            read.with_context(|| format!("cannot read sector {at}"))?;
            each(bytes)?;
            at += sectors;
        }
        Ok(())
    }
}

/// Whether `locks`, which are `/proc/locks`, have one of this file that is held.
fn is_locked(locks: &str, file: &str) -> bool {
    let mut words = locks.lines().map(|line| line.split_ascii_whitespace().skip(1));
    words.any(|words| {
        let words: Vec<_> = words.collect();
        // One that waits for another has an arrow.
        words.first() != Some(&"->") && words.get(4) == Some(&file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_locked_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let image = Image::create(&path, 1000).unwrap();
        assert!(!image.is_in_use().unwrap());
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        assert!(image.is_in_use().unwrap());
        drop(other);
        assert!(!image.is_in_use().unwrap());
        let locks = "1: OFDLCK ADVISORY  READ -1 fe:01:77 100 101\n\
                     1: -> FLOCK  ADVISORY  WRITE 5 fe:01:78 0 EOF\n";
        let files = ["fe:01:77", "fe:01:78", "fe:00:77", "100"].map(|file| is_locked(locks, file));
        assert_eq!(files, [true, false, false, false]);
    }

    #[test]
    fn a_place_may_have_a_size() {
        let place = |path: &str, sectors| Place { path: path.into(), sectors };
        assert_eq!(Place::parse("disk.img").unwrap(), place("disk.img", None));
        assert_eq!(Place::parse("a:b/disk:64M").unwrap(), place("a:b/disk", Some(1 << 17)));
        assert_eq!(Place::parse("disk:img").unwrap(), place("disk:img", None));
        assert_eq!(Place::parse(":64M").unwrap(), place(":64M", None));
        assert!(Place::parse("").is_err());
    }

    #[test]
    fn a_disk_is_made_once_and_keeps_its_table() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { path: folder.path().join("disk"), sectors: Some(1000) };
        let another = Place { path: folder.path().join("another"), sectors: None };
        assert!(another.provide().unwrap());
        assert_eq!(Image::open(&another.path, false).unwrap().sectors(), SECTORS);
        assert!(place.provide().unwrap());
        let image = Image::open(&place.path, true).unwrap();
        let (mut table, whole) = image.table().unwrap();
        assert_eq!((table.sectors(), whole), (1000, [true, true]));
        let extent = table.claim("log", 130).unwrap().extent;
        image.write(&mut table).unwrap();
        assert!(!place.provide().unwrap(), "it is there");
        let again = Image::open(&place.path, false).unwrap();
        assert_eq!(again.table().unwrap().0, table);
        image.file.write_all_at(&[7; SECTOR], 145 * SECTOR as u64).unwrap();
        let mut bytes = Vec::new();
        let keep = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        again.read_extent(&extent, keep).unwrap();
        assert_eq!(bytes.len(), 130 * SECTOR);
        assert_eq!(bytes[129 * SECTOR..], [7; SECTOR]);
        image.file.set_len(512).unwrap();
        assert!(Image::open(&place.path, false).unwrap().table().is_err());
        assert!(Image::create(&folder.path().join("short"), 20).is_err());
    }
}
