//! Step 6: what an environment sends is checked, then handed to the device.
//!
//! An environment speaks as it may listen: a packet goes out only if it has a key of the
//! binding's scope, mirrored. The bytes that decide are first copied into kernel memory, so
//! they cannot change after the check. Short packets are copied whole; of long ones the device
//! fetches the rest, which no key looks at, from the owner's pinned frames.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{FRAME_MAX, FRAME_MIN, Pfn, SyncCounts};

use super::binding::Binding;
use super::nic::{COPY_MAX, HEAD, Nic, Sender};
use super::scope::Scope;
use super::{Net, reclaim, ring};
use crate::kernel::Kernel;
use crate::memory;
use crate::state::State;
use crate::virtio::virtqueue::Buffer;

/// What a packet costs, sent or refused, whatever its length, and when the device returns it.
const PACKET: u32 = 150;

/// Takes what the transmit ring holds, as far as the device has room.
pub fn transmit(kernel: &Kernel, net: &mut Net, binding: &Binding) -> SyncCounts {
    reclaim(kernel, net);
    let mut counts = SyncCounts { taken: 0, refused: 0 };
    let Some(nic) = &mut net.nic else { return counts };
    let shared = ring::shared(binding);
    let (order, first) = (binding.order(), binding.taken.get());
    let waiting = shared.tx_produced.0.load(Acquire).wrapping_sub(first);
    if waiting == 0 {
        return counts;
    }
    let Some(scope) = binding.scope() else { return counts };
    let Some(account) = scope.account() else { return counts };
    let (held, copied) = (account.held.get(), 0);
    let mut outbox = Outbox { nic, binding, scope, account: account.frame(), held, copied };
    // More than the ring holds is a lie.
    let work = &kernel.here().work;
    for taken in 0..waiting.min(order.slots()).min(work.left() / PACKET) {
        let slot = first.wrapping_add(taken) & (order.slots() - 1);
        let length = shared.tx_length.get(slot as usize).map_or(0, |length| length.load(Relaxed));
        match outbox.send_one(slot, usize::from(length)) {
            Outcome::Sent => {}
            Outcome::Refused => counts.refused += 1,
            Outcome::NoRoom => break,
        }
        counts.taken = taken + 1;
        crate::stamp!(Transmit);
    }
    let Outbox { held, copied, .. } = outbox;
    work.spend(counts.taken * PACKET);
    if counts.taken != 0 {
        account.held.set(held);
        binding.taken.set(first.wrapping_add(counts.taken));
        ring::publish_sent(binding);
        State::count(&kernel.info.copied, copied);
        State::count(&kernel.info.transmitted, u64::from(counts.taken - counts.refused));
        if counts.refused != 0 {
            State::count(&kernel.info.refused, u64::from(counts.refused));
        }
        nic.kick(kernel.info);
    }
    counts
}

enum Outcome {
    Sent,
    Refused,
    NoRoom,
}

/// Packets of one binding on their way to the device.
struct Outbox<'a> {
    nic: &'a mut Nic,
    binding: &'a Binding,
    scope: &'a Scope,
    account: Pfn,
    /// What is to become of the account's count, and of that of bytes copied.
    held: u32,
    copied: u64,
}

impl Outbox<'_> {
    /// Sends the `length` bytes in transmit buffer `slot`.
    #[inline(always)]
    fn send_one(&mut self, slot: u32, length: usize) -> Outcome {
        if !(FRAME_MIN..=FRAME_MAX).contains(&length) {
            return Outcome::Refused;
        }
        // The device reads there still: it is lent once at a time, or it would seem to be given
        // back too early.
        if length > COPY_MAX && self.binding.has_lent(slot) {
            return Outcome::NoRoom;
        }
        let Some(kernel_slot) = self.nic.take_slot(self.held) else { return Outcome::NoRoom };
        let offset = self.binding.order().tx_offset(slot);
        let source = memory::frame(self.binding.first.get()).wrapping_add(offset);
        let copied = if length <= COPY_MAX { length } else { HEAD };
        // SAFETY: the buffer lies in the binding's pinned run and holds more than
        // `FRAME_MAX` bytes.
        let head = unsafe { self.nic.fill(&kernel_slot, source, copied) };
        let allowed = head.first_chunk().is_some_and(|head| self.scope.may_send(head, length));
        if !allowed {
            self.nic.give_back(kernel_slot);
            return Outcome::Refused;
        }
        self.copied += copied as u64;
        self.held += 1;
        // The device reads the rest where it is.
        let rest = (copied != length).then(|| {
            self.binding.set_lent(slot, true);
            let address = self.binding.first.get().address() + (offset + copied) as u64;
            Buffer { address, length: (length - copied) as u32 }
        });
        let (binding, account) = (self.binding.frame(), self.account);
        let sender = Sender { binding, account, lends: rest.map(|_| slot) };
        self.nic.send(sender, kernel_slot, copied, rest);
        Outcome::Sent
    }
}
