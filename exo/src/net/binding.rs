//! Bindings: an environment's pair of rings, and the filters attached to it.

use core::cell::{Cell, RefCell};

use dpf::Trie;
use exo_abi::{EnvId, Error, FrameKind, Pfn, RingOrder};

use super::storage::Installed;
use super::{NOBODY, Net, reclaim};
use super::{filter, ring};
use crate::capability::{Kind, Object, Progress};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::object::{self, KernelObject};

/// A binding.
#[repr(C)]
pub struct Binding {
    /// Whose it is.
    pub owner: Cell<EnvId>,
    /// First frame of the run of rings and buffers; all are pinned.
    pub first: Cell<Pfn>,
    /// Packets delivered: the kernel's own index.
    pub produced: Cell<u32>,
    /// Packets taken from the transmit ring: the kernel's own index.
    pub taken: Cell<u32>,
    /// Frames with the device.
    pub held: Cell<u32>,
    /// Of these, frames that it reads from the run.
    pub in_flight: Cell<u32>,
    /// What the network capability it was made by names: its scope.
    net: Cell<(u32, u32)>,
    /// First of the filters attached.
    pub filters: Cell<Pfn>,
    /// The filter whose mirror the last frame sent passed, tried first. None after one was
    /// removed.
    pub(super) spoke: Cell<Option<&'static Installed>>,
    order: Cell<RingOrder>,
    itself: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
    /// What may be sent, merged. `None` is all zero only by luck of layout, so
    /// it is written when the binding is made.
    pub(super) speech: RefCell<Trie>,
}

// SAFETY: repr(C), within a frame; zero is valid for cells of integers, which an order of
// rings is, for no reference, for a `RefCell`'s borrow count (checked by a test) and for a
// `Trie`, which is a number; all fields are cells.
unsafe impl KernelObject for Binding {
    const KIND: FrameKind = FrameKind::Binding;
}

impl Binding {
    /// Size of the rings.
    #[inline]
    pub fn order(&self) -> RingOrder {
        self.order.get()
    }

    /// What its network capability names.
    pub fn net(&self) -> Object {
        let (first, extent) = self.net.get();
        Object::range(Kind::Net, first, extent)
    }

    /// The frame the binding lies in.
    pub fn frame(&self) -> Pfn {
        self.itself.get()
    }

    pub(crate) fn run(&self) -> impl Iterator<Item = Pfn> + use<> {
        let first = self.first.get();
        (0..self.order().frames()).map(move |offset| first.plus(offset))
    }
}

/// Makes a binding of `env` in frame `object_frame` over the run from `first`,
/// within the scope of the network capability that names `net`.
///
/// # Errors
/// [`Error::NoDevice`]; [`Error::NotOwned`], [`Error::InUse`] as for every
/// donation; [`Error::BadArgument`] if `object_frame` lies in the run.
pub fn bind(
    kernel: &Kernel,
    env: &Env,
    net: Object,
    first: Pfn,
    order: RingOrder,
    object_frame: Pfn,
) -> Result<&'static Binding, Error> {
    let frames = &kernel.frames;
    if kernel.net.borrow().nic.is_none() {
        return Err(Error::NoDevice);
    }
    frames.check_donation(object_frame, env.id())?;
    let run = || (0..order.frames()).map(|offset| Pfn(first.0.saturating_add(offset)));
    for pfn in run() {
        if pfn == object_frame {
            return Err(Error::BadArgument);
        }
        if !frames.is_memory_of(pfn, env.id()) {
            return Err(Error::NotOwned);
        }
    }
    for (pinned, pfn) in run().enumerate() {
        if let Err(error) = frames.pin(pfn) {
            run().take(pinned).for_each(|pfn| frames.unpin(pfn));
            return Err(error);
        }
    }
    let binding = object::create::<Binding>(frames, object_frame).ok_or(Error::InUse)?;
    binding.owner.set(env.id());
    binding.net.set((net.first, net.extent));
    binding.first.set(first);
    binding.order.set(order);
    binding.itself.set(object_frame);
    *binding.speech.borrow_mut() = Trie::new();
    // The owner may have mapped the ring page and filled it before: both sides
    // start from zero.
    let ring = ring::shared(binding);
    for index in [&ring.rx_produced, &ring.rx_consumed, &ring.tx_produced, &ring.tx_consumed] {
        index.0.store(0, core::sync::atomic::Ordering::Relaxed);
    }
    let old = env.bindings.get();
    binding.next.set(old);
    if let Some(old) = object::get::<Binding>(frames, old) {
        old.previous.set(object_frame);
    }
    env.bindings.set(object_frame);
    Ok(binding)
}

/// Takes one filter off the binding, or, if there is none, dissolves it.
///
/// # Errors
/// [`Error::InUse`] while the device still reads from its buffers.
pub fn unbind_step(kernel: &Kernel, net: &mut Net, binding: &Binding) -> Result<Progress, Error> {
    let frames = &kernel.frames;
    if binding.filters.get() != NOBODY {
        filter::remove(kernel, net, binding, binding.filters.get())?;
        return Ok(Progress::Again);
    }
    reclaim(kernel, net);
    if binding.in_flight.get() != 0 {
        return Err(Error::InUse);
    }
    binding.run().for_each(|pfn| frames.unpin(pfn));
    let (previous, next) = (binding.previous.get(), binding.next.get());
    match object::get::<Binding>(frames, previous) {
        Some(before) => before.next.set(next),
        None => {
            if let Some(owner) = kernel.env(binding.owner.get()) {
                owner.bindings.set(next);
            }
        }
    }
    if let Some(after) = object::get::<Binding>(frames, next) {
        after.previous.set(previous);
    }
    frames.retire(binding.frame());
    Ok(Progress::Done)
}
