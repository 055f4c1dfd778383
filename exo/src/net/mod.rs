//! The network interface, multiplexed by filters.
//!
//! The kernel owns the device; environments own packets. A scope says which packets are an
//! environment's to receive and, mirrored, to send. A binding is a pair of rings; filters sort
//! the packets of a scope among those of its bindings. Steps 1, 2, 3 and 6 of a packet's
//! journey lie here, one file each:
//!
//! | step | file |
//! |---|---|
//! | 1 receive | [`nic`] over [`crate::virtio`] |
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

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, Pfn};

use crate::env::{self, Env};
use crate::kernel::Kernel;
use crate::object;
use crate::state::State;
use binding::Binding;
use nic::Nic;
use scope::Entry;

/// What a packet of no length costs that arrives, and a way that it is made to try.
const PACKET: i32 = 300;
const WAY: i32 = 100;
/// What is copied costs a unit for so many bytes.
const BYTES: usize = 8;
/// Cycles of a period, of less than a slice.
const PERIOD: u64 = 1 << 20;
/// The most of that which packets of one account may cause in a period, beside one for each.
/// Then packets that would cause more are dropped before any filter is tried.
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
    let (work, period) = (&kernel.here().work, net.period);
    let had = work.left();
    let mut left = had as i32;
    // Every packet goes the ways of the first scope.
    let each = PACKET + WAY * kernel.network.entry(0).ways() as i32;
    while left > 0
        && let Some(packet) = nic.next_received()
    {
        crate::stamp!(Receive);
        received += 1;
        let frame = nic.contents(&packet);
        left -= each + (frame.len() / BYTES) as i32;
        let may = |key: &Entry| {
            let ways = key.ways();
            let may = ways == 0
                || key.account(kernel).is_some_and(|it| it.spend(period, ways, ACCOUNT_WORK));
            left -= WAY * if may { 1 + ways as i32 } else { 0 };
            may
        };
        let Some(sorted) = filter::classify(kernel, frame, may) else {
            overflowed += 1;
            nic.recycle(packet);
            continue;
        };
        crate::stamp!(Classify);
        let is_next = |run: &ring::Run| sorted == run.binding().frame();
        if !run.as_ref().is_some_and(is_next)
            && let Some(binding) = object::get::<Binding>(&kernel.frames, sorted)
            && let Some(before) = run.replace(ring::Run::begin(binding))
        {
            tell(kernel, before);
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
        tell(kernel, last);
    }
    work.spend(had - left.max(0) as u32);
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

fn tell(kernel: &Kernel, run: ring::Run) {
    if let Some(binding) = run.end()
        && let Some(owner) = kernel.env(binding.owner.get())
    {
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
    let (mut frames, mut lent) = (1, unlend(kernel, &first));
    while let Some(sender) = nic.next_sent() {
        if (sender.binding, sender.account) != (binding, account) {
            returned(kernel, binding, account, frames, lent);
            (binding, account, frames, lent) = (sender.binding, sender.account, 0, false);
        }
        frames += 1;
        lent |= unlend(kernel, &sender);
    }
    returned(kernel, binding, account, frames, lent);
}

/// Notes that the device reads no more from where this packet lies, if it did.
#[inline]
fn unlend(kernel: &Kernel, sender: &nic::Sender) -> bool {
    if let Some(slot) = sender.lends
        && let Some(binding) = object::get::<Binding>(&kernel.frames, sender.binding)
    {
        binding.set_lent(slot, false);
    }
    sender.lends.is_some()
}

/// The device is done with so many `frames` of this binding and account, of which it has read
/// some from the binding's memory if any were `lent`.
#[inline(never)]
fn returned(kernel: &Kernel, binding: Pfn, account: Pfn, frames: u32, lent: bool) {
    // An account may go while its packets are with the device, and another may come in
    // its place; then counts are too low for a moment, never too high. A binding that
    // lends memory stays.
    if let Some(account) = object::get::<scope::Scope>(&kernel.frames, account) {
        account.held.set(account.held.get().saturating_sub(frames));
    }
    if lent && let Some(binding) = object::get::<Binding>(&kernel.frames, binding) {
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
    net.nic.iter_mut().for_each(|nic| nic.remind(kernel.info));
}

/// After it was woken: no more interrupts, frames are looked for.
pub fn disarm(net: &mut Net) {
    net.nic.iter_mut().for_each(Nic::disarm);
}

/// Dissolves the first of `env`'s bindings, one step.
///
/// # Errors
/// [`Error::Again`] unless there was none; [`Error::InUse`] while the device still sends from its
/// buffers.
pub fn unbind_first(kernel: &Kernel, env: &Env) -> Result<(), Error> {
    let first = object::get::<Binding>(&kernel.frames, env.bindings.get());
    let Some(first) = first else { return Ok(()) };
    binding::unbind_step(kernel, &mut kernel.net.borrow_mut(), first)?;
    Err(Error::Again)
}

/// The interface's MAC address.
pub fn station(kernel: &Kernel) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = kernel.info.mac.load(Relaxed).to_le_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests;
