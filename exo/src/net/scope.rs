//! Scopes: which filters a network capability allows.
//!
//! Refusing overlap decides between claims, but the first claim on an address
//! would be anybody's. So whoever holds the network interface narrows it before
//! passing it on: a scope is a short list of filters, and a binding made under
//! it may claim only what one of them contains. Scopes are never changed, only
//! made and taken away.
//!
//! What is claimed under a scope lies behind the scope's own tests among the merged
//! filters, and so does what is claimed under a scope within it. So packets that are not
//! in somebody's scope do not meet the filters there, however many and odd they are.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use dpf::{Budget, Filter, MAX_WIRE};
use exo_abi::{Error, FrameKind, Pfn};

use crate::capability::Object;
use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// Steps that one call may spend on comparing filters: eight million instructions in all.
pub const COMPARISONS: u32 = 65_536;
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

/// The filters of the network capability that names `net`; `None` if it allows all. A stale
/// one has none.
fn outer(frames: &FrameTable, net: Object) -> Option<impl Iterator<Item = &Filter>> {
    let scope = || object::get::<Scope>(frames, Pfn(net.first)).filter(|_| !net.is_stale(frames));
    (net.first != 0).then(|| scope().into_iter().flat_map(Scope::filters))
}

/// `filter` as it is to be merged if the network capability that names `net` allows it.
///
/// # Errors
/// [`Error::NoRight`] if it does not; [`Error::TooMuch`] if the budget does not do, or the
/// filter, which is within the scope, pins its bits only behind a shift, or is too long
/// together with it.
pub fn within(
    frames: &FrameTable,
    net: Object,
    filter: &Filter,
    budget: &Budget,
) -> Result<Filter, Error> {
    let Some(mut outer) = outer(frames, net) else { return Ok(*filter) };
    let outer = outer.find(|outer| filter.implies(outer, budget));
    let outer = if budget.is_spent() { Err(Error::TooMuch) } else { outer.ok_or(Error::NoRight) };
    filter.under(outer?).ok_or(Error::TooMuch)
}

/// Whether `filter` could stand in the way of one that the network capability that names
/// `net` allows.
pub fn concerns(frames: &FrameTable, net: Object, filter: &Filter) -> bool {
    let budget = Budget::new(COMPARISONS);
    let all = outer(frames, net);
    all.is_none_or(|mut all| all.any(|outer| filter.overlaps(outer, &budget))) && !budget.is_spent()
}

/// Makes a scope in frame `pfn`, quiet memory, of the filters encoded in `wire`,
/// within what `net` allows.
///
/// # Errors
/// [`Error::BadFilter`], [`Error::TooMuch`] for more than [`SCOPE_MAX`], and those of
/// [`within`] for each.
pub fn create(frames: &FrameTable, net: Object, mut wire: &[u8], pfn: Pfn) -> Result<(), Error> {
    let budget = Budget::new(COMPARISONS);
    let mut filters = [None; SCOPE_MAX];
    let mut places = filters.iter_mut();
    while !wire.is_empty() {
        let (filter, rest) = Filter::decode_first(wire).map_err(|_| Error::BadFilter)?;
        let filter = within(frames, net, &filter, &budget)?;
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
