//! Two environments that take turns on the one processor.
//!
//! The partner shares a page with the program; what it counts there shows that each
//! turn was taken.
//!
//! | file | what two do with each other |
//! |---|---|
//! | this one | give way, wake |
//! | [`transfers`] | call and send |
//! | [`predicates`] | sleep until the other has written |
//! | [`revocation`] | ask for a frame, and take one |
//! | [`grants`] | give a capability, and take it back |

use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::boot::SELF;
use exo_abi::{Error, EventCount, Handle, Pfn, Rights, VirtAddr, Word};
use libos::sys;
use ruler::{Counter, SAMPLES, WARM_UP, timestamp};
use selftest::child::{Child, Maker, SHARED, exit};
use selftest::frames::{read, window, write};

use crate::{grants, predicates, revocation, transfers, u_area};

/// Where the program sees the page that it shares with its partner.
const WINDOW: u32 = 17;
/// What a word of the shared page holds: how often the partner ran.
const TURNS: usize = 0;
/// And another: when it rang.
const RANG: usize = 8;
/// Ticks of patience with a partner: a guard against hanging.
pub(crate) const PATIENCE: u64 = 1 << 34;

/// What the measurements share.
pub(crate) struct Setting<'a> {
    pub(crate) counter: &'a Counter,
    pub(crate) maker: &'a Maker,
    /// The page that partners find at [`SHARED`], as the program sees it.
    pub(crate) shared: VirtAddr,
    frame: Pfn,
}

pub(crate) fn measure(counter: &Counter, maker: &Maker) -> Result<(), Error> {
    let shared = window(WINDOW);
    let frame = maker.frames.page(shared)?;
    let setting = Setting { counter, maker, shared, frame };
    setting.slice_yield()?;
    setting.slice_donate()?;
    setting.wake()?;
    transfers::measure(&setting)?;
    predicates::measure(&setting)?;
    revocation::measure(&setting)?;
    grants::measure(&setting)?;
    maker.frames.drop_page(shared, frame)
}

impl Setting<'_> {
    /// A partner that has the shared page, and no time yet.
    pub(crate) fn child(&self) -> Result<Child<'_>, Error> {
        let child = self.maker.child()?;
        child.share(self.frame)?;
        Ok(child)
    }

    fn slice_yield(&self) -> Result<(), Error> {
        let child = self.child()?;
        child.start(yields, 0)?;
        self.turns("yield", || sys::slice_yield().map(drop))?;
        child.destroy()
    }

    /// Each names the other. The partner has no slot: it runs only when it is given
    /// what is left of the program's slice, and gives that back.
    fn slice_donate(&self) -> Result<(), Error> {
        let child = self.child()?;
        let known = Handle::from_word(sys::cap_derive(SELF, Rights::GRANT, 0, 0)?)?;
        let itself = sys::cap_grant(known, child.env)?;
        child.start(donates, itself)?;
        let keeper = self.maker.keeper().ok_or(Error::WrongState)?;
        sys::slots_assign(child.env, self.maker.slot(), 1, keeper)?;
        self.turns("donate", || sys::slice_donate(child.env).map(drop))?;
        child.destroy()?;
        sys::cap_drop(known).map(drop)
    }

    /// Measures round trips in which the partner ran exactly once, and prints their line.
    #[inline(always)]
    fn turns(&self, name: &str, give_way: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        let samples = self.counter.turns(|| read(self.shared, TURNS), give_way)?;
        self.counter.print(name, 1, samples);
        Ok(())
    }

    /// From the call that rings until the program, asleep, runs. The caller yields then.
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
                samples.push(self.counter.between(rang, woke));
            }
        }
        child.destroy()?;
        sys::cap_drop(bell)?;
        self.counter.print("wake", 1, samples);
        Ok(())
    }
}

extern "C" fn yields(_: u64) -> ! {
    loop {
        write(SHARED, TURNS, read(SHARED, TURNS) + 1);
        let _ = sys::slice_yield();
    }
}

extern "C" fn donates(maker: u64) -> ! {
    let Ok(maker) = Handle::from_word(maker) else { exit(1) };
    loop {
        write(SHARED, TURNS, read(SHARED, TURNS) + 1);
        if sys::slice_donate(maker).is_err() {
            exit(2);
        }
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
