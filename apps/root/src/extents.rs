//! Which extents of the disk have which names: the table that outlives the machine.
//!
//! The disk's first [`RESERVED`] sectors hold two copies of the table, each with a checksum and a
//! generation. The copy that is older is the one that is written next, so that whenever the power
//! fails the other is whole; the whole copy with the greater generation is the table. What does not
//! lie in a named extent is free. A table that cannot be read is an error that says why, and
//! nothing is written over it: [`Table::new`] is for those that want that.
//!
//! An extent that is new, or the part by which one grew, is to be filled with zeros before the
//! table that names it is written ([`Claim::fresh`]): nothing of a former owner stays readable.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::manifest::NAME_LEN;

/// Sectors at the front of the disk that hold the table.
pub const RESERVED: u32 = 2 * COPY_SECTORS;
/// Bytes of these sectors.
pub const RESERVED_BYTES: usize = 2 * COPY_BYTES;
/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Version of the table that is written, and the newest that is read.
pub const VERSION: u32 = 1;

const COPY_SECTORS: u32 = 8;
const COPY_BYTES: usize = COPY_SECTORS as usize * SECTOR;
/// Extents begin at multiples of so many sectors.
const ALIGNMENT: u32 = 8;
const MAGIC: [u8; 8] = *b"EXOEXTNT";
/// Magic, version, number of extents, generation, sectors of the disk.
const HEADER: usize = 32;
const ENTRY: usize = NAME_LEN + 8;
const CHECKSUM: usize = COPY_BYTES - 4;
/// Most extents in a table.
pub const MOST: usize = (CHECKSUM - HEADER) / ENTRY;

/// A named run of sectors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Its name.
    pub name: String,
    /// First sector.
    pub first: u32,
    /// Number of sectors.
    pub sectors: u32,
}

impl Extent {
    /// The sector behind its last.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.first + self.sectors
    }
}

/// The extents of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    sectors: u32,
    generation: u64,
    /// In the order in which they lie.
    extents: Vec<Extent>,
}

/// Why a disk has no table that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// There is nothing: all is zero.
    Blank,
    /// There is something else than a table.
    Foreign,
    /// There was a table, and neither copy is whole.
    Damaged,
    /// It has a later version.
    TooNew(u32),
    /// It was made for a disk of so many sectors, and this one has fewer.
    Truncated(u32),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("the disk has no table of extents: nothing is on it"),
            Self::Foreign => f.write_str("the disk has no table of extents, but something else"),
            Self::Damaged => f.write_str("both copies of the disk's table of extents are damaged"),
            Self::TooNew(version) => {
                write!(f, "the disk's table of extents has version {version}; known is {VERSION}")
            }
            Self::Truncated(sectors) => {
                write!(f, "the disk is shorter than the {sectors} sectors it was made with")
            }
        }
    }
}

impl core::error::Error for Problem {}

/// Whether the copies of the table are whole, in their order.
pub type Copies = [bool; 2];

/// Why an extent is not to be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No run of free sectors is so long; the longest has so many.
    NoRoom(u32),
    /// It has fewer sectors, so many, and this extent lies behind it; none: the disk's end.
    InTheWay(u32, Option<String>),
    /// There are as many extents as a table can have.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom(longest) => {
                let bytes = u64::from(*longest) * SECTOR as u64;
                write!(f, "no room: the longest run of free sectors has {longest}, {bytes} bytes")
            }
            Self::InTheWay(has, Some(name)) => {
                write!(f, "it has {has} sectors, and extent \"{name}\" is in the way of more")
            }
            Self::InTheWay(has, None) => {
                write!(f, "it has {has} sectors, and the disk ends before more")
            }
            Self::Full => write!(f, "there are {MOST} extents already"),
        }
    }
}

impl core::error::Error for Refusal {}

/// An extent that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Where it lies.
    pub extent: Extent,
    /// Sectors to be filled with zeros before the table is written; none if it was there before.
    pub fresh: Range<u32>,
}

impl Table {
    /// The table of a disk of so many sectors on which there is nothing. None if it is too short
    /// for a table and an extent.
    #[must_use]
    pub fn new(sectors: u32) -> Option<Self> {
        let extents = Vec::new();
        (sectors >= RESERVED + ALIGNMENT).then_some(Self { sectors, generation: 0, extents })
    }

    /// Reads the table from the reserved sectors of a disk of so many sectors.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn read(area: &[u8; RESERVED_BYTES], sectors: u32) -> Result<(Self, Copies), Problem> {
        let (first, second) = area.split_at(COPY_BYTES);
        let copies = [first, second];
        let has_magic = |copy: &&[u8]| copy.starts_with(&MAGIC);
        let versions = copies.iter().filter(|copy| has_magic(copy)).filter_map(|it| word32(it, 8));
        if let Some(newer) = versions.filter(|version| *version > VERSION).max() {
            return Err(Problem::TooNew(newer));
        }
        let [one, other] = copies.map(Self::read_copy);
        let whole = [one.is_some(), other.is_some()];
        let Some(table) = one.into_iter().chain(other).max_by_key(|table| table.generation) else {
            return Err(match copies.iter().any(has_magic) {
                true => Problem::Damaged,
                false if area.iter().all(|byte| *byte == 0) => Problem::Blank,
                false => Problem::Foreign,
            });
        };
        if table.sectors > sectors {
            return Err(Problem::Truncated(table.sectors));
        }
        // A disk that became longer has more that is free.
        Ok((Self { sectors, ..table }, whole))
    }

    /// The next copy to be written: its first sector and its bytes. It is to be written, and the
    /// device flushed, before anything relies on it; until then the table before it is good.
    pub fn next_copy(&mut self) -> (u32, Vec<u8>) {
        self.generation += 1;
        let mut bytes = Vec::with_capacity(COPY_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.extents.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.sectors).to_le_bytes());
        for extent in &self.extents {
            let mut name = [0; NAME_LEN];
            name.iter_mut().zip(extent.name.bytes()).for_each(|(to, from)| *to = from);
            bytes.extend_from_slice(&name);
            bytes.extend_from_slice(&extent.first.to_le_bytes());
            bytes.extend_from_slice(&extent.sectors.to_le_bytes());
        }
        bytes.resize(CHECKSUM, 0);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        ((self.generation % 2) as u32 * COPY_SECTORS, bytes)
    }

    /// Sectors of the disk.
    #[must_use]
    pub fn sectors(&self) -> u32 {
        self.sectors
    }

    /// How often the table was written.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All extents, in the order in which they lie.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The extent of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Extent> {
        self.extents.iter().find(|extent| extent.name == name)
    }

    /// The runs of sectors between extents and behind them.
    pub fn free(&self) -> impl Iterator<Item = Range<u32>> {
        let starts = core::iter::once(RESERVED).chain(self.extents.iter().map(Extent::end));
        let ends = self.extents.iter().map(|extent| extent.first);
        let gaps = starts.zip(ends.chain(core::iter::once(self.sectors)));
        gaps.map(|(start, end)| start.next_multiple_of(ALIGNMENT)..end)
            .filter(|gap| !gap.is_empty())
    }

    /// The extent `name` with at least so many sectors: the one that is there, longer if need be
    /// and possible, or a new one in the first place that is long enough; of zero sectors, one as
    /// long as possible.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing is changed then.
    pub fn claim(&mut self, name: &str, sectors: u32) -> Result<Claim, Refusal> {
        if let Some(index) = self.extents.iter().position(|extent| extent.name == name) {
            return self.grow(index, sectors);
        }
        if self.extents.len() >= MOST {
            return Err(Refusal::Full);
        }
        let longest = self.free().map(|gap| gap.end - gap.start).max().unwrap_or(0);
        let sectors = if sectors == 0 { longest } else { sectors };
        let gap = self.free().find(|gap| gap.end - gap.start >= sectors);
        let Some(gap) = gap.filter(|_| sectors > 0) else { return Err(Refusal::NoRoom(longest)) };
        let extent = Extent { name: name.into(), first: gap.start, sectors };
        let place = self.extents.iter().position(|other| other.first > extent.first);
        self.extents.insert(place.unwrap_or(self.extents.len()), extent.clone());
        Ok(Claim { fresh: extent.first..extent.end(), extent })
    }

    /// Takes the extent `name` away: its sectors are free. False if there is none.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.extents.len();
        self.extents.retain(|extent| extent.name != name);
        self.extents.len() != before
    }

    fn grow(&mut self, index: usize, sectors: u32) -> Result<Claim, Refusal> {
        let next = self.extents.get(index + 1);
        let (end, name) = next.map_or((self.sectors, None), |it| (it.first, Some(it.name.clone())));
        let extent = &mut self.extents[index];
        let before = extent.end();
        if sectors > extent.sectors {
            if end - extent.first < sectors {
                return Err(Refusal::InTheWay(extent.sectors, name));
            }
            extent.sectors = sectors;
        }
        Ok(Claim { fresh: before..extent.end(), extent: extent.clone() })
    }

    fn read_copy(copy: &[u8]) -> Option<Self> {
        let (body, checksum) = copy.split_at_checked(CHECKSUM)?;
        let whole = body.starts_with(&MAGIC) && word32(checksum, 0)? == crc32fast::hash(body);
        let (count, generation) = (word32(body, 12)? as usize, word64(body, 16)?);
        let sectors = u32::try_from(word64(body, 24)?).ok()?;
        if !whole || count > MOST {
            return None;
        }
        let mut end = RESERVED;
        let mut extents: Vec<Extent> = Vec::new();
        for entry in body.get(HEADER..)?.chunks_exact(ENTRY).take(count) {
            let (name, place) = entry.split_at(NAME_LEN);
            let name = name.split(|byte| *byte == 0).next()?;
            let name: String = core::str::from_utf8(name).ok()?.into();
            let (first, length) = (word32(place, 0)?, word32(place, 4)?);
            let fits = first >= end && length > 0 && !extents.iter().any(|it| it.name == name);
            end = first.checked_add(length).filter(|end| fits && *end <= sectors)?;
            extents.push(Extent { name, first, sectors: length });
        }
        Some(Self { sectors, generation, extents })
    }
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use std::vec;

    const SECTORS: u32 = 1000;

    fn blank() -> [u8; RESERVED_BYTES] {
        [0; RESERVED_BYTES]
    }

    /// Writes the next copy, or only so many of its sectors.
    fn write(area: &mut [u8; RESERVED_BYTES], table: &mut Table, sectors: usize) {
        let (first, bytes) = table.next_copy();
        let from = first as usize * SECTOR;
        let length = (sectors * SECTOR).min(bytes.len());
        area[from..from + length].copy_from_slice(&bytes[..length]);
    }

    fn made(claims: &[(&str, u32)]) -> (Table, [u8; RESERVED_BYTES]) {
        let (mut table, mut area) = (Table::new(SECTORS).unwrap(), blank());
        write(&mut area, &mut table, 8);
        for (name, sectors) in claims {
            table.claim(name, *sectors).unwrap();
            write(&mut area, &mut table, 8);
        }
        (table, area)
    }

    #[test]
    fn what_is_written_is_read() {
        let (table, area) = made(&[("log", 100), ("sixteen-letters.", 8), ("queue", 1)]);
        let (read, whole) = Table::read(&area, SECTORS).unwrap();
        assert_eq!((&read, whole), (&table, [true, true]));
        let lies = |name: &str| table.find(name).map(|it| (it.first, it.sectors)).unwrap();
        assert_eq!(
            (lies("log"), lies("sixteen-letters."), lies("queue")),
            ((16, 100), (120, 8), (128, 1))
        );
        let mut most = Table::new(u32::MAX).unwrap();
        for number in 0..MOST {
            most.claim(&number.to_string(), 8).unwrap();
        }
        assert_eq!(most.claim("more", 8), Err(Refusal::Full));
        let mut area = blank();
        write(&mut area, &mut most, 8);
        assert_eq!(Table::read(&area, u32::MAX).unwrap().0.extents().len(), MOST);
    }

    /// Whichever sectors of a copy are not written, the table is the one before or the one after.
    #[test]
    fn a_power_cut_leaves_one_table_or_the_other() {
        let (before, area) = made(&[("log", 100), ("queue", 10)]);
        let mut after = before.clone();
        after.claim("new", 50).unwrap();
        let (first, bytes) = after.next_copy();
        let (mut old, mut new) = (0, 0);
        for written in 0..=255_u8 {
            let mut cut = area;
            for sector in (0..8).filter(|sector| written >> sector & 1 != 0) {
                let from = sector * SECTOR;
                let to = first as usize * SECTOR + from;
                cut[to..to + SECTOR].copy_from_slice(&bytes[from..from + SECTOR]);
            }
            let (read, _) = Table::read(&cut, SECTORS).expect("one copy is whole");
            assert!(read == before || read == after, "{written:b}");
            *(if read == after { &mut new } else { &mut old }) += 1;
        }
        assert!(old > 0 && new > 0, "{old} {new}");
    }

    #[test]
    fn damage_is_told_and_one_copy_is_enough() {
        let (table, area) = made(&[("log", 100)]);
        for at in [0, 7, 9, 20, 40, 300, 4000, 4095] {
            for (copies, whole) in [([1, 0], [false, true]), ([0, 1], [true, false])] {
                let mut area = area;
                area[at] ^= copies[0];
                area[COPY_BYTES + at] ^= copies[1];
                if at == 9 {
                    let error = Table::read(&area, SECTORS).unwrap_err();
                    assert!(matches!(error, Problem::TooNew(257)), "{error}");
                    continue;
                }
                let (read, copies) = Table::read(&area, SECTORS).unwrap();
                assert_eq!(copies, whole);
                // The older copy has no extent yet.
                assert_eq!(read.extents().len(), usize::from(read.generation() == 2));
                assert_eq!(read.generation() == table.generation(), copies[0]);
            }
            let mut both = area;
            (both[at], both[COPY_BYTES + at]) = (both[at] ^ 1, both[COPY_BYTES + at] ^ 1);
            let error = Table::read(&both, SECTORS).unwrap_err();
            let wanted = match at {
                0 | 7 => Problem::Foreign,
                9 => Problem::TooNew(257),
                _ => Problem::Damaged,
            };
            assert_eq!(error, wanted, "byte {at}");
        }
        assert_eq!(Table::read(&blank(), SECTORS), Err(Problem::Blank));
        assert_eq!(Table::read(&[0x55; RESERVED_BYTES], SECTORS), Err(Problem::Foreign));
        assert_eq!(Table::read(&area, SECTORS - 1), Err(Problem::Truncated(SECTORS)));
        assert_eq!(Table::read(&area, SECTORS + 1).unwrap().0.sectors(), SECTORS + 1);
    }

    /// A copy with a good checksum and nonsense in it is no table.
    #[test]
    fn nonsense_is_no_table() {
        let (table, _) = made(&[("a", 100), ("b", 10)]);
        let entry = |index: usize| HEADER + index * ENTRY;
        for (at, value) in [
            (12, MOST as u32 + 1),
            (entry(0) + 16, 15),
            (entry(0) + 16, u32::MAX),
            (entry(0) + 20, 0),
            (entry(0) + 20, 105),
            (entry(1) + 20, 900),
            (entry(1) + 20, u32::MAX),
            (entry(1), u32::from_le_bytes(*b"a\0\0\0")),
        ] {
            let (_, mut bytes) = table.clone().next_copy();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let checksum = crc32fast::hash(&bytes[..CHECKSUM]);
            bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(Table::read_copy(&bytes), None, "{value} at {at}");
        }
    }

    #[test]
    fn extents_are_found_made_and_grown() {
        let mut table = Table::new(SECTORS).unwrap();
        let claim = table.claim("log", 100).unwrap();
        assert_eq!((claim.extent.first, claim.fresh), (16, 16..116));
        assert_eq!(table.claim("log", 100).unwrap().fresh, 116..116);
        assert_eq!(table.claim("log", 10).unwrap().extent.sectors, 100, "it does not shrink");
        assert_eq!(table.claim("log", 150).unwrap().fresh, 116..166);
        assert_eq!(table.claim("queue", 20).unwrap().extent.first, 168);
        assert_eq!(table.claim("log", 152).unwrap().extent.end(), 168);
        let refused = table.claim("log", 153).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it has 152 sectors, and extent \"queue\" is in the way of more"
        );
        assert_eq!(table.claim("queue", 833), Err(Refusal::InTheWay(20, None)));
        assert_eq!(table.claim("other", 900), Err(Refusal::NoRoom(808)));
        assert_eq!(table.free().collect::<Vec<_>>(), vec![192..1000]);
        assert!(table.remove("log") && !table.remove("log"));
        assert_eq!(table.free().collect::<Vec<_>>(), vec![16..168, 192..1000]);
        assert_eq!(table.claim("small", 152).unwrap().extent.first, 16);
        assert_eq!(table.claim("whole", 808).unwrap().extent.end(), SECTORS);
        assert_eq!(table.claim("none", 1), Err(Refusal::NoRoom(0)));
        let names: Vec<_> = table.extents().iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["small", "queue", "whole"]);
        assert!(table.remove("small") && table.remove("whole"));
        assert_eq!(table.claim("rest", 0).unwrap().fresh, 192..1000);
        assert_eq!(table.claim("rest", 0).unwrap().fresh, 1000..1000);
        assert!(Table::new(23).is_none() && Table::new(24).is_some());
    }
}
