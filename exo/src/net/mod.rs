//! The network interface, multiplexed by filters.
//!
//! The kernel owns the device; environments own packets. A scope says which packets are an
//! environment's to receive and, mirrored, to send. A binding is a pair of rings; filters sort
//! the packets of a scope among those of its bindings. Steps 1, 2, 3 and 6 of a packet's
//! journey lie here, one file each:
//!
//! | step | file |
//! |---|---|
//! | 1 receive | [`nic`] over [`virtqueue`] |
//! | 2 classify | [`filter`] over [`storage`] |
//! | 3 deliver | [`ring`] |
//! | 6 transmit | [`transmit`], then [`nic`] |
//!
//! [`scope`] is about authority, [`binding`] about what an environment makes of it.

pub mod binding;
pub mod filter;
pub mod nic;
pub mod ring;
pub mod scope;
pub mod storage;
pub mod transmit;
pub mod virtqueue;

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, Pfn};

use crate::capability::Progress;
use crate::env::{self, Env};
use crate::kernel::Kernel;
use crate::object;
use crate::state::State;
use binding::Binding;
use filter::Owner;
use nic::Nic;
use scope::Entry;

/// Work done on received packets in one call, to bound its time: one for each packet, and one
/// more for each way that its owner's filters can make it try beside the first.
const RECEIVE_WORK: u32 = 128;
/// Cycles of a period, of less than a slice.
const PERIOD: u64 = 1 << 20;
/// The most of that which packets of one account may cause in a period, beside one for each.
/// Then those that would cause more are dropped before any filter is tried.
const ACCOUNT_WORK: u32 = 2 * filter::FORKS;

/// The device, if there is one.
#[derive(Default)]
pub struct Net {
    /// The network interface.
    pub nic: Option<Nic>,
    /// Counts periods in which an account may cause so much work.
    period: u32,
}

impl Net {
    /// With this interface; nothing has been claimed.
    pub fn new(nic: Option<Nic>) -> Self {
        Self { nic, period: 0 }
    }

    /// Says what the time-stamp counter is; now and then every account may cause work anew.
    #[inline]
    pub fn set_time(&mut self, now: u64) {
        self.period = (now / PERIOD) as u32;
    }
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
    let mut work = 0;
    while work < RECEIVE_WORK
        && let Some(packet) = nic.next_received()
    {
        crate::stamp!(Receive);
        received += 1;
        let frame = nic.contents(&packet);
        work += 1;
        let sorted = match filter::owner(kernel, frame) {
            Owner::Sorted(pfn) => Some(pfn),
            Owner::Key(key) => match charge(kernel, net.period, key) {
                Some(more) => {
                    work += more;
                    filter::sort(kernel, key, frame)
                }
                None => {
                    overflowed += 1;
                    nic.recycle(packet);
                    continue;
                }
            },
        };
        crate::stamp!(Classify);
        let is_next = |run: &ring::Run| sorted == Some(run.binding().frame());
        if !run.as_ref().is_some_and(is_next)
            && let Some(binding) =
                sorted.and_then(|pfn| object::get::<Binding>(&kernel.frames, pfn))
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
        State::count(&info.received, received.into());
        State::count(&info.copied, copied);
        if unclaimed | overflowed != 0 {
            State::count(&info.unclaimed, unclaimed.into());
            State::count(&info.overflowed, overflowed.into());
        }
        nic.offer_most_buffers(info);
    }
}

/// Charges what the filters behind a key can cost a packet, beside the first unit, to their
/// account: how much; `None` if it has spent what it may.
fn charge(kernel: &Kernel, period: u32, key: &Entry) -> Option<u32> {
    let more = key.filters.get().forks();
    if more != 0 && !key.scope(kernel)?.account()?.spend(period, more, ACCOUNT_WORK) {
        return None;
    }
    Some(more)
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
    let (mut binding, mut account) = (first.binding, first.account);
    let (mut frames, mut lent) = (1, u32::from(first.lends));
    while let Some(sender) = nic.next_sent() {
        if (sender.binding, sender.account) != (binding, account) {
            returned(kernel, binding, account, frames, lent);
            (binding, account, frames, lent) = (sender.binding, sender.account, 0, 0);
        }
        frames += 1;
        lent += u32::from(sender.lends);
    }
    returned(kernel, binding, account, frames, lent);
}

/// The device is done with so many `frames` of this binding and account, of which it has read
/// `lent` from the binding's memory.
fn returned(kernel: &Kernel, binding: Pfn, account: Pfn, frames: u32, lent: u32) {
    // An account may go while its packets are with the device, and another may come in
    // its place; then counts are too low for a moment, never too high. A binding that
    // lends memory stays.
    if let Some(account) = object::get::<scope::Scope>(&kernel.frames, account) {
        account.held.set(account.held.get().saturating_sub(frames));
    }
    if lent != 0
        && let Some(binding) = object::get::<Binding>(&kernel.frames, binding)
    {
        binding.in_flight.set(binding.in_flight.get().saturating_sub(lent));
        ring::publish_sent(binding);
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
