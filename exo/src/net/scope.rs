//! Scopes: which filters a network capability allows.
//!
//! Refusing overlap decides between claims, but the first claim on an address
//! would be anybody's. So whoever holds the network interface narrows it before
//! passing it on: a scope is a short list of filters, and a binding made under
//! it may claim only what one of them contains. Scopes are never changed, only
//! made and taken away.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use dpf::{Filter, MAX_WIRE};
use exo_abi::{Error, FrameKind, Pfn};

use crate::capability::Object;
use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// Most filters of a scope.
pub const SCOPE_MAX: usize = 8;
/// Longest list of encoded filters.
pub const WIRE_MAX: usize = SCOPE_MAX * MAX_WIRE;

/// The filters of a scope: the first `count`.
#[repr(C)]
struct Scope {
    count: core::cell::Cell<usize>,
    filters: UnsafeCell<[MaybeUninit<Filter>; SCOPE_MAX]>,
}

// SAFETY: repr(C), within a frame; zero means no filters, and anything is valid
// for those beyond `count`; all fields are cells.
unsafe impl KernelObject for Scope {
    const KIND: FrameKind = FrameKind::Scope;
}

impl Scope {
    fn filters(&self) -> impl Iterator<Item = &Filter> {
        // SAFETY: written once by `create` and never changed while the frame
        // has its kind; the first `count` are written.
        let filters = unsafe { &*self.filters.get() };
        // SAFETY: as above.
        filters.iter().take(self.count.get()).map(|filter| unsafe { filter.assume_init_ref() })
    }
}

/// Whether the network capability that names `net` allows `filter`.
pub fn allows(frames: &FrameTable, net: Object, filter: &Filter) -> bool {
    any(frames, net, |outer| dpf::implies(filter, outer))
}

/// Whether `filter` could stand in the way of one that the network capability that names
/// `net` allows.
pub fn concerns(frames: &FrameTable, net: Object, filter: &Filter) -> bool {
    any(frames, net, |outer| dpf::overlap(filter, outer))
}

fn any(frames: &FrameTable, net: Object, test: impl FnMut(&Filter) -> bool) -> bool {
    net.first == 0
        || !net.is_stale(frames)
            && object::get::<Scope>(frames, Pfn(net.first))
                .is_some_and(|scope| scope.filters().any(test))
}

/// Makes a scope in frame `pfn`, quiet memory, of the filters encoded in `wire`,
/// within what `net` allows.
///
/// # Errors
/// [`Error::BadFilter`], [`Error::TooMuch`] for more than [`SCOPE_MAX`],
/// [`Error::NoRight`] if `net` does not allow one.
pub fn create(frames: &FrameTable, net: Object, mut wire: &[u8], pfn: Pfn) -> Result<(), Error> {
    let mut filters = [None; SCOPE_MAX];
    let mut places = filters.iter_mut();
    while !wire.is_empty() {
        let (filter, rest) = Filter::decode_first(wire).map_err(|_| Error::BadFilter)?;
        if !allows(frames, net, &filter) {
            return Err(Error::NoRight);
        }
        *places.next().ok_or(Error::TooMuch)? = Some(filter);
        wire = rest;
    }
    let scope = object::create::<Scope>(frames, pfn).ok_or(Error::InUse)?;
    // SAFETY: made just now; nothing else refers to it.
    let places = unsafe { &mut *scope.filters.get() };
    for (place, filter) in places.iter_mut().zip(filters.into_iter().flatten()) {
        place.write(filter);
        scope.count.set(scope.count.get() + 1);
    }
    Ok(())
}
