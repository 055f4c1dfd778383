//! What a callback is told of an instruction, in the one pointer that QEMU passes on.
//!
//! Its [`Place`] takes 32 bits. The other 32 tell where it lies: the topmost bit whether in
//! the upper half of the address space, where kernels are, and below it the lowest bits of
//! the address, which is enough to see that two instructions are not the same one.

use std::ffi::c_void;

use crate::layout::Place;

/// An instruction, as far as callbacks need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    /// Virtual address; after [`Spot::decode`] only its ends are known.
    pub(crate) address: u64,
    pub(crate) place: Place,
}

const UPPER_HALF: u64 = 1 << 63;
const LOW: u64 = (1 << 31) - 1;

impl Spot {
    /// Whether it lies in user space: the lower half, for all kernels counted here. Code that
    /// runs in ring 0 at an address of user space counts as user space.
    pub(crate) fn user(self) -> bool {
        self.address & UPPER_HALF == 0
    }

    pub(crate) fn encode(self) -> *mut c_void {
        let upper = self.address & UPPER_HALF;
        let bits = upper | (self.address & LOW) << 32 | u64::from(self.place.0);
        std::ptr::without_provenance_mut(bits as usize)
    }

    pub(crate) fn decode(data: *mut c_void) -> Self {
        let bits = data.addr() as u64;
        let address = bits & UPPER_HALF | bits >> 32 & LOW;
        Self { address, place: Place(bits as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_survive() {
        for address in [0, 0x40_1000, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            let spot = Spot { address, place: Place::new(0x12_3456, 0xff) };
            let again = Spot::decode(spot.encode());
            assert_eq!((again.place, again.user()), (spot.place, address < 1 << 63), "{address:x}");
            assert_eq!(again.address & LOW, address & LOW);
        }
    }
}
