//! The file that is a machine's disk.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result};

/// Bytes of a disk for which no size is given.
const BYTES: u64 = 512 << 20;

/// A file and the size it is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    bytes: u64,
}

impl FromStr for Disk {
    type Err = String;

    /// `FILE` or `FILE:SIZE`; the size in MiB, or with M or G behind it.
    fn from_str(text: &str) -> Result<Self, String> {
        let sized = text.rsplit_once(':').and_then(|(path, size)| Some((path, bytes(size)?)));
        let (path, bytes) = sized.unwrap_or((text, BYTES));
        match path {
            "" => Err("there is no name of a file".into()),
            path => Ok(Self { path: path.into(), bytes }),
        }
    }
}

/// `None` if that is no size.
fn bytes(size: &str) -> Option<u64> {
    let (number, shift) = match size.split_at_checked(size.len().saturating_sub(1))? {
        (number, "G" | "g") => (number, 30),
        (number, "M" | "m") => (number, 20),
        _ => (size, 20),
    };
    let number: u64 = number.parse().ok().filter(|number| (1..=1 << 20).contains(number))?;
    Some(number << shift)
}

impl Disk {
    /// Makes the file, of zeros, if it is not there; what there is stays as it is.
    pub(crate) fn make(&self) -> Result<()> {
        let path = self.path.display();
        match OpenOptions::new().write(true).create_new(true).open(&self.path) {
            Ok(file) => {
                file.set_len(self.bytes).with_context(|| format!("cannot make the disk {path}"))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot make the disk {path}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_be_behind_the_name() {
        for (text, path, size) in [
            ("disk", "disk", BYTES),
            ("a:b", "a:b", BYTES),
            ("/tmp/disk:64", "/tmp/disk", 64 << 20),
            ("disk:64M", "disk", 64 << 20),
            ("a:b:2G", "a:b", 2 << 30),
            ("disk:0", "disk:0", BYTES),
            ("disk:", "disk:", BYTES),
        ] {
            assert_eq!(text.parse(), Ok(Disk { path: path.into(), bytes: size }), "{text}");
        }
        assert!("".parse::<Disk>().is_err());
        assert!(":5".parse::<Disk>().is_err());
    }

    #[test]
    fn what_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let disk: Disk = format!("{}:3", path.display()).parse().unwrap();
        disk.make().unwrap();
        assert_eq!(path.metadata().unwrap().len(), 3 << 20);
        std::fs::write(&path, "kept").unwrap();
        disk.make().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    }
}
