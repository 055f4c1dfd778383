//! What lies where in an application's address space.
//!
//! ```text
//! 0x0000_0040_0000  image: text, read-only data, data (apps/app.ld)
//! 0x0000_0800_0000  image of an application that others visit (apps/domain.ld), up to 128 MiB
//! 0x0000_1000_0000  U-area                          (one page, exo_abi::boot)
//! 0x0000_1000_1000  system information, read-only   (one page)
//!       …
//! 0x0000_2000_0000  top of the stack; below it an unmapped gap
//! 0x0000_2800_0000  images for children, read-only (up to 128 MiB)
//! 0x0000_3000_0000  frame table, read-only          (up to 256 MiB)
//! 0x0000_4000_0000  rings and buffers of devices    (up to 1 GiB)
//! 0x0010_0000_0000  heap, grows upwards             (up to 64 GiB)
//! 0x0020_0000_0000  regions, unmapped page between  (up to 64 GiB)
//! 0x0030_0000_0000  regions that are paged          (up to 64 GiB)
//! 0x0040_0000_0000  what several applications share (up to 64 GiB)
//! 0x0050_0000_0000  what lies behind a gate         (up to 64 GiB)
//! ```
//!
//! The gaps are wide so that a stray pointer meets an unmapped page. Everything
//! lies in one level-3 table's reach (512 GiB), so that an application needs one
//! of those. Image, U-area, stack, images for children and what is shared are mapped by the creator; the rest is
//! mapped by this library as it is wanted.

use exo_abi::boot::U_AREA;
use exo_abi::{FRAME_BYTES, VirtAddr};

/// A part of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// First byte; page aligned.
    pub start: VirtAddr,
    /// First address behind the last byte.
    pub end: u64,
}

/// [`exo_abi::SystemInfo`], read-only.
pub const SYSTEM_INFO: VirtAddr = at(U_AREA + FRAME_BYTES);
/// Images of which the application may make children ([`crate::start::StartBlock::programs`]), as a
/// bundle, read-only. Mapped by the creator.
pub const PROGRAMS: Window = window(0x2800_0000, 0x3000_0000);
/// The frame table, read-only.
pub const FRAME_TABLE: Window = window(0x3000_0000, 0x4000_0000);
/// Ring pages and buffers of bindings to devices.
pub const DEVICES: Window = window(0x4000_0000, 0x8000_0000);
/// The heap.
pub const HEAP: Window = window(0x10_0000_0000, 0x20_0000_0000);
/// Regions that the application asks for.
pub const REGIONS: Window = window(0x20_0000_0000, 0x30_0000_0000);
/// Regions whose pages come when they are touched: [`crate::paging`].
pub const PAGED: Window = window(0x30_0000_0000, 0x40_0000_0000);
/// What is shared with other applications: [`crate::start::ShareGrant`]. Mapped by the creator.
pub const SHARED: Window = window(0x40_0000_0000, 0x50_0000_0000);
/// Code and constants of an application that others visit, in it and in them ([`crate::gate`]).
pub const IMAGE: Window = window(0x800_0000, U_AREA);
/// What lies behind a gate, in its owner and in visitors.
pub const DOMAIN: Window = window(0x50_0000_0000, 0x60_0000_0000);

const fn at(address: u64) -> VirtAddr {
    match VirtAddr::new(address) {
        Some(address) => address,
        None => panic!("not a page-aligned user address"),
    }
}

const fn window(start: u64, end: u64) -> Window {
    Window { start: at(start), end }
}

#[cfg(test)]
mod tests {
    use exo_abi::boot::{STACK_TOP, U_AREA};

    use super::{
        DEVICES, DOMAIN, FRAME_TABLE, HEAP, PAGED, PROGRAMS, REGIONS, SHARED, SYSTEM_INFO,
    };

    #[test]
    fn parts_ascend_and_do_not_overlap() {
        assert!(U_AREA + 4096 <= SYSTEM_INFO.get() && SYSTEM_INFO.get() + 4096 <= STACK_TOP);
        let mut end = STACK_TOP;
        for window in [PROGRAMS, FRAME_TABLE, DEVICES, HEAP, REGIONS, PAGED, SHARED, DOMAIN] {
            assert!(end <= window.start.get() && window.start.get() < window.end);
            end = window.end;
        }
        assert!(end <= 1 << 39);
    }
}
