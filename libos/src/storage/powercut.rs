//! Every state that a power cut can leave.
//!
//! A [`Recorder`] is a device that notes each write and flush, and when its owner acknowledged
//! something. [`check`] goes through that trace: at every flush, every acknowledgement and the end
//! it cuts the power, and makes the states in which the device may be then. All that was flushed is
//! there; of the sectors written since, any may be missing, and those that were written twice may
//! have become durable in either order. From each the owner recovers, and must find what it
//! acknowledged last, or what it was about to acknowledge, and nothing between the two. Then the
//! power is cut while it recovers.
//!
//! An owner that acknowledges early says how much of it is durable by then ([`Recorder::promise`]):
//! it must find what it was after one of the acknowledgements since.
//!
//! Few sectors are tried in all combinations, many in some, chosen by a seed.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt::Debug;

use super::{Background, Block, Fault, MemoryDisk, SECTOR};

/// So many sectors that were not flushed are tried in all combinations.
const FEW: usize = 7;
/// So many combinations of more are tried.
const SOME: u64 = 160;

/// A device in memory that notes what happens to it. Clones are the same device. A job of the
/// background is done when it is looked at for the third time, which is never at once.
#[derive(Clone, Debug)]
pub struct Recorder {
    disk: Rc<RefCell<MemoryDisk>>,
    events: Rc<RefCell<Vec<Event>>>,
    /// How often the job will be looked at in vain.
    job: Rc<Cell<Option<u32>>>,
}

#[derive(Clone, Debug)]
enum Event {
    /// A sector was written.
    Write(u64, Box<[u8; SECTOR]>),
    Flush,
    /// Whether all that was acknowledged is durable.
    Acknowledged(bool),
    /// As many acknowledgements are durable.
    Promised(usize),
}

impl Recorder {
    /// A device that holds what `disk` does.
    #[must_use]
    pub fn new(disk: MemoryDisk) -> Self {
        Self { disk: Rc::new(RefCell::new(disk)), events: Rc::default(), job: Rc::default() }
    }

    /// The owner has acknowledged what it did last, which is durable.
    pub fn acknowledge(&self) {
        self.events.borrow_mut().push(Event::Acknowledged(true));
    }

    /// The owner has acknowledged what it did last, which need not be durable yet.
    pub fn acknowledge_early(&self) {
        self.events.borrow_mut().push(Event::Acknowledged(false));
    }

    /// The first `count` acknowledgements are of what is durable, says the owner.
    pub fn promise(&self, count: usize) {
        self.events.borrow_mut().push(Event::Promised(count));
    }

    /// What it holds now.
    #[must_use]
    pub fn contents(&self) -> MemoryDisk {
        self.disk.borrow().clone()
    }
}

impl Block for Recorder {
    fn sectors(&self) -> u64 {
        self.disk.borrow().sectors()
    }

    fn read(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        assert_eq!(self.job.get(), None, "read while a job is under way");
        self.disk.borrow_mut().read(first, bytes)
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        assert_eq!(self.job.get(), None, "written while a job is under way");
        self.disk.borrow_mut().write(first, bytes)?;
        let (sectors, _) = bytes.as_chunks();
        let writes =
            sectors.iter().zip(first..).map(|(bytes, at)| Event::Write(at, Box::new(*bytes)));
        self.events.borrow_mut().extend(writes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        assert_eq!(self.job.get(), None, "flushed while a job is under way");
        self.events.borrow_mut().push(Event::Flush);
        Ok(())
    }
}

impl Background for Recorder {
    fn begin(&mut self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.write(first, bytes)?;
        self.job.set(Some(2));
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<(), Fault>> {
        let left = self.job.get()?.checked_sub(1);
        self.job.set(left);
        left.is_none().then(|| self.flush())
    }
}

/// A state from which the owner did not recover what it should.
#[derive(Debug)]
pub struct Violation<T> {
    /// How often it had acknowledged something.
    pub acknowledged: usize,
    /// What it found.
    pub found: T,
    /// Which of the sectors that were not flushed were written, in order.
    pub durable: Vec<u64>,
    /// The number of the state.
    pub state: u64,
}

/// Cuts the power everywhere in what `recorder`, which held `before` at first, has noted. `recover`
/// is the owner's recovery, which returns what it finds; that must be what it was after so many
/// acknowledgements, of which `history` has an element for each, and one for none; or what it was
/// to be after one more; or, where fewer are promised to be durable, what it was after any in
/// between.
///
/// Returns how many states were tried.
///
/// # Errors
/// The first state from which something else was recovered.
pub fn check<T: PartialEq + Clone + Debug>(
    before: &MemoryDisk,
    recorder: &Recorder,
    history: &[T],
    seed: u64,
    mut recover: impl FnMut(Recorder) -> T,
) -> Result<u64, Violation<T>> {
    let mut cutter = Cutter { random: seed | 1, states: 0, recover: &mut recover };
    let mut durable = before.clone();
    let mut pending = Vec::new();
    let (mut acknowledged, mut promised) = (0, 0);
    for event in recorder.events.borrow().iter() {
        let mut cut = |promised: usize, acknowledged: usize| {
            let last = (acknowledged + 2).min(history.len());
            let allowed = history.get(promised..last).unwrap_or_default();
            cutter.cut(&durable, &pending, allowed, acknowledged)
        };
        match event {
            Event::Write(at, bytes) => pending.push((*at, **bytes)),
            Event::Acknowledged(durable) => {
                acknowledged += 1;
                promised = if *durable { acknowledged } else { promised };
                cut(promised, acknowledged)?;
            }
            Event::Promised(count) if *count > promised => {
                promised = *count;
                cut(promised, acknowledged)?;
            }
            Event::Promised(_) => {}
            Event::Flush => {
                cut(promised, acknowledged)?;
                pending.drain(..).for_each(|(at, bytes)| put(&mut durable, at, &bytes));
            }
        }
    }
    let allowed = history.get(promised..).unwrap_or_default();
    cutter.cut(&durable, &pending, allowed, acknowledged)?;
    Ok(cutter.states)
}

type Sectors = [(u64, [u8; SECTOR])];

struct Cutter<'a, R> {
    random: u64,
    states: u64,
    recover: &'a mut R,
}

impl<R> Cutter<'_, R> {
    /// Cuts the power where `durable` is flushed and `pending` is not.
    fn cut<T: PartialEq + Clone + Debug>(
        &mut self,
        durable: &MemoryDisk,
        pending: &Sectors,
        allowed: &[T],
        acknowledged: usize,
    ) -> Result<(), Violation<T>>
    where
        R: FnMut(Recorder) -> T,
    {
        let all = pending.len() <= FEW;
        let count = if all { 1 << pending.len() } else { SOME };
        for number in 0..count {
            let mut order: Vec<usize> = (0..pending.len()).collect();
            if all {
                order.retain(|&at| number >> at & 1 != 0);
            } else if number > 1 {
                // None and all are two of them; of the others each sector is there with the same
                // chance.
                let chance = self.next() % 8 + 1;
                order.retain(|_| self.next() % 9 < chance);
            } else if number == 0 {
                order.clear();
            }
            // What was written twice has one of the two contents; otherwise the order does not
            // matter.
            if self.next().is_multiple_of(2) {
                order.reverse();
            }
            let mut disk = durable.clone();
            let applied = order.iter().filter_map(|&at| pending.get(at));
            applied.clone().for_each(|(at, bytes)| put(&mut disk, *at, bytes));
            let applied: Vec<u64> = applied.map(|(at, _)| *at).collect();
            self.recovers(disk, allowed, acknowledged, applied)?;
        }
        Ok(())
    }

    /// Recovers from `disk`, and again after a cut while it does.
    fn recovers<T: PartialEq + Clone + Debug>(
        &mut self,
        disk: MemoryDisk,
        allowed: &[T],
        acknowledged: usize,
        durable: Vec<u64>,
    ) -> Result<(), Violation<T>>
    where
        R: FnMut(Recorder) -> T,
    {
        let recorder = Recorder::new(disk.clone());
        self.states += 1;
        let found = (self.recover)(recorder.clone());
        if !allowed.contains(&found) {
            return Err(Violation { acknowledged, found, durable, state: self.states });
        }
        // What it found once, it must find again, wherever the recovery was cut short.
        let mut again = disk;
        for event in recorder.events.borrow().iter() {
            if let Event::Write(at, bytes) = event
                && !self.next().is_multiple_of(3)
            {
                put(&mut again, *at, bytes);
            }
            if self.next().is_multiple_of(2) {
                break;
            }
        }
        self.states += 1;
        let second = (self.recover)(Recorder::new(again));
        if second == found {
            Ok(())
        } else {
            Err(Violation { acknowledged, found: second, durable, state: self.states })
        }
    }

    fn next(&mut self) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

fn put(disk: &mut MemoryDisk, at: u64, bytes: &[u8; SECTOR]) {
    // The recorder's device took it, and this one is as large.
    let _ = disk.write(at, bytes);
}
