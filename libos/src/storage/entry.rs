//! What an entry of a log and the head of an area look like.
//!
//! An area begins with a sector that is its *head*; then entries follow, each from the beginning
//! of a sector on. All numbers are little-endian.
//!
//! ```text
//! head:   "exo-log1" | tag: 8 bytes | generation: 8 | sectors of the device: 8 | longest entry: 4
//! | check: 4 | zeros entry:  check: 4   | length: 4    | number: 8     | so many bytes | zeros up
//! to the next sector
//! ```
//!
//! The check of an entry is CRC-32 over all of it but the check itself, begun with the check of
//! the entry before; that of an area's first entry is begun with the check of its tag and
//! generation. So an entry that an earlier use of the area, or an earlier life of its owner, has
//! left behind continues nothing that was written later.

use super::SECTOR;

/// Bytes before those of the owner, in an entry.
pub const HEADER: usize = 16;

const MAGIC: [u8; 8] = *b"exo-log1";

/// Bytes of a head that its check covers, and where that is.
const CHECKED: usize = 36;

/// What makes an area's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// What kind of contents the log has.
    pub(super) tag: [u8; 8],
    /// The area with the higher one is in use.
    pub(super) generation: u64,
    /// Of the whole device.
    pub(super) sectors: u64,
    /// Bytes of the longest entry, header included.
    pub(super) longest: u32,
}

/// Why a sector is not the head of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It holds something else.
    Foreign,
    /// It was a head, and is damaged.
    Damaged,
}

impl Head {
    /// Reads a head. `None` if the sector holds nothing.
    pub(super) fn read(sector: &[u8; SECTOR]) -> Result<Option<Self>, Refused> {
        if *sector == [0; SECTOR] {
            return Ok(None);
        }
        if field(sector, 0) != MAGIC {
            return Err(Refused::Foreign);
        }
        let head = Self {
            tag: field(sector, 8),
            generation: u64::from_le_bytes(field(sector, 16)),
            sectors: u64::from_le_bytes(field(sector, 24)),
            longest: u32::from_le_bytes(field(sector, 32)),
        };
        if head.write() == *sector { Ok(Some(head)) } else { Err(Refused::Damaged) }
    }

    /// The sector.
    pub(super) fn write(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(&MAGIC);
        sector[8..16].copy_from_slice(&self.tag);
        sector[16..24].copy_from_slice(&self.generation.to_le_bytes());
        sector[24..32].copy_from_slice(&self.sectors.to_le_bytes());
        sector[32..CHECKED].copy_from_slice(&self.longest.to_le_bytes());
        let check = check(0, &sector[..CHECKED]);
        sector[CHECKED..CHECKED + 4].copy_from_slice(&check.to_le_bytes());
        sector
    }

    /// What the check of the area's first entry begins with.
    pub(super) fn seed(&self) -> u32 {
        check(check(0, &self.tag), &self.generation.to_le_bytes())
    }
}

fn field<const N: usize>(sector: &[u8; SECTOR], at: usize) -> [u8; N] {
    sector.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Makes `frame`, of which the owner's bytes begin at [`HEADER`] and are `len`, an entry that
/// follows one whose check is `before`. Returns its check, and its bytes, which are whole sectors.
/// `None` if `frame` does not reach so far.
pub(super) fn seal(
    frame: &mut [u8],
    len: usize,
    number: u64,
    before: u32,
) -> Option<(u32, &mut [u8])> {
    let end = HEADER.checked_add(len)?;
    let frame = frame.get_mut(..end.checked_next_multiple_of(SECTOR)?)?;
    let (entry, padding) = frame.split_at_mut(end);
    padding.fill(0);
    entry[4..8].copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    entry[8..HEADER].copy_from_slice(&number.to_le_bytes());
    let check = check(before, &entry[4..]);
    entry[..4].copy_from_slice(&check.to_le_bytes());
    Some((check, frame))
}

/// What an entry's first bytes say: its length, without the header, and its number.
pub(super) fn announced(header: &[u8; HEADER]) -> (u32, u64) {
    let (front, number) = header.split_at(8);
    let length = front.last_chunk().copied().unwrap_or_default();
    (
        u32::from_le_bytes(length),
        u64::from_le_bytes(number.first_chunk().copied().unwrap_or([0; 8])),
    )
}

/// The check of an entry, header included and padding not, if it is what it should be.
pub(super) fn verify(entry: &[u8], before: u32) -> Option<u32> {
    let (kept, rest) = entry.split_first_chunk()?;
    let check = check(before, rest);
    (u32::from_le_bytes(*kept) == check).then_some(check)
}

fn check(before: u32, bytes: &[u8]) -> u32 {
    #[cfg(test)]
    if super::tests::blind() {
        return 0;
    }
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(bytes);
    hasher.finalize()
}
