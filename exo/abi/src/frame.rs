//! Page frames: their numbers, and what the frame table says about each.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32};

use crate::word::{byte, word};
use crate::{Error, numbered};

/// Size of a page frame in bytes.
pub const FRAME_BYTES: u64 = 4096;

/// First address above user space. The last canonical page below it is never
/// mapped, so that the instruction after a `syscall` is always canonical
/// (Intel SDM vol. 2, SYSRET).
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;

/// Physical frame number: physical address / 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Pfn(pub u32);

impl Pfn {
    /// No frame of an environment: frame 0 is none. Lists of objects end with it.
    pub const NONE: Self = Self(0);

    /// Physical address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 as u64 * FRAME_BYTES
    }

    /// The frame `pages` further on.
    #[must_use]
    pub const fn plus(self, pages: u32) -> Self {
        Self(self.0.wrapping_add(pages))
    }
}

word!(Pfn: |word| u32::from_word(word).map(Self), |pfn| pfn.0.into());

/// A number of pages.
pub type Pages = u32;

/// Pages of a large page, of 2 MiB: a run of so many is mapped, and unmapped, as one.
pub const LARGE_PAGES: Pages = 512;

/// A virtual address in user space, page aligned. Decoding refuses any other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct VirtAddr(u64);

impl VirtAddr {
    /// The page-aligned user address `address`, if it is one.
    pub const fn new(address: u64) -> Option<Self> {
        if address.is_multiple_of(FRAME_BYTES) && address < USER_TOP {
            Some(Self(address))
        } else {
            None
        }
    }

    /// The address as a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `pages` further on, if it is still in user space.
    pub const fn plus(self, pages: Pages) -> Option<Self> {
        Self::new(self.0 + pages as u64 * FRAME_BYTES)
    }
}

word!(VirtAddr: |word| Self::new(word).ok_or(Error::BadAddress), |address| address.0);

/// Level of a page table: 1 holds 4 KiB pages, 2 page tables, 3 page
/// directories (Intel SDM vol. 3, 4.5). Level 4 is the environment's own root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Level(u8);

impl Level {
    /// Level `level`, if it is 1, 2 or 3.
    pub const fn new(level: u8) -> Option<Self> {
        if matches!(level, 1..=3) { Some(Self(level)) } else { None }
    }

    /// The level as a number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

word!(Level: |word| byte(word, Self::new), |level| level.0.into());

numbered! {
    from_u8;
    /// How a page may be used. Write and execute at once cannot be expressed.
    pub enum Protection: u8 {
        /// Read only.
        Read = 0,
        /// Read and write.
        ReadWrite = 1,
        /// Read and execute.
        ReadExecute = 2,
    }
}

word!(Protection: |word| byte(word, Self::from_u8), |protection| protection as u64);

numbered! {
    from_u8;
    /// What a frame is.
    pub enum FrameKind: u8 {
        /// Has no owner; may be taken.
        Free = 0,
        /// No memory, or firmware's.
        Reserved = 1,
        /// The kernel's image, stacks, frame table or device buffers.
        Kernel = 2,
        /// Published by the kernel; any environment may map it read-only.
        Info = 3,
        /// Plain memory of its owner.
        Memory = 4,
        /// An environment.
        Env = 5,
        /// A page table; its owner may map it read-only.
        PageTable = 6,
        /// Part of a capability table.
        CapTable = 7,
        /// The U-area of an environment; memory that cannot be freed.
        UArea = 8,
        /// A network binding.
        Binding = 9,
        /// A packet filter with its share of the trie.
        Filter = 10,
        /// The keys of the packets that a network capability is for.
        Scope = 11,
        /// Memory that is being taken from its owner; no environment can map it any more.
        Revoked = 12,
        /// The machine code of a packet filter or a scope's keys, and of what these share with
        /// others.
        Code = 13,
        /// A disk binding.
        DiskBinding = 14,
        /// Machine code of its owner that the kernel has looked through; no environment can
        /// write it any more.
        Text = 15,
    }
}

/// One entry of the frame table, 16 bytes. Frame `n` is entry `n`.
///
/// The kernel alone writes it; every environment may map the table read-only
/// and pick frames by name from what it sees. A reading is a hint: another
/// environment may take the frame first, and the kernel then says so.
#[derive(Debug)]
#[repr(C)]
pub struct FrameInfo {
    /// The environment that pays for the frame ([`crate::EnvId`]), or zero.
    pub owner: AtomicU32,
    /// [`FrameKind`] as a number.
    pub kind: AtomicU8,
    /// For a page table its level, else zero.
    pub level: AtomicU8,
    /// Devices and kernel objects that may still read or write the frame.
    pub pins: AtomicU16,
    /// Page-table entries that map the frame; for a page table, the number of
    /// entries in it that are present.
    pub mapped: AtomicU32,
    /// Counts how often the frame was freed; tells a new owner's frame from the
    /// old one's.
    pub generation: AtomicU32,
}

#[cfg(test)]
mod tests {
    use super::{FrameInfo, FrameKind, USER_TOP, VirtAddr};

    #[test]
    fn layout_is_the_published_one() {
        assert_eq!(size_of::<FrameInfo>(), 16);
    }

    #[test]
    fn kinds_round_trip() {
        for number in 0..=u8::MAX {
            if let Some(kind) = FrameKind::from_u8(number) {
                assert_eq!(kind as u8, number);
            }
        }
    }

    #[test]
    fn addresses_stay_in_user_space() {
        assert!(VirtAddr::new(0x1000).is_some());
        assert!(VirtAddr::new(0x1001).is_none());
        assert!(VirtAddr::new(USER_TOP).is_none());
        assert!(VirtAddr::new(0xffff_8000_0000_0000).is_none());
        let last = VirtAddr::new(USER_TOP - 0x1000).unwrap();
        assert!(last.plus(1).is_none());
    }
}
