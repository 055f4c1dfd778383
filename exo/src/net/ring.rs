//! Step 3: a received frame goes into its owner's frames.
//!
//! The kernel's own indices decide; the shared ones are hints. A consumer index
//! that makes no sense looks like a full ring, and the liar loses packets.

use core::sync::atomic::AtomicU16;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use exo_abi::{RingIndex, RingPage};

use super::binding::Binding;
use crate::memory;

/// The shared words of a binding's ring page.
pub(super) struct Shared {
    /// See [`RingPage`].
    pub(super) rx_produced: &'static RingIndex,
    pub(super) rx_consumed: &'static RingIndex,
    pub(super) tx_produced: &'static RingIndex,
    pub(super) tx_consumed: &'static RingIndex,
    pub(super) rx_length: &'static [AtomicU16],
    pub(super) tx_length: &'static [AtomicU16],
}

/// The ring page of a binding.
#[inline]
pub(super) fn shared(binding: &Binding) -> Shared {
    let page = memory::frame(binding.first.get()).cast::<RingPage>();
    // SAFETY: the run's first frame is pinned by the binding, so it exists and
    // stays its owner's. Ring 3 may write it at any time; only atomics in it
    // are referred to, which is what atomics are for.
    let page = unsafe { &*page };
    Shared {
        rx_produced: &page.rx_produced,
        rx_consumed: &page.rx_consumed,
        tx_produced: &page.tx_produced,
        tx_consumed: &page.tx_consumed,
        rx_length: &page.rx_length,
        tx_length: &page.tx_length,
    }
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
