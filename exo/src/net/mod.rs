//! The network interface, multiplexed by filters.
//!
//! The kernel owns the device; environments own packets. A binding is an
//! environment's pair of rings; filters say which received frames are its own,
//! and, mirrored, which frames it may send. Steps 1, 2, 3 and 6 of a packet's
//! journey lie here, one file each:
//!
//! | step | file |
//! |---|---|
//! | 1 receive | [`nic`] over [`virtqueue`] |
//! | 2 classify | [`filter`] over [`storage`] |
//! | 3 deliver | [`ring`] |
//! | 6 transmit | [`transmit`], then [`nic`] |
//!
//! [`binding`] and [`scope`] are about authority: who may listen to what.

pub mod binding;
pub mod filter;
pub mod nic;
pub mod ring;
pub mod scope;
pub mod storage;
pub mod transmit;
pub mod virtqueue;

use core::sync::atomic::Ordering::Relaxed;

use dpf::Trie;
use exo_abi::{Error, Pfn};

use crate::capability::Progress;
use crate::env::{self, Env};
use crate::kernel::Kernel;
use crate::object;
use binding::Binding;
use nic::Nic;

/// Frames received in one call, to bound its time.
const RECEIVE_BATCH: u32 = 256;

/// The device, if there is one, and what has been claimed of it.
#[derive(Default)]
pub struct Net {
    /// The network interface.
    pub nic: Option<Nic>,
    /// Receive filters of all bindings, merged. Tags are frames of bindings.
    pub claims: Trie,
}

/// Delivers what has arrived to its owners, and tells them.
#[inline]
pub fn receive(kernel: &Kernel, net: &mut Net) {
    if net.nic.as_ref().is_some_and(Nic::has_received) {
        deliver(kernel, net);
    }
}

/// Told once for a run of packets, not for each.
#[inline(never)]
fn deliver(kernel: &Kernel, net: &mut Net) {
    let Some(nic) = &mut net.nic else { return };
    let mut run: Option<ring::Run> = None;
    let (mut received, mut unclaimed, mut overflowed, mut copied) = (0_u32, 0_u32, 0_u32, 0_u64);
    while received < RECEIVE_BATCH
        && let Some(packet) = nic.next_received()
    {
        crate::stamp!(Receive);
        received += 1;
        let frame = nic.contents(&packet);
        let claimed = filter::classify(kernel, &net.claims, frame);
        crate::stamp!(Classify);
        let is_next = |run: &ring::Run| claimed == Some(run.binding().frame());
        if !run.as_ref().is_some_and(is_next)
            && let Some(binding) =
                claimed.and_then(|pfn| object::get::<Binding>(&kernel.frames, pfn))
            && let Some(before) = run.replace(ring::Run::begin(binding))
        {
            tell(kernel, before.end());
        }
        match &mut run {
            Some(run) if is_next(run) => {
                if run.deliver(frame) {
                    copied += frame.len() as u64;
                } else {
                    overflowed += 1;
                }
            }
            _ => unclaimed += 1,
        }
        nic.recycle(packet);
        crate::stamp!(Deliver);
    }
    if let Some(last) = run {
        tell(kernel, last.end());
    }
    if received != 0 {
        let info = kernel.info;
        Kernel::count(&info.received, received.into());
        Kernel::count(&info.copied, copied);
        if unclaimed | overflowed != 0 {
            Kernel::count(&info.unclaimed, unclaimed.into());
            Kernel::count(&info.overflowed, overflowed.into());
        }
        nic.offer_most_buffers(info);
    }
}

fn tell(kernel: &Kernel, binding: &Binding) {
    if let Some(owner) = kernel.env(binding.owner.get()) {
        env::notify(kernel, owner);
    }
}

/// Takes back transmit buffers the device is done with.
#[inline]
pub fn reclaim(kernel: &Kernel, net: &mut Net) {
    if net.nic.as_ref().is_some_and(Nic::has_sent) {
        take_back(kernel, net);
    }
}

#[inline(never)]
fn take_back(kernel: &Kernel, net: &mut Net) {
    let Some(nic) = &mut net.nic else { return };
    let Some(first) = nic.next_sent() else { return };
    // Counted once for a run of packets of one binding.
    let (mut binding, mut frames, mut lent) = (first.binding, 1, u32::from(first.lends));
    while let Some(sender) = nic.next_sent() {
        if sender.binding != binding {
            returned(kernel, binding, frames, lent);
            (binding, frames, lent) = (sender.binding, 0, 0);
        }
        frames += 1;
        lent += u32::from(sender.lends);
    }
    returned(kernel, binding, frames, lent);
}

/// The device is done with so many `frames` of the binding in frame `pfn`, of which it has read
/// `lent` from its owner's memory.
fn returned(kernel: &Kernel, pfn: Pfn, frames: u32, lent: u32) {
    // A binding may go while frames it does not lend memory for are with the
    // device, and another may come in its place; then counts are too low for
    // a moment, never too high.
    if let Some(binding) = object::get::<Binding>(&kernel.frames, pfn) {
        binding.held.set(binding.held.get().saturating_sub(frames));
        if lent != 0 {
            binding.in_flight.set(binding.in_flight.get().saturating_sub(lent));
            ring::publish_sent(binding);
        }
    }
}

/// Before the processor halts: asks for an interrupt when a frame arrives.
/// True if one has arrived already.
pub fn arm(kernel: &Kernel, net: &mut Net) -> bool {
    net.nic.as_mut().is_some_and(|nic| nic.arm(kernel.info))
}

/// Now and then: tells the device what it asked for just as the kernel looked away.
pub fn remind(kernel: &Kernel, net: &mut Net) {
    if let Some(nic) = &mut net.nic {
        nic.remind(kernel.info);
    }
}

/// After it was woken: no more interrupts, frames are looked for.
pub fn disarm(net: &mut Net) {
    if let Some(nic) = &mut net.nic {
        nic.disarm();
    }
}

/// Dissolves the first of `env`'s bindings, one step.
///
/// # Errors
/// [`Error::InUse`] while the device still sends from its buffers.
pub fn unbind_first(kernel: &Kernel, env: &Env) -> Result<Progress, Error> {
    match object::get::<Binding>(&kernel.frames, env.bindings.get()) {
        None => Ok(Progress::Done),
        Some(first) => {
            let net = &mut *kernel.net.borrow_mut();
            binding::unbind_step(kernel, net, first)?;
            Ok(Progress::Again)
        }
    }
}

/// The interface's MAC address.
pub fn station(kernel: &Kernel) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = kernel.info.mac.load(Relaxed).to_le_bytes();
    [a, b, c, d, e, f]
}

/// A frame of an environment, or none: lists of objects end with frame 0.
pub(crate) const NOBODY: Pfn = Pfn(0);

#[cfg(test)]
mod tests;
