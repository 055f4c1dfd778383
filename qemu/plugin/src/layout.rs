//! The two files that the plugin shares with the command that starts QEMU. Compiled into
//! both programs.
//!
//! **The table** says what code there is and how to count it. It has a section
//! for each run of code of each program: where it lies, its bytes, and for every
//! byte, if an instruction begins there, its [`Place`]. All numbers are `u64`,
//! little endian, but the places, which are `u32`:
//!
//! | | |
//! |---|---|
//! | magic, number of sections | 2 numbers |
//! | per section: address, length | 2 numbers |
//! | per section: code | length bytes |
//! | per section: places | 4 times length bytes |
//!
//! **The counts** are `u64` words in native byte order, mapped by both sides at
//! the same time: those of [`word`], and from [`word::MATRIX`] on one for each
//! function and row.

/// How instructions of one function are counted: under which function, and in
/// which row of the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(pub(crate) u32);

/// Rows that a function's count can be divided into.
pub(crate) const ROWS: usize = 16;

/// A row that is none: the instruction goes into the row of the one before.
pub(crate) const NEUTRAL: u8 = 0xff;

/// The function of code that no section holds.
pub(crate) const UNKNOWN: u32 = 0;
/// The function of code that several sections hold at the same address.
pub(crate) const AMBIGUOUS: u32 = 1;
/// Number of functions with a fixed meaning, which come first.
pub(crate) const FIXED: u32 = 2;

/// Indices of words in the counts.
pub(crate) mod word {
    /// Not zero once the plugin counts.
    pub(crate) const READY: usize = 0;
    /// Instructions executed.
    pub(crate) const TOTAL: usize = 1;
    /// Row of the last instruction that had one.
    pub(crate) const LAST: usize = 2;
    /// Not zero from a `hlt` to the next instruction.
    pub(crate) const HALTED: usize = 3;
    /// `hlt` instructions begun.
    pub(crate) const HALTS: usize = 4;
    /// Written by the other side: how many of them may be carried out. The processor
    /// is held at the next one, counted but not carried out, until it may.
    pub(crate) const HALTS_ALLOWED: usize = 5;
    /// `syscall` instructions executed.
    pub(crate) const CALLS: usize = 6;
    /// Of all instructions, those at addresses of user space.
    pub(crate) const USER: usize = 7;
    /// Of all instructions, rounds of a repeated string instruction after its first.
    pub(crate) const ROUNDS: usize = 8;
    /// Of these, those at addresses of user space.
    pub(crate) const USER_ROUNDS: usize = 9;
    /// `iretq` instructions executed: returns from interrupts and exceptions.
    pub(crate) const RETURNS: usize = 10;
    /// Written by the other side: not zero once instructions are wanted. Looked at by a plugin
    /// that was told to begin later.
    pub(crate) const WANTED: usize = 11;
    /// The first word of the counts by function and row.
    pub(crate) const MATRIX: usize = 12;
}

impl Place {
    /// At most 2^24 functions; more are counted as unknown.
    pub(crate) const fn new(function: u32, row: u8) -> Self {
        let function = if function < 1 << 24 { function } else { UNKNOWN };
        Self(function << 8 | row as u32)
    }

    pub(crate) const fn function(self) -> u32 {
        self.0 >> 8
    }

    /// Below [`ROWS`], or [`NEUTRAL`].
    pub(crate) const fn row(self) -> u8 {
        self.0 as u8
    }
}

/// A run of code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    /// Virtual address of the first byte.
    pub(crate) address: u64,
    pub(crate) code: Vec<u8>,
    /// As many as bytes of code.
    pub(crate) places: Vec<Place>,
}

/// Bytes of the counts for a number of functions.
pub(crate) const fn counts_len(functions: usize) -> usize {
    (word::MATRIX + functions * ROWS) * 8
}

const MAGIC: u64 = u64::from_le_bytes(*b"EXOPLAC1");

/// The bytes of a table.
pub(crate) fn encode(sections: &[Section]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let heads = sections.iter().flat_map(|section| [section.address, section.code.len() as u64]);
    for number in [MAGIC, sections.len() as u64].into_iter().chain(heads) {
        bytes.extend(number.to_le_bytes());
    }
    for section in sections {
        bytes.extend(&section.code);
        bytes.extend(section.places.iter().flat_map(|place| place.0.to_le_bytes()));
    }
    bytes
}

/// The table in `bytes`, if there is one.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<Section>> {
    let bytes = &mut bytes;
    if number(bytes)? != MAGIC {
        return None;
    }
    let heads: Vec<_> = (0..number(bytes)?)
        .map(|_| Some((number(bytes)?, number(bytes)?)))
        .collect::<Option<_>>()?;
    let mut sections = Vec::new();
    for (address, length) in heads {
        let length = usize::try_from(length).ok()?;
        let code = bytes.split_off(..length)?.to_vec();
        let places = bytes.split_off(..length.checked_mul(4)?)?.as_chunks().0.iter();
        let places = places.map(|bytes| Place(u32::from_le_bytes(*bytes))).collect();
        sections.push(Section { address, code, places });
    }
    bytes.is_empty().then_some(sections)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_round_trip() {
        let place = Place::new(77, 3);
        let neutral = Place::new(0, NEUTRAL);
        let sections = vec![
            Section { address: 0x40_0000, code: vec![0x90, 0xf4], places: vec![place, neutral] },
            Section { address: u64::MAX, code: vec![], places: vec![] },
        ];
        let bytes = encode(&sections);
        assert_eq!(decode(&bytes), Some(sections));
        assert_eq!((place.function(), place.row()), (77, 3));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut to {len}");
        }
        assert_eq!(decode(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn too_many_functions_are_unknown() {
        assert_eq!(Place::new((1 << 24) - 1, 5).function(), (1 << 24) - 1);
        assert_eq!(Place::new(1 << 24, 5), Place::new(UNKNOWN, 5));
    }
}
