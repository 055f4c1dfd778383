//! Step 3: a received frame goes into its owner's frames.
//!
//! The kernel's own indices decide; the shared ones are hints. A consumer index
//! that makes no sense looks like a full ring, and the liar loses packets.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use exo_abi::{BUFFER_BYTES, RingPage};

use super::binding::Binding;
use crate::memory;

/// The ring page of a binding.
#[inline]
pub(super) fn shared(binding: &Binding) -> &'static RingPage {
    // SAFETY: the run's first frame is pinned by the binding, so it exists and
    // stays its owner's. Ring 3 may write it at any time; it is all atomics,
    // which is what atomics are for.
    unsafe { &*memory::frame(binding.first.get()).cast() }
}

/// Packets going into one binding's ring, one after the other: what does not change between
/// them is looked up once, and the owner sees them all when the run ends.
pub struct Run {
    binding: &'static Binding,
    shared: &'static RingPage,
    /// The first receive buffer.
    buffers: *mut u8,
    /// What of a count names a slot.
    mask: u32,
    produced: u32,
    /// The count at which the ring is full, as the owner said when the run began. Nonsense
    /// looks like a full ring.
    full: u32,
}

impl Run {
    /// Packets for `binding`.
    #[inline]
    pub fn begin(binding: &'static Binding) -> Self {
        let (shared, order) = (shared(binding), binding.order());
        let (produced, consumed) = (binding.produced.get(), shared.rx_consumed.0.load(Acquire));
        let sane = produced.wrapping_sub(consumed) <= order.slots();
        let full = if sane { consumed.wrapping_add(order.slots()) } else { produced };
        let buffers = memory::frame(binding.first.get()).wrapping_add(order.rx_offset(0));
        Self { binding, shared, buffers, mask: order.slots() - 1, produced, full }
    }

    /// The binding that they go to.
    #[inline]
    pub fn binding(&self) -> &'static Binding {
        self.binding
    }

    /// Copies `frame` into the next receive buffer. False if the ring is full.
    #[inline]
    pub fn deliver(&mut self, frame: &[u8]) -> bool {
        if self.produced == self.full {
            return false;
        }
        let slot = (self.produced & self.mask) as usize;
        let Some(length) = self.shared.rx_length.get(slot) else { return false };
        let buffer = self.buffers.wrapping_add(slot * BUFFER_BYTES);
        // SAFETY: the buffer lies in the binding's pinned run and is longer than
        // any frame (`FRAME_MAX`); the source is kernel memory. The owner may write
        // there meanwhile and garble its own packet.
        unsafe { buffer.copy_from_nonoverlapping(frame.as_ptr(), frame.len()) };
        length.store(frame.len() as u16, Relaxed);
        self.produced = self.produced.wrapping_add(1);
        true
    }

    /// Shows them to the owner. The binding, unless there are none: then nothing is to be told.
    #[inline]
    pub fn end(self) -> Option<&'static Binding> {
        let any = self.binding.produced.replace(self.produced) != self.produced;
        self.shared.rx_produced.0.store(self.produced, Release);
        any.then_some(self.binding)
    }
}

/// Whether the transmit ring holds packets that were not taken.
#[inline]
pub fn has_unsent(binding: &Binding) -> bool {
    shared(binding).tx_produced.0.load(Acquire) != binding.taken.get()
}

/// Shows the owner which transmit buffers it may use again: those that were taken, up to the
/// first that the device reads.
#[inline]
pub fn publish_sent(binding: &Binding) {
    let mut sent = binding.taken.get();
    if binding.lends() {
        let taken = core::mem::replace(&mut sent, binding.sent.get());
        while sent != taken && !binding.has_lent(sent) {
            sent = sent.wrapping_add(1);
        }
    }
    binding.sent.set(sent);
    shared(binding).tx_consumed.0.store(sent, Release);
}
