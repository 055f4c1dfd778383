//! Writes the boot image: what the kernel is told of root ([`exo_boot::launch`]), root's pages, and
//! the bundle that root reads ([`exo_bundle`]).
//!
//! The layouts and their rules are documented there. What is written is parsed
//! again before it is handed out, so that a program that breaks a rule (a segment
//! that is writable and executable, say) is refused here and not by a kernel that
//! has no better way to say so than to stop.

mod elf;
mod launch;

use anyhow::{Context, Result, ensure};
use exo_bundle::{Bundle, HEADER_LEN, IMAGE_LEN, MAGIC, NAME_LEN, PAGE, SEGMENT_LEN, VERSION};

/// A program on its way into a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What it is called: 1 to 16 printable ASCII bytes.
    pub name: String,
    /// Virtual address of its first instruction.
    pub entry: u64,
    /// Its segments in ascending order of address.
    pub segments: Vec<Segment>,
}

/// A run of pages of a program, with one protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address of the first byte, page aligned.
    pub va: u64,
    /// Length in memory, in bytes; what `data` does not cover is zero.
    pub mem_len: u64,
    /// Any of `READ`, `WRITE` and `EXEC` of [`exo_bundle`].
    pub flags: u32,
    /// The initial bytes.
    pub data: Vec<u8>,
}

/// The boot image of these programs, the first of which is root.
///
/// Fails if one breaks a rule of the formats.
pub fn write(images: &[Image], manifest: &[u8]) -> Result<Vec<u8>> {
    for (index, image) in images.iter().enumerate() {
        let name = &image.name;
        ensure!(name.len() <= NAME_LEN, "image name \"{name}\" is longer than {NAME_LEN} bytes");
        let unique = !images[..index].iter().any(|other| other.name == *name);
        ensure!(unique, "two images are named \"{name}\"");
    }
    let (root, others) = images.split_first().context("no image of root")?;
    let mut bytes = launch::pages(root)?;
    bytes.extend(write_bundle(others, manifest)?);
    Ok(bytes)
}

/// The bundle of these images.
fn write_bundle(images: &[Image], manifest: &[u8]) -> Result<Vec<u8>> {
    let segments = || images.iter().flat_map(|image| &image.segments);
    let manifest_at = HEADER_LEN + images.len() * IMAGE_LEN + segments().count() * SEGMENT_LEN;
    let data_at = (manifest_at + manifest.len()).next_multiple_of(PAGE as usize);
    let data_len: usize = segments().map(Segment::padded_len).sum();
    let total = data_at + data_len;

    let mut bytes = Vec::with_capacity(total);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(u32::try_from(images.len())?.to_le_bytes());
    bytes.extend(u32::try_from(segments().count())?.to_le_bytes());
    for field in [manifest_at, manifest.len(), total] {
        bytes.extend((field as u64).to_le_bytes());
    }
    bytes.resize(HEADER_LEN, 0);

    let mut first = 0_u32;
    for image in images {
        let mut name = [0; NAME_LEN];
        name[..image.name.len()].copy_from_slice(image.name.as_bytes());
        let count = u32::try_from(image.segments.len())?;
        bytes.extend(name);
        bytes.extend(image.entry.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 16]);
        first += count;
    }

    let mut at = data_at;
    for segment in segments() {
        for field in [segment.va, at as u64, segment.data.len() as u64, segment.mem_len] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(segment.flags.to_le_bytes());
        bytes.extend([0; 4]);
        at += segment.padded_len();
    }

    bytes.extend(manifest);
    bytes.resize(data_at, 0);
    for segment in segments() {
        bytes.extend(&segment.data);
        bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
    }

    Bundle::parse(&bytes).with_context(|| {
        let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
        format!("images {}", names.join(", "))
    })?;
    Ok(bytes)
}

impl Segment {
    /// Bytes the data occupies in the file.
    fn padded_len(&self) -> usize {
        self.data.len().next_multiple_of(PAGE as usize)
    }
}

#[cfg(test)]
mod tests;
