//! Wakeup predicates: two that take turns by a byte of memory, each asleep until it is
//! its own. Neither is told of the other's write; the kernel tries the condition.

use dpf::{Atom, Filter, MAX_WIRE};
use exo_abi::{Error, UserPtr, VirtAddr};
use libos::sys;
use ruler::SAMPLES;
use selftest::child::{SHARED, exit};
use selftest::frames::{read, write};

use crate::environments::Setting;

/// The word of the shared page that says which side's turn it is, and what it says.
const TURN: usize = 0;
const OURS: u64 = 1;
const PARTNERS: u64 = 2;

/// Half of a hand-off and back: a store, and a sleep until the other has stored.
pub(crate) fn measure(setting: &Setting<'_>) -> Result<(), Error> {
    let child = setting.child()?;
    write(setting.shared, TURN, OURS);
    child.start(takes_turns, 0)?;
    let ours = Condition::new(OURS)?;
    let samples = setting.counter.samples(SAMPLES, || {
        write(setting.shared, TURN, PARTNERS);
        ours.sleep(setting.shared)?;
        // The partner alone has written that.
        if read(setting.shared, TURN) == OURS { Ok(()) } else { Err(Error::WrongState) }
    })?;
    setting.counter.print("wait-until", 2, samples);
    child.destroy()
}

extern "C" fn takes_turns(_: u64) -> ! {
    let Ok(own) = Condition::new(PARTNERS) else { exit(1) };
    loop {
        if own.sleep(SHARED).is_err() {
            exit(2);
        }
        write(SHARED, TURN, OURS);
    }
}

/// That it is a certain side's turn, as the kernel takes it.
struct Condition {
    wire: [u8; MAX_WIRE],
    length: usize,
}

impl Condition {
    fn new(turn: u64) -> Result<Self, Error> {
        let mut wire = [0; MAX_WIRE];
        let atoms = [Atom::exact(TURN as u16, 1, turn)];
        let filter = Filter::new(&atoms).map_err(|_| Error::BadFilter)?;
        let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
        Ok(Self { wire, length })
    }

    /// Sleeps until it holds for the page at `page`. No deadline: nothing else wakes it.
    #[inline(always)]
    fn sleep(&self, page: VirtAddr) -> Result<(), Error> {
        let wire = UserPtr(self.wire.as_ptr().expose_provenance() as u64);
        sys::wait_until(wire, self.length as u64, UserPtr(page.get()), 0).map(drop)
    }
}
