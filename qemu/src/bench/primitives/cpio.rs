//! The archive that Linux unpacks into its first root directory.
//!
//! The format is cpio's "newc": per file a header of hexadecimal numbers, the name and
//! the contents, each padded to four bytes; at the end a file of a certain name
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). Written here
//! because one file in it is all that is wanted.

use anyhow::{Context, Result, ensure};

/// The name of the file that is not one.
const TRAILER: &str = "TRAILER!!!";
/// A regular file that everybody may execute.
const EXECUTABLE: u32 = 0o10_0755;

/// An archive of one program.
pub(crate) fn archive(name: &str, program: &[u8]) -> Result<Vec<u8>> {
    ensure!(!name.is_empty() && !name.contains('\0') && name != TRAILER, "\"{name}\" is no name");
    let mut archive = Vec::with_capacity(program.len() + 512);
    entry(&mut archive, 1, EXECUTABLE, name, program)?;
    entry(&mut archive, 0, 0, TRAILER, &[])?;
    Ok(archive)
}

fn entry(archive: &mut Vec<u8>, inode: u32, mode: u32, name: &str, data: &[u8]) -> Result<()> {
    let size = u32::try_from(data.len()).context("the file is too large for the archive")?;
    let name_size = u32::try_from(name.len() + 1).context("the name is too long")?;
    archive.extend(b"070701");
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
    for field in fields.concat() {
        archive.extend(format!("{field:08X}").bytes());
    }
    archive.extend(name.bytes().chain([0]));
    pad(archive);
    archive.extend(data);
    pad(archive);
    Ok(())
}

/// To a multiple of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of an archive, as (name, mode, contents).
    fn entries(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        while !archive.is_empty() {
            assert_eq!(&archive[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&archive[6 + 8 * index..][..8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
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
            let archive = archive(name, program).unwrap();
            assert_eq!(archive.len() % 4, 0);
            let wanted = [
                (name.to_owned(), 0o10_0755, program.to_vec()),
                (TRAILER.to_owned(), 0, Vec::new()),
            ];
            assert_eq!(entries(&archive), wanted);
        }
    }

    #[test]
    fn refuses_names_that_would_mislead() {
        for name in ["", "a\0b", TRAILER] {
            assert!(archive(name, b"").is_err(), "{name:?}");
        }
    }
}
