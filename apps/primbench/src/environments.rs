//! Two environments that take turns on the one processor.
//!
//! The partner shares a page with the program; what it counts there shows that each
//! turn was taken.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{EnvState, Error, EventCount, Handle, Pfn, VirtAddr, Word};
use libos::sys;
use libos::transfer::{self, Message, Remote};
use selftest::child::{Child, Code, Maker, SHARED, exit};
use selftest::frames::{read, window, write};

use crate::counter::{Counter, SAMPLES, WARM_UP, print, timestamp};
use crate::u_area;

/// Where the program sees the page that it shares with its partner.
const WINDOW: u32 = 17;
/// Where its entry's stack lies.
const STACK: u32 = 20;
/// What a word of the shared page holds: how often the partner ran.
const TURNS: usize = 0;
/// And another: when it rang.
const RANG: usize = 8;
/// Samples that a page has room for.
const PAGEFUL: usize = 500;
/// Ticks of patience with a partner: a guard against hanging.
const PATIENCE: u64 = 1 << 34;

/// What the measurements share.
struct Setting<'a> {
    counter: &'a Counter,
    maker: &'a Maker,
    /// The shared page, here and there.
    shared: VirtAddr,
    frame: Pfn,
}

pub(crate) fn measure(counter: &Counter, maker: &Maker) -> Result<(), Error> {
    let shared = window(WINDOW);
    let frame = maker.frames.page(shared)?;
    let setting = Setting { counter, maker, shared, frame };
    setting.slice_yield()?;
    setting.wake()?;
    setting.transfers()?;
    maker.frames.drop_page(shared, frame)
}

impl Setting<'_> {
    fn child(&self) -> Result<Child<'_>, Error> {
        let child = self.maker.child()?;
        child.share(self.frame)?;
        Ok(child)
    }

    /// Round trips in which the partner ran exactly once.
    fn slice_yield(&self) -> Result<(), Error> {
        let child = self.child()?;
        child.start(yields, 0)?;
        for _ in 0..WARM_UP {
            sys::slice_yield()?;
        }
        let mut samples = Vec::with_capacity(SAMPLES);
        for _ in 0..10 * SAMPLES {
            let before = read(self.shared, TURNS);
            let start = timestamp();
            sys::slice_yield()?;
            let end = timestamp();
            if read(self.shared, TURNS) == before + 1 && samples.len() < SAMPLES {
                samples.push((end - start).saturating_sub(self.counter.overhead()));
            }
        }
        child.destroy()?;
        print("yield", 1, samples);
        Ok(())
    }

    /// From the call that rings until the program, asleep, runs. Who rings yields then.
    fn wake(&self) -> Result<(), Error> {
        let bell = Handle::from_word(sys::doorbell_create()?)?;
        let child = self.child()?;
        child.start(rings, sys::cap_grant(bell, child.env)?)?;
        let area = u_area();
        let mut samples = Vec::with_capacity(SAMPLES);
        for number in 0..WARM_UP + SAMPLES {
            let seen = EventCount(area.events.load(Acquire));
            // No deadline: nothing else wakes it.
            sys::wait(seen, 0)?;
            let woke = timestamp();
            let rang = read(self.shared, RANG);
            area.ring.consumed.store(area.ring.produced.load(Acquire), Relaxed);
            if number >= WARM_UP {
                samples.push((woke - rang).saturating_sub(self.counter.overhead()));
            }
        }
        child.destroy()?;
        sys::cap_drop(bell)?;
        print("wake", 1, samples);
        Ok(())
    }

    /// Half of a call and its reply: with an entry that replies at once, and with a
    /// Rust function that adds.
    fn transfers(&self) -> Result<(), Error> {
        let stack = window(STACK);
        let frame = self.maker.frames.page(stack)?;
        let top = stack.plus(1).ok_or(Error::BadAddress)?.get();
        // SAFETY: the page was made for this, and nothing else uses it.
        let entries =
            unsafe { [transfer::offer(0, replies, top)?, transfer::offer(1, adds, top)?] };
        self.transfer("transfer", calls_bare, entries[0])?;
        self.transfer("transfer-libos", calls_typed, entries[1])?;
        for entry in entries {
            sys::cap_drop(entry)?;
        }
        self.maker.frames.drop_page(stack, frame)
    }

    /// The partner calls, and leaves its samples in the shared page.
    fn transfer(&self, name: &str, code: Code, entry: Handle) -> Result<(), Error> {
        let child = self.child()?;
        child.start(code, sys::cap_grant(entry, child.env)?)?;
        let status = child.wait(PATIENCE)?.ok_or(Error::Again)?;
        if (status.state, status.code) != (EnvState::Exited as u32, 0) {
            return Err(Error::WrongState);
        }
        let sample =
            |index: usize| read(self.shared, index * 8).saturating_sub(self.counter.overhead());
        print(name, 2, (0..PAGEFUL).map(sample).collect());
        child.destroy()
    }
}

extern "C" fn yields(_: u64) -> ! {
    loop {
        write(SHARED, TURNS, read(SHARED, TURNS) + 1);
        let _ = sys::slice_yield();
    }
}

extern "C" fn rings(bell: u64) -> ! {
    let Ok(bell) = Handle::from_word(bell) else { exit(1) };
    loop {
        write(SHARED, RANG, timestamp());
        if sys::doorbell_ring(bell).is_err() {
            exit(2);
        }
        let _ = sys::slice_yield();
    }
}

extern "C" fn calls_bare(entry: u64) -> ! {
    let Ok(entry) = Handle::from_word(entry) else { exit(1) };
    // The other side leaves the message registers as they are, so that the bare call
    // preserves what Rust expects.
    fill(|| sys::transfer_call(entry, Handle::NONE).is_ok())
}

extern "C" fn calls_typed(entry: u64) -> ! {
    let Ok(entry) = Handle::from_word(entry) else { exit(1) };
    let add = Remote::<(u64, u64), u64>::new(entry);
    fill(|| add.call((2, 3)) == Ok(5))
}

/// Fills the shared page with samples of `call`, and ends.
#[inline(always)]
fn fill(call: impl Fn() -> bool) -> ! {
    for index in 0..WARM_UP + PAGEFUL {
        let start = timestamp();
        let done = call();
        let end = timestamp();
        if !done {
            exit(2);
        }
        write(SHARED, index.saturating_sub(WARM_UP) * 8, end - start);
    }
    exit(0)
}

/// An entry point that replies with what it was called with.
use libos::transfer::reply as replies;

libos::entry_point! {
    /// An entry point that replies with a sum.
    adds => add
}

extern "C" fn add(_: u64, _: u64, message: &mut Message) {
    message[0] = message[0].wrapping_add(message[1]);
}
