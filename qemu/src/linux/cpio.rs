//! The archive that Linux unpacks into its first root directory.
//!
//! The format is cpio's "newc": per file a header of hexadecimal numbers, the name and
//! the contents, each padded to four bytes; at the end a file of a certain name
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). Written here,
//! because directories and files are all that is wanted, and the same archive for the same
//! files on any host.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

/// The name of the file that is not one.
const TRAILER: &str = "TRAILER!!!";
/// Kinds of file, and that every user may read it, and execute or enter it.
const PROGRAM: u32 = 0o10_0755;
const DIRECTORY: u32 = 0o4_0755;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// Adds a file that every user may read and execute, and the directories it lies in.
    /// `path` begins at the root directory, without a slash.
    ///
    /// # Errors
    /// The path is none, or the archive holds it already.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        let part = |part: &str| part.is_empty() || part == "." || part == "..";
        ensure!(
            !path.split('/').any(part) && !path.contains('\0') && path != TRAILER,
            "\"{path}\" is no path of a file"
        );
        for (end, _) in path.match_indices('/') {
            let directory = &path[..end];
            if self.names.insert(directory.to_owned()) {
                self.entry(DIRECTORY, directory, &[])?;
            }
        }
        ensure!(self.names.insert(path.to_owned()), "/{path} is there twice");
        self.entry(PROGRAM, path, contents)
    }

    /// The archive with its end.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(0, TRAILER, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, mode: u32, name: &str, data: &[u8]) -> Result<()> {
        let size = u32::try_from(data.len()).context("the file is too large for the archive")?;
        let name_size = u32::try_from(name.len() + 1).context("the name is too long")?;
        let inode = if name == TRAILER { 0 } else { self.names.len() as u32 };
        let (owner, group, links, time) = (0, 0, 1, 0);
        // Of the file, and that which a special file stands for: major and minor numbers.
        let (device, special) = ([0; 2], [0; 2]);
        // Another variant of the format uses it.
        let checksum = 0;
        let fields = [
            &[inode, mode, owner, group, links, time, size][..],
            &device,
            &special,
            &[name_size, checksum],
        ];
        self.bytes.extend(b"070701");
        for field in fields.concat() {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    /// To a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of an archive, as (name, mode, contents).
    fn entries(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut inodes = BTreeSet::new();
        while !archive.is_empty() {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&archive[6 + 8 * index..][..8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            assert!(inodes.insert(field(0)), "the same inode twice");
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let (name, end) = archive[110..].split_at(name_size - 1);
            assert_eq!(end[0], 0);
            let data = (110 + name_size).next_multiple_of(4);
            let name = String::from_utf8(name.to_vec()).unwrap();
            entries.push((name, mode, archive[data..][..size].to_vec()));
            archive = &archive[(data + size).next_multiple_of(4)..];
        }
        entries
    }

    #[test]
    fn holds_the_program_and_an_end() {
        for (name, program) in [("init", &b"#!"[..]), ("in", b"abcd"), ("i", b""), ("abc", b"x")] {
            let mut archive = Archive::default();
            archive.file(name, program).unwrap();
            let archive = archive.finish().unwrap();
            assert_eq!(archive.len() % 4, 0);
            let wanted = [
                (name.to_owned(), 0o10_0755, program.to_vec()),
                (TRAILER.to_owned(), 0, Vec::new()),
            ];
            assert_eq!(entries(&archive), wanted);
        }
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_once() {
        let mut archive = Archive::default();
        for path in ["usr/bin/a", "usr/b", "init"] {
            archive.file(path, path.as_bytes()).unwrap();
        }
        let entries = entries(&archive.finish().unwrap());
        let names: Vec<_> = entries.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
        let (file, directory) = (0o10_0755, 0o4_0755);
        assert_eq!(
            names,
            [
                ("usr", directory),
                ("usr/bin", directory),
                ("usr/bin/a", file),
                ("usr/b", file),
                ("init", file),
                (TRAILER, 0)
            ]
        );
    }

    #[test]
    fn refuses_names_that_would_mislead() {
        for name in ["", "a\0b", TRAILER, "/a", "a/", "a//b", "../a", "a/./b"] {
            assert!(Archive::default().file(name, b"").is_err(), "{name:?}");
        }
        let mut archive = Archive::default();
        archive.file("a", b"1").unwrap();
        assert!(archive.file("a", b"2").is_err());
        assert!(archive.file("a/b", b"").is_err() || archive.file("a", b"").is_err());
    }
}
