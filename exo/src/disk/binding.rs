//! Disk bindings: an environment's ring of requests to an extent.

use core::cell::Cell;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{DISK_RING, DiskCompletion, DiskRing, EnvId, Error, FrameKind, Pfn};

use super::reclaim;
use crate::capability::{self, CapRef, Kind, Object};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::list::{self, Links};
use crate::memory::{self, CLEAR};
use crate::object::{self, KernelObject};

/// A disk binding.
#[repr(C)]
pub struct Binding {
    /// The environment that it belongs to.
    pub owner: Cell<EnvId>,
    /// First sector of its extent, and number of sectors.
    pub extent: Cell<(u32, u32)>,
    /// What its requests count for.
    pub account: Cell<CapRef>,
    /// Requests taken: the kernel's own index.
    pub taken: Cell<u32>,
    /// Completions given: the kernel's own index.
    pub(crate) completed: Cell<u32>,
    /// Requests that are with the device.
    pub flying: Cell<u32>,
    /// The frame of its ring, which is pinned.
    pub(crate) ring: Cell<Pfn>,
    /// Where its one capability was put.
    capability: Cell<CapRef>,
    itself: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
}

// SAFETY: repr(C), within a frame; zero is valid for cells of integers, of which everything
// consists; all fields are cells.
unsafe impl KernelObject for Binding {
    const KIND: FrameKind = FrameKind::DiskBinding;
}

/// Its place among its owner's.
const OF_OWNER: Links<Binding> = |it| (&it.previous, &it.next);

impl Binding {
    /// The frame that it lies in.
    pub fn frame(&self) -> Pfn {
        self.itself.get()
    }

    /// Its ring.
    #[inline]
    pub fn ring(&self) -> &'static DiskRing {
        // SAFETY: the binding has the frame pinned, so it exists and stays its owner's. Ring 3
        // may write it at any time; it is all atomics, which is what atomics are for.
        unsafe { &*memory::frame(self.ring.get()).cast() }
    }

    /// How many requests may be taken: each finds a place for its completion. Nonsense looks like
    /// a full ring.
    pub fn room(&self) -> u32 {
        let consumed = self.ring().consumed.0.load(Acquire);
        DISK_RING.saturating_sub(self.taken.get().wrapping_sub(consumed))
    }

    /// Gives the owner a completion.
    pub fn complete(&self, completion: DiskCompletion) {
        let index = self.completed.get();
        self.ring().complete(index, completion);
        self.completed.set(index.wrapping_add(1));
    }

    /// Notes where its capability is.
    pub fn set_capability(&self, place: CapRef) {
        self.capability.set(place);
    }

    /// Whether that was neither dropped nor revoked: there are no copies of it.
    pub fn has_capability(&self, kernel: &Kernel) -> bool {
        let slot = self.capability.get().get(&kernel.frames);
        let named = slot.and_then(|it| it.names::<Self>(Kind::DiskBinding, &kernel.frames));
        named.is_some_and(|named| core::ptr::eq(named, self))
    }
}

/// Makes a binding of `env` in frame `object_frame` with its ring in frame `ring`, to the extent
/// that the capability at `place` is for.
///
/// # Errors
/// [`Error::NoDevice`]; [`Error::NotOwned`], [`Error::InUse`] as for every donation;
/// [`Error::BadArgument`] if both are one frame.
pub fn bind(
    kernel: &Kernel,
    env: &Env,
    (place, extent): (CapRef, Object),
    ring: Pfn,
    object_frame: Pfn,
) -> Result<&'static Binding, Error> {
    let frames = &kernel.frames;
    kernel.here().work.spend(2 * CLEAR);
    if kernel.disk.borrow().is_none() {
        return Err(Error::NoDevice);
    }
    frames.check_donation(object_frame, env.id())?;
    if ring == object_frame {
        return Err(Error::BadArgument);
    }
    if !frames.is_memory_of(ring, env.id()) {
        return Err(Error::NotOwned);
    }
    frames.pin(ring)?;
    let binding = object::create::<Binding>(frames, object_frame).ok_or(Error::InUse)?;
    binding.owner.set(env.id());
    binding.extent.set((extent.first, extent.extent));
    binding.account.set(capability::origin(frames, place));
    binding.ring.set(ring);
    binding.itself.set(object_frame);
    // The owner may have mapped the ring and filled it before: both sides start from zero.
    let shared = binding.ring();
    for index in [&shared.submitted, &shared.taken, &shared.completed, &shared.consumed] {
        index.0.store(0, Relaxed);
    }
    list::push(frames, &env.disk_bindings, object_frame, OF_OWNER);
    Ok(binding)
}

/// Dissolves the binding.
///
/// # Errors
/// [`Error::InUse`] while the device has requests of it.
pub fn unbind(kernel: &Kernel, binding: &Binding) -> Result<(), Error> {
    reclaim(kernel, &mut kernel.disk.borrow_mut());
    if binding.flying.get() != 0 {
        return Err(Error::InUse);
    }
    kernel.here().work.spend(CLEAR);
    kernel.frames.unpin(binding.ring.get());
    if let Some(owner) = kernel.env(binding.owner.get()) {
        list::remove(&kernel.frames, &owner.disk_bindings, binding, OF_OWNER);
    }
    kernel.frames.retire(binding.frame());
    Ok(())
}
