//! Bindings: an environment's pair of rings, and the filters attached to it.

use core::cell::Cell;

use exo_abi::{EnvId, Error, FrameKind, MAX_RING_ORDER, Pfn, RingOrder};

use super::scope::Scope;
use super::{Net, reclaim};
use super::{filter, ring};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::list::{self, Links};
use crate::memory::CLEAR;
use crate::object::{self, KernelObject};

/// A binding.
#[repr(C)]
pub struct Binding {
    /// The environment that it belongs to.
    pub owner: Cell<EnvId>,
    /// First frame of the run of rings and buffers; all are pinned.
    pub first: Cell<Pfn>,
    /// Packets delivered: the kernel's own index.
    pub produced: Cell<u32>,
    /// Packets taken from the transmit ring: the kernel's own index.
    pub taken: Cell<u32>,
    /// Of these, those of which the owner has its buffer back.
    pub sent: Cell<u32>,
    /// Transmit slots from which the device reads, a bit for each.
    pub(crate) lent: [Cell<u64>; 1 << (MAX_RING_ORDER - 6)],
    /// The scope it was made by; none once that is gone.
    scope: Cell<Option<&'static Scope>>,
    pub(crate) scope_previous: Cell<Pfn>,
    pub(crate) scope_next: Cell<Pfn>,
    /// First of the filters attached.
    pub filters: Cell<Pfn>,
    order: Cell<RingOrder>,
    itself: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
}

// SAFETY: repr(C), within a frame; zero is valid for cells of integers, which an order of
// rings is, and for no reference; all fields are cells. A scope's frame is retired only after all
// its bindings have left it (`scope::remove_step`).
unsafe impl KernelObject for Binding {
    const KIND: FrameKind = FrameKind::Binding;
}

/// Its place among its owner's, and among those made by its scope.
const OF_OWNER: Links<Binding> = |it| (&it.previous, &it.next);
const OF_SCOPE: Links<Binding> = |it| (&it.scope_previous, &it.scope_next);

impl Binding {
    /// Size of the rings.
    #[inline]
    pub fn order(&self) -> RingOrder {
        self.order.get()
    }

    /// The scope that says what it may receive and send, if that still is there.
    #[inline]
    pub fn scope(&self) -> Option<&'static Scope> {
        self.scope.get()
    }

    /// Takes it out of its scope's list; it must have no filters.
    pub(super) fn leave_scope(&self, kernel: &Kernel) {
        if let Some(scope) = self.scope.replace(None) {
            list::remove(&kernel.frames, &scope.bindings, self, OF_SCOPE);
        }
    }

    /// Notes whether the device reads from transmit slot `slot`.
    pub(super) fn set_lent(&self, slot: u32, lent: bool) {
        let (word, bit) = self.lent(slot);
        word.set(if lent { word.get() | bit } else { word.get() & !bit });
    }

    /// Whether it reads from the slot of the packet `index`.
    pub(super) fn has_lent(&self, index: u32) -> bool {
        let (word, bit) = self.lent(index & (self.order().slots() - 1));
        word.get() & bit != 0
    }

    /// Whether it reads from any.
    pub(super) fn lends(&self) -> bool {
        self.lent.iter().fold(0, |all, word| all | word.get()) != 0
    }

    fn lent(&self, slot: u32) -> (&Cell<u64>, u64) {
        (&self.lent[slot as usize / 64 % self.lent.len()], 1 << (slot % 64))
    }

    /// The frame the binding lies in.
    pub fn frame(&self) -> Pfn {
        self.itself.get()
    }

    #[cfg(any(test, exo_check))]
    pub(crate) fn run(&self) -> impl Iterator<Item = Pfn> + use<> {
        let first = self.first.get();
        (0..self.order().frames()).map(move |offset| first.plus(offset))
    }
}

/// What it costs to check and pin a frame of the run, and to unpin it.
const PIN: u32 = 50;

/// Makes a binding of `env` in frame `object_frame` over the run from `first`,
/// with filters within `scope`.
///
/// # Errors
/// [`Error::NoDevice`]; [`Error::NotOwned`], [`Error::InUse`] as for every
/// donation; [`Error::BadArgument`] if `object_frame` lies in the run.
pub fn bind(
    kernel: &Kernel,
    env: &Env,
    scope: &'static Scope,
    first: Pfn,
    order: RingOrder,
    object_frame: Pfn,
) -> Result<&'static Binding, Error> {
    let frames = &kernel.frames;
    kernel.here().work.spend(CLEAR + PIN * order.frames());
    if kernel.net.borrow().nic.is_none() {
        return Err(Error::NoDevice);
    }
    frames.check_donation(object_frame, env.id())?;
    if (first.0..first.0.saturating_add(order.frames())).contains(&object_frame.0) {
        return Err(Error::BadArgument);
    }
    frames.pin_run(first, order.frames(), env.id())?;
    let binding = object::create::<Binding>(frames, object_frame).ok_or(Error::InUse)?;
    binding.owner.set(env.id());
    binding.scope.set(Some(scope));
    binding.first.set(first);
    binding.order.set(order);
    binding.itself.set(object_frame);
    // The owner may have mapped the ring page and filled it before: both sides
    // start from zero.
    let ring = ring::shared(binding);
    for index in [&ring.rx_produced, &ring.rx_consumed, &ring.tx_produced, &ring.tx_consumed] {
        index.0.store(0, core::sync::atomic::Ordering::Relaxed);
    }
    list::push(frames, &env.bindings, object_frame, OF_OWNER);
    list::push(frames, &scope.bindings, object_frame, OF_SCOPE);
    Ok(binding)
}

/// Takes one filter off the binding, or, if there is none, dissolves it.
///
/// # Errors
/// [`Error::Again`] after a filter; [`Error::InUse`] while the device still reads from its buffers.
pub fn unbind_step(kernel: &Kernel, net: &mut Net, binding: &Binding) -> Result<(), Error> {
    let frames = &kernel.frames;
    if binding.filters.get() != Pfn::NONE {
        filter::remove(kernel, binding, binding.filters.get())?;
        return Err(Error::Again);
    }
    reclaim(kernel, net);
    if binding.lends() {
        return Err(Error::InUse);
    }
    kernel.here().work.spend(CLEAR + PIN / 2 * binding.order().frames());
    binding.leave_scope(kernel);
    frames.unpin_run(binding.first.get(), binding.order().frames());
    if let Some(owner) = kernel.env(binding.owner.get()) {
        list::remove(frames, &owner.bindings, binding, OF_OWNER);
    }
    frames.retire(binding.frame());
    Ok(())
}
