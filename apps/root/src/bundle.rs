//! The boot bundle, where the kernel says it lies.

use exo_abi::boot::SELF;
use exo_abi::{Error, FRAME_BYTES, Pfn, Protection, UArea, VirtAddr};
use libos::environment::space;

/// Where root maps the bundle: above the stack, below the frame table.
const WINDOW: u64 = 0x2800_0000;

/// Where the boot image lies in physical memory, and the bundle in it, behind root's own pages.
pub(crate) struct Place {
    pub(crate) image: Pfn,
    first: Pfn,
    bytes: usize,
}

impl Place {
    /// Reads the three words the kernel left in the U-area.
    pub(crate) fn read(u_area: &UArea) -> Self {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&u_area.start[8 * index..8 * index + 8]);
            u64::from_le_bytes(word)
        };
        Self { image: Pfn(word(0) as u32), first: Pfn(word(1) as u32), bytes: word(2) as usize }
    }
}

impl Place {
    /// The frame in which `data` of the mapped bundle begins.
    pub(crate) fn frame_of(&self, data: &[u8]) -> Pfn {
        let offset = (data.as_ptr().addr() as u64).saturating_sub(WINDOW);
        self.first.plus((offset / FRAME_BYTES) as u32)
    }
}

/// Maps the bundle read-only.
pub(crate) fn map(place: &Place) -> Result<&'static [u8], Error> {
    let at = VirtAddr::new(WINDOW).ok_or(Error::BadAddress)?;
    let pages = place.bytes.div_ceil(FRAME_BYTES as usize) as u32;
    space::map(SELF, SELF, place.first, at, pages, Protection::Read, space::own_frame)?;
    // SAFETY: mapped just now, read-only and for good; the frames are root's and
    // nothing writes them.
    Ok(unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(WINDOW as usize),
            place.bytes,
        )
    })
}
