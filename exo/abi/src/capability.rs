//! Capability handles and rights.
//!
//! A handle is an index into the caller's own table with the generation of the
//! slot, so a handle kept after its capability was dropped or revoked names
//! nothing, and a number that leaks to another environment means nothing there.

use crate::Error;
use crate::word::word;

/// Most capabilities one environment can hold: 64 donated frames of 64 slots.
pub const MAX_CAPABILITIES: u32 = 64 * 64;

/// Most capabilities derived one from another in a row, the first of them included.
pub const DERIVATION_DEPTH: u32 = 64;

/// Names a capability in the caller's own table: generation in the high 32
/// bits, slot index in the low 32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Handle(u64);

impl Handle {
    /// Names nothing, ever.
    pub const NONE: Self = Self(0);

    /// The handle of slot `index` at `generation`.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// The handle of the first capability ever put into slot `index`.
    pub const fn first(index: u32) -> Self {
        Self::new(index, 1)
    }

    /// Slot index.
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// Slot generation. No live slot has generation zero.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

word!(Handle: |word| Ok(Self(word)), |handle| handle.0);

/// What a capability allows. Deriving can only clear bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Rights(u32);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Any kind: derive from it, and copy it to another environment.
    pub const GRANT: Self = Self(1 << 0);
    /// Frames: take free frames of the range.
    pub const TAKE: Self = Self(1 << 1);
    /// Environment: map its frames, and into its address space.
    pub const MEMORY: Self = Self(1 << 2);
    /// Environment: start it, destroy it, give it slots. Elevation: run in ring 0.
    pub const CONTROL: Self = Self(1 << 3);
    /// Environment: read its state and what ended it.
    pub const INSPECT: Self = Self(1 << 4);
    /// Environment: put capabilities into its table.
    pub const ENDOW: Self = Self(1 << 5);
    /// Slots: assign them to environments.
    pub const ASSIGN: Self = Self(1 << 6);
    /// Network: create a binding.
    pub const BIND: Self = Self(1 << 7);
    /// Binding: install and remove filters.
    pub const FILTER: Self = Self(1 << 8);
    /// Binding: move packets. Disk binding: move requests.
    pub const SYNC: Self = Self(1 << 9);
    /// Console: print.
    pub const PRINT: Self = Self(1 << 10);
    /// Machine: power off.
    pub const POWER: Self = Self(1 << 11);
    /// Entry point: transfer control to it. Doorbell: ring it. Elevation: make direct calls.
    /// Keys: admit code with gates of them.
    pub const CALL: Self = Self(1 << 12);
    /// Disk extent: read its sectors.
    pub const READ: Self = Self(1 << 13);
    /// Disk extent: write its sectors, and flush.
    pub const WRITE: Self = Self(1 << 14);
    /// All of the above.
    pub const ALL: Self = Self((1 << 15) - 1);

    /// The union of two sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The intersection of two sets.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every right in `needed` is here.
    pub const fn allows(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }
}

word!(
    Rights: |word| match u32::try_from(word) {
        Ok(bits) if Self::ALL.allows(Self(bits)) => Ok(Self(bits)),
        _ => Err(Error::BadArgument),
    },
    |rights| rights.0.into()
);

#[cfg(test)]
mod tests {
    use super::{Handle, Rights};
    use crate::Word;

    #[test]
    fn handle_keeps_index_and_generation() {
        let handle = Handle::new(0xdead_beef, 0x1234_5678);
        assert_eq!((handle.index(), handle.generation()), (0xdead_beef, 0x1234_5678));
        assert_eq!(Handle::from_word(handle.into_word()), Ok(handle));
    }

    #[test]
    fn unknown_rights_are_refused() {
        assert!(Rights::from_word(Rights::ALL.into_word()).is_ok());
        assert!(Rights::from_word(Rights::ALL.into_word() + 1).is_err());
        assert!(Rights::from_word(u64::MAX).is_err());
    }
}
