//! `disk = "NAME:SIZE"`, or `"NAME"`: an extent of the disk that an application has.

use anyhow::{Context, Result, ensure};
use root::extents::SECTOR;
use root::manifest::DiskShare;
use serde::Deserialize;

/// A [`DiskShare`] in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FileDisk(pub(super) DiskShare);

impl TryFrom<String> for FileDisk {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, sectors) = match text.rsplit_once(':') {
            None => (&*text, 0),
            Some((name, size)) => (name, sectors(size).map_err(|error| format!("{error:#}"))?),
        };
        Ok(Self(DiskShare { name: name.to_owned(), sectors }))
    }
}

/// Reads `64K`, `16M`, `1G` or a plain number of bytes: whole sectors.
pub fn sectors(text: &str) -> Result<u32> {
    let shift = match text.as_bytes().last() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        _ => 0,
    };
    let digits = &text[..text.len() - usize::from(shift > 0)];
    let bytes = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(1 << shift));
    let bytes = bytes.filter(|&bytes| bytes > 0);
    let bytes = bytes.with_context(|| format!("\"{text}\" is no size such as 64K, 16M or 1G"))?;
    ensure!(bytes.is_multiple_of(SECTOR as u64), "\"{text}\" is not a multiple of {SECTOR} bytes");
    u32::try_from(bytes / SECTOR as u64).ok().with_context(|| format!("\"{text}\" is above 2 TiB"))
}

#[cfg(test)]
mod tests {
    use super::sectors;

    #[test]
    fn sizes_have_suffixes() {
        for (text, wanted) in [("512", 1), ("64K", 128), ("16M", 1 << 15), ("1g", 1 << 21)] {
            assert_eq!(sectors(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "M", "0", "0M", "513", "-1", "1T", "1.5M", "2048G", "99999999999G"] {
            assert!(sectors(text).is_err(), "{text}");
        }
    }
}
