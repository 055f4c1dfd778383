//! Step 3: a received frame goes into its owner's frames.
//!
//! The kernel's own indices decide; the shared ones are hints. A consumer index
//! that makes no sense looks like a full ring, and the liar loses packets.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use exo_abi::RingPage;

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

/// Copies `frame` into the next receive buffer. False if the ring is full.
#[inline]
pub fn deliver(binding: &Binding, frame: &[u8]) -> bool {
    let shared = shared(binding);
    let order = binding.order();
    let produced = binding.produced.get();
    let waiting = produced.wrapping_sub(shared.rx_consumed.0.load(Acquire));
    if waiting >= order.slots() {
        return false;
    }
    let slot = produced % order.slots();
    let Some(length) = shared.rx_length.get(slot as usize) else { return false };
    let buffer = memory::frame(binding.first.get()).wrapping_add(order.rx_offset(slot));
    // SAFETY: the buffer lies in the binding's pinned run and is longer than
    // any frame (`FRAME_MAX`); the source is kernel memory. The owner may write
    // there meanwhile and garble its own packet.
    unsafe { buffer.copy_from_nonoverlapping(frame.as_ptr(), frame.len()) };
    length.store(frame.len() as u16, Relaxed);
    let produced = produced.wrapping_add(1);
    binding.produced.set(produced);
    shared.rx_produced.0.store(produced, Release);
    true
}

/// Shows the owner which transmit buffers it may use again: all that were
/// taken, once the device reads none of them.
#[inline]
pub fn publish_sent(binding: &Binding) {
    if binding.in_flight.get() == 0 {
        shared(binding).tx_consumed.0.store(binding.taken.get(), Release);
    }
}
