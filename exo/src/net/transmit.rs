//! Step 6: what an environment sends is checked, then handed to the device.
//!
//! An environment speaks as it may listen: a packet goes out only if it has a key of the
//! binding's scope, mirrored. The bytes that decide are first copied into kernel memory, so
//! they cannot change after the check. Short packets are copied whole; of long ones the device
//! fetches the rest, which no key looks at, from the owner's pinned frames.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{FRAME_MAX, FRAME_MIN, SyncCounts};

use super::binding::Binding;
use super::nic::{COPY_MAX, HEAD, Nic, Sender};
use super::scope::Scope;
use super::virtqueue::Buffer;
use super::{Net, reclaim, ring};
use crate::kernel::Kernel;
use crate::memory;

/// Most packets taken in one call, sent or refused, to bound its time: as many as can be with
/// the device.
const MOST: u32 = 128;

/// Takes what the transmit ring holds, as far as the device has room.
pub fn transmit(kernel: &Kernel, net: &mut Net, binding: &Binding) -> SyncCounts {
    reclaim(kernel, net);
    let mut counts = SyncCounts { taken: 0, refused: 0 };
    let Some(nic) = &mut net.nic else { return counts };
    let shared = ring::shared(binding);
    let Some(scope) = binding.scope() else { return counts };
    let Some(account) = scope.account() else { return counts };
    let path = Path { kernel, binding, scope, account };
    let slots = binding.order().slots();
    let waiting = shared.tx_produced.0.load(Acquire).wrapping_sub(binding.taken.get());
    // More than the ring holds is a lie.
    for _ in 0..waiting.min(slots).min(MOST) {
        let slot = binding.taken.get() % slots;
        let length = shared.tx_length.get(slot as usize).map_or(0, |length| length.load(Relaxed));
        match path.send_one(nic, slot, usize::from(length)) {
            Outcome::Sent => {}
            Outcome::Refused => counts.refused += 1,
            Outcome::NoRoom => break,
        }
        counts.taken += 1;
        binding.taken.set(binding.taken.get().wrapping_add(1));
        crate::stamp!(Transmit);
    }
    if counts.taken != 0 {
        ring::publish_sent(binding);
        Kernel::count(&kernel.info.transmitted, u64::from(counts.taken - counts.refused));
        Kernel::count(&kernel.info.refused, u64::from(counts.refused));
        nic.kick(kernel.info);
    }
    counts
}

enum Outcome {
    Sent,
    Refused,
    NoRoom,
}

/// From which binding to which account packets go.
struct Path<'a> {
    kernel: &'a Kernel,
    binding: &'a Binding,
    scope: &'a Scope,
    account: &'a Scope,
}

impl Path<'_> {
    #[inline]
    fn send_one(&self, nic: &mut Nic, slot: u32, length: usize) -> Outcome {
        let Self { kernel, binding, scope, account } = self;
        if !(FRAME_MIN..=FRAME_MAX).contains(&length) {
            return Outcome::Refused;
        }
        let Some(kernel_slot) = nic.take_slot(account.held.get()) else { return Outcome::NoRoom };
        let offset = binding.order().tx_offset(slot);
        let source = memory::frame(binding.first.get()).wrapping_add(offset);
        let copied = if length <= COPY_MAX { length } else { HEAD };
        // SAFETY: the buffer lies in the binding's pinned run and holds more than
        // `FRAME_MAX` bytes.
        let head = unsafe { nic.fill(&kernel_slot, source, copied) };
        let allowed = head.first_chunk().is_some_and(|head| scope.may_send(head, length));
        if !allowed {
            nic.give_back(kernel_slot);
            return Outcome::Refused;
        }
        Kernel::count(&kernel.info.copied, copied as u64);
        let rest = if copied == length {
            None
        } else {
            binding.in_flight.set(binding.in_flight.get() + 1);
            let address = binding.first.get().address() + (offset + copied) as u64;
            Some(Buffer { address, length: (length - copied) as u32 })
        };
        account.held.set(account.held.get() + 1);
        let (binding, account) = (binding.frame(), account.frame());
        nic.send(Sender { binding, account, lends: rest.is_some() }, kernel_slot, copied, rest);
        Outcome::Sent
    }
}
