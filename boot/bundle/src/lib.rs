//! The boot bundle: every program that the first environment starts, and the manifest that
//! says how. It follows that environment's own pages in the boot image.
//!
//! The `exo` command writes it from ELF files, so that the first environment needs no ELF
//! loader: what is left of a program is a name, an
//! entry point and a few page-aligned segments that are copied as they are. Ring 0 does not
//! look into it.
//!
//! The reader allocates nothing, never panics, and checks everything once, in
//! [`Bundle::parse`], in time linear in the size of the tables. What the accessors
//! hand out later has passed these checks.
//!
//! # Layout, version 1
//!
//! All integers are little endian; offsets count from the start of the bundle.
//!
//! | part | size | fields |
//! |---|---|---|
//! | header | 64 | magic `EXOBNDL1`, version `u32`, images `u32`, segments `u32`, manifest offset `u64`, manifest length `u64`, total length `u64`, zero |
//! | image table | 48 each | name `[u8; 16]` zero padded, entry `u64`, first segment `u32`, segments `u32`, 16 zero bytes |
//! | segment table | 40 each | address `u64`, file offset `u64`, file length `u64`, memory length `u64`, flags `u32`, zero `u32` |
//! | manifest | | bytes, opaque here |
//! | segment data | | each at a page-aligned offset; the whole padded to a page |
//!
//! The images' segments follow each other in the table without gaps, and the
//! segments of one image ascend in address. That makes "no overlap" a comparison
//! with the predecessor.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::fmt;

use exo_abi::USER_TOP;

/// First eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"EXOBNDL1";
/// The layout version this module reads.
pub const VERSION: u32 = 1;
/// Alignment, in bytes, of segment addresses, segment data and the whole bundle.
pub const PAGE: u64 = 4096;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;
/// Length of an entry of the image table in bytes.
pub const IMAGE_LEN: usize = 48;
/// Length of an entry of the segment table in bytes.
pub const SEGMENT_LEN: usize = 40;
/// Longest image name in bytes.
pub const NAME_LEN: usize = 16;

/// Segment flag: the program may read it. Every segment has it.
pub const READ: u32 = 1;
/// Segment flag: the program may write to it.
pub const WRITE: u32 = 2;
/// Segment flag: the program may execute it. Never together with [`WRITE`].
pub const EXEC: u32 = 4;

/// The documentation of each error is also its text.
macro_rules! errors {
    ($($text:literal $variant:ident,)*) => {
        /// Why a byte string is not a bundle.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum BundleError {
            $(#[doc = $text] $variant,)*
        }

        impl fmt::Display for BundleError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => concat!("bundle: ", $text),)*
                })
            }
        }
    };
}

errors! {
    "part lies outside of the file" OutOfBounds,
    "wrong magic" Magic,
    "unknown version" Version,
    "reserved field is not zero" Reserved,
    "length is not whole pages" Length,
    "bad image name" Name,
    "images do not divide the segment table" SegmentTable,
    "entry point is not in an executable segment" Entry,
    "bad segment flags" Flags,
    "segment is writable and executable" WriteExecute,
    "segment is not page aligned" Misaligned,
    "bad segment length" SegmentLength,
    "segment outside of the user half" NotUser,
    "segments overlap or do not ascend" Overlap,
}

impl core::error::Error for BundleError {}

/// A checked bundle.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    images: &'a [u8],
    segments: &'a [u8],
    manifest: &'a [u8],
}

/// One program of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    /// What the program is called: 1 to [`NAME_LEN`] printable ASCII bytes.
    pub name: &'a str,
    /// Virtual address at which the program starts, in an executable segment.
    pub entry: u64,
    segments: &'a [u8],
}

/// A run of pages of an image, with one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Virtual address of the first byte, page aligned, in the user half.
    pub va: u64,
    /// Length in memory, in bytes, at least 1. Bytes beyond `data` are zero.
    pub mem_len: u64,
    /// Any of [`READ`], [`WRITE`] and [`EXEC`], as the rules above allow.
    pub flags: u32,
    /// The initial bytes, at most `mem_len` of them.
    pub data: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// Checks `bytes` as a whole; bytes beyond the bundle's own length are ignored.
    ///
    /// **Cost** linear in images and segments; segment data is not touched.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let header = part(bytes, 0, HEADER_LEN as u64)?;
        if header.first_chunk() != Some(&MAGIC) {
            return Err(BundleError::Magic);
        }
        if u32_at(header, 8)? != VERSION {
            return Err(BundleError::Version);
        }
        let images = u64::from(u32_at(header, 12)?);
        let segments = u64::from(u32_at(header, 16)?);
        let total = u64_at(header, 36)?;
        zero(header, 44)?;
        if !total.is_multiple_of(PAGE) {
            return Err(BundleError::Length);
        }
        let bytes = part(bytes, 0, total)?;

        // Counts are 32 bits wide and entries small, so none of this overflows.
        let images_at = HEADER_LEN as u64;
        let segments_at = images_at + images * IMAGE_LEN as u64;
        let bundle = Self {
            bytes,
            images: part(bytes, images_at, images * IMAGE_LEN as u64)?,
            segments: part(bytes, segments_at, segments * SEGMENT_LEN as u64)?,
            manifest: part(bytes, u64_at(header, 20)?, u64_at(header, 28)?)?,
        };
        bundle.check()?;
        Ok(bundle)
    }

    /// The images in their order in the bundle.
    pub fn images(&self) -> impl Iterator<Item = Image<'a>> + use<'a> {
        let bundle = *self;
        // Every entry was read once by `parse`, so none is left out here.
        bundle.images.chunks_exact(IMAGE_LEN).filter_map(move |entry| bundle.read(entry).ok())
    }

    /// The first image of that name.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<Image<'a>> {
        self.images().find(|image| image.name == name)
    }

    /// The boot manifest, encoded.
    #[must_use]
    pub fn manifest(&self) -> &'a [u8] {
        self.manifest
    }

    /// Everything that `parse` promises about images and segments.
    fn check(&self) -> Result<(), BundleError> {
        let mut next = 0;
        for entry in self.images.chunks_exact(IMAGE_LEN) {
            if u64::from(u32_at(entry, 24)?) != next {
                return Err(BundleError::SegmentTable);
            }
            next += u64::from(u32_at(entry, 28)?);
            self.read(entry)?.check()?;
        }
        let all = next * SEGMENT_LEN as u64 == self.segments.len() as u64;
        if all { Ok(()) } else { Err(BundleError::SegmentTable) }
    }

    /// One entry of the image table.
    fn read(&self, entry: &'a [u8]) -> Result<Image<'a>, BundleError> {
        zero(entry, 32)?;
        let at = u64::from(u32_at(entry, 24)?) * SEGMENT_LEN as u64;
        let len = u64::from(u32_at(entry, 28)?) * SEGMENT_LEN as u64;
        Ok(Image {
            bytes: self.bytes,
            name: name(entry)?,
            entry: u64_at(entry, 16)?,
            segments: part(self.segments, at, len).map_err(|_| BundleError::SegmentTable)?,
        })
    }
}

impl<'a> Image<'a> {
    /// The segments in ascending, non-overlapping order of address.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let bytes = self.bytes;
        // Every entry was read once by `parse`, so none is left out here.
        self.segments
            .chunks_exact(SEGMENT_LEN)
            .filter_map(move |entry| Segment::read(bytes, entry).ok())
    }

    fn check(&self) -> Result<(), BundleError> {
        let mut end = 0;
        let mut entered = false;
        for entry in self.segments.chunks_exact(SEGMENT_LEN) {
            let segment = Segment::read(self.bytes, entry)?;
            if segment.va < end {
                return Err(BundleError::Overlap);
            }
            // No overflow: `read` has compared the sum with `USER_TOP`.
            end = segment.va + segment.mem_len;
            entered |= segment.executable() && (segment.va..end).contains(&self.entry);
        }
        if entered { Ok(()) } else { Err(BundleError::Entry) }
    }
}

impl<'a> Segment<'a> {
    /// Whether the program may write to it.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.flags & WRITE != 0
    }

    /// Whether the program may execute it.
    #[must_use]
    pub fn executable(&self) -> bool {
        self.flags & EXEC != 0
    }

    /// One entry of the segment table, with all checks that need no neighbour.
    fn read(bytes: &'a [u8], entry: &[u8]) -> Result<Self, BundleError> {
        let (va, offset) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
        let (file_len, mem_len) = (u64_at(entry, 16)?, u64_at(entry, 24)?);
        let flags = u32_at(entry, 32)?;
        zero(entry, 36)?;
        if flags & !(READ | WRITE | EXEC) != 0 || flags & READ == 0 {
            return Err(BundleError::Flags);
        }
        if flags & WRITE != 0 && flags & EXEC != 0 {
            return Err(BundleError::WriteExecute);
        }
        if !va.is_multiple_of(PAGE) || !offset.is_multiple_of(PAGE) {
            return Err(BundleError::Misaligned);
        }
        if mem_len == 0 || file_len > mem_len {
            return Err(BundleError::SegmentLength);
        }
        if va.checked_add(mem_len).is_none_or(|end| end > USER_TOP) {
            return Err(BundleError::NotUser);
        }
        Ok(Self { va, mem_len, flags, data: part(bytes, offset, file_len)? })
    }
}

/// `bytes[at..at + len]`, if it exists.
fn part(bytes: &[u8], at: u64, len: u64) -> Result<&[u8], BundleError> {
    let at = usize::try_from(at).map_err(|_| BundleError::OutOfBounds)?;
    let len = usize::try_from(len).map_err(|_| BundleError::OutOfBounds)?;
    bytes.get(at..).and_then(|rest| rest.get(..len)).ok_or(BundleError::OutOfBounds)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BundleError> {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map(|chunk| u32::from_le_bytes(*chunk)).ok_or(BundleError::OutOfBounds)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, BundleError> {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map(|chunk| u64::from_le_bytes(*chunk)).ok_or(BundleError::OutOfBounds)
}

/// Requires `bytes[from..]` to be zero, so that a later version can give it a meaning.
fn zero(bytes: &[u8], from: usize) -> Result<(), BundleError> {
    let rest = bytes.get(from..).ok_or(BundleError::OutOfBounds)?;
    if rest.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(BundleError::Reserved) }
}

/// The zero-padded name at the start of an image entry.
fn name(entry: &[u8]) -> Result<&str, BundleError> {
    let field: &[u8; NAME_LEN] = entry.first_chunk().ok_or(BundleError::OutOfBounds)?;
    let (name, padding) =
        field.split_at(field.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN));
    let printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    if !printable || padding.iter().any(|&byte| byte != 0) {
        return Err(BundleError::Name);
    }
    core::str::from_utf8(name).map_err(|_| BundleError::Name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const DATA_AT: usize = 4096;

    /// A bundle of one image with a code and a data segment, four data bytes each.
    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        for field in [VERSION, 1, 2] {
            bytes.extend(field.to_le_bytes());
        }
        let manifest_at = (HEADER_LEN + IMAGE_LEN + 2 * SEGMENT_LEN) as u64;
        for field in [manifest_at, 3, 3 * PAGE] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(HEADER_LEN, 0);
        bytes.extend(b"root\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(0x40_0010_u64.to_le_bytes());
        bytes.extend([0, 0, 0, 0, 2, 0, 0, 0]);
        bytes.resize(HEADER_LEN + IMAGE_LEN, 0);
        for (va, at, mem_len, flags) in
            [(0x40_0000_u64, PAGE, 0x20_u64, READ | EXEC), (0x40_1000, 2 * PAGE, 9, READ | WRITE)]
        {
            for field in [va, at, 4, mem_len] {
                bytes.extend(field.to_le_bytes());
            }
            bytes.extend(flags.to_le_bytes());
            bytes.extend([0; 4]);
        }
        bytes.extend(b"abc");
        bytes.resize(DATA_AT, 0);
        bytes.extend(b"code");
        bytes.resize(2 * DATA_AT, 0);
        bytes.extend(b"data");
        bytes.resize(3 * DATA_AT, 0);
        bytes
    }

    /// `sample` with the bytes at `at` overwritten.
    fn patched(at: usize, with: &[u8]) -> Vec<u8> {
        let mut bytes = sample();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    }

    fn error(bytes: &[u8]) -> BundleError {
        Bundle::parse(bytes).map(|_| ()).expect_err("bundle was accepted")
    }

    const IMAGE: usize = HEADER_LEN;
    const CODE: usize = IMAGE + IMAGE_LEN;
    const DATA: usize = CODE + SEGMENT_LEN;

    #[test]
    fn reads_what_is_there() {
        let mut bytes = sample();
        bytes.extend(b"trailing bytes are no part of it");
        let bundle = Bundle::parse(&bytes).expect("sample");
        assert_eq!(bundle.manifest(), b"abc");
        assert!(bundle.image("absent").is_none());
        let root = bundle.image("root").expect("root");
        assert_eq!((root.name, root.entry), ("root", 0x40_0010));
        let segments: Vec<_> = root.segments().collect();
        assert_eq!(segments.len(), 2);
        assert_eq!((segments[0].va, segments[0].data), (0x40_0000, &b"code"[..]));
        assert!(segments[0].executable() && !segments[0].writable());
        assert_eq!((segments[1].mem_len, segments[1].data), (9, &b"data"[..]));
        assert!(segments[1].writable() && !segments[1].executable());
    }

    #[test]
    fn refuses_each_broken_rule() {
        use BundleError as E;
        // The page below the hole is of the user half, but never mapped.
        let user_end = USER_TOP.to_le_bytes();
        for (at, with, expected) in [
            (0, &b"EXOBNDL2"[..], E::Magic),
            (8, &[2], E::Version),
            (12, &[0], E::SegmentTable),
            (12, &[0xff; 4], E::OutOfBounds),
            (16, &[0xff; 4], E::OutOfBounds),
            (16, &[3], E::SegmentTable),
            (20, &[0xff; 8], E::OutOfBounds),
            (28, &[0xff; 8], E::OutOfBounds),
            (36, &[1], E::Length),
            (36, &[0, 0x40], E::OutOfBounds),
            (63, &[1], E::Reserved),
            (IMAGE, b"\0", E::Name),
            (IMAGE, b"ro\0t", E::Name),
            (IMAGE, b"\x1b[1m", E::Name),
            (IMAGE + 16, &[0, 0x10, 0x40], E::Entry),
            (IMAGE + 24, &[1], E::SegmentTable),
            (IMAGE + 47, &[1], E::Reserved),
            (CODE, &[1], E::Misaligned),
            (CODE, &[0, 0x20, 0x40], E::Overlap),
            (CODE, &user_end, E::NotUser),
            (CODE + 8, &[1], E::Misaligned),
            (CODE + 8, &[0, 0x30], E::OutOfBounds),
            (CODE + 16, &[0x21], E::SegmentLength),
            (CODE + 24, &[0xff; 8], E::NotUser),
            (CODE + 24, &[0, 0x20], E::Overlap),
            (CODE + 32, &[EXEC as u8], E::Flags),
            (CODE + 32, &[READ as u8 | 8], E::Flags),
            (CODE + 32, &[(READ | WRITE | EXEC) as u8], E::WriteExecute),
            (DATA + 24, &[0; 8], E::SegmentLength),
            (DATA + 36, &[1], E::Reserved),
        ] {
            assert_eq!(error(&patched(at, with)), expected, "{with:x?} at {at}");
        }
    }

    #[test]
    fn refuses_every_truncation() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert_eq!(error(&bytes[..len]), BundleError::OutOfBounds, "{len} bytes");
        }
    }
}
