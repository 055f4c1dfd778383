//! The interleavings of two processors that do three things each.
//!
//! The model has what the protocol is about: a page table with one entry, in an address space
//! that both have loaded; for each processor the translation that it caches, its door, its
//! mark and its pending interrupt; and the lock. The functions explored are the kernel's own.
//! What must hold: when [`expel`] is over, no processor writes through the old translation.

use loom::cell::Cell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::{Door, Seen, enter, expel, leave};

impl Door for AtomicBool {
    fn set(&self, outside: bool) {
        self.store(outside, Ordering::Release);
    }
}

impl Seen for AtomicBool {
    fn is_outside(&self) -> bool {
        self.load(Ordering::Acquire)
    }
}

/// Most times that a processor is interrupted by the other's steps where it could have gone on.
/// Within that every interleaving is explored; without a bound the longest programs take hours.
const PREEMPTIONS: usize = 2;

/// What a processor does next in ring 3.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    /// Writes to the page, if it can be reached.
    Write,
    /// Makes a call that changes nothing.
    Call,
    /// Makes a call that takes the page's mapping away, and the frame with it.
    Unmap,
}

const STEPS: [Step; 3] = [Step::Write, Step::Call, Step::Unmap];

/// What the lock guards.
struct Shared {
    /// Whether the page table maps the page.
    mapped: bool,
    stale: [bool; 2],
}

struct Machine {
    shared: Mutex<Shared>,
    doors: [AtomicBool; 2],
    interrupts: [AtomicBool; 2],
    /// The same as `Shared::mapped`, as the processor's walk of the page table sees it.
    entry: AtomicBool,
    /// The frame, a word of it for each processor to write to. It is another's when its mapping
    /// has been taken away: then a write to it is a breach.
    frame: [Cell<usize>; 2],
    /// Whether it has been.
    freed: Cell<bool>,
}

/// Which of the kernel's steps are left out, to see that the test would notice.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoMark,
    NoWait,
    LeavesAfterUnlock,
}

/// A processor in ring 3.
struct Processor<'a> {
    machine: &'a Machine,
    number: usize,
    /// Whether it caches the translation.
    cached: bool,
    fault: Fault,
}

impl Processor<'_> {
    fn others(&self) -> usize {
        1 - self.number
    }

    /// Serves a call or an interrupt.
    fn ring_0(&mut self, unmaps: bool) {
        let machine = self.machine;
        enter(&machine.doors[self.number]);
        machine.interrupts[self.number].store(false, Ordering::Relaxed);
        let mut shared = machine.shared.lock().unwrap();
        if std::mem::take(&mut shared.stale[self.number]) {
            self.cached = false;
        }
        if unmaps && shared.mapped {
            shared.mapped = false;
            machine.entry.store(false, Ordering::Relaxed);
            self.cached = false;
            let other = self.others();
            shared.stale[other] = self.fault != Fault::NoMark;
            if self.fault != Fault::NoWait {
                let interrupt = || machine.interrupts[other].store(true, Ordering::Release);
                expel(&machine.doors[other], interrupt, thread::yield_now);
            }
            // It belongs to another environment from here on, which writes to it.
            machine.freed.set(true);
            machine.frame.iter().for_each(|word| word.set(0));
        }
        if self.fault == Fault::LeavesAfterUnlock {
            drop(shared);
            leave(&machine.doors[self.number]);
        } else {
            leave(&machine.doors[self.number]);
            drop(shared);
        }
    }

    /// Takes an interrupt, as a processor does between instructions.
    fn look_up(&mut self) {
        if self.machine.interrupts[self.number].load(Ordering::Acquire) {
            self.ring_0(false);
        }
    }

    fn step(&mut self, step: Step) {
        self.look_up();
        match step {
            Step::Write => {
                self.cached = self.cached || self.machine.entry.load(Ordering::Relaxed);
                if self.cached {
                    // loom reports a write that is not ordered before the new owner's.
                    self.machine.frame[self.number].set(1);
                    assert!(!self.machine.freed.get(), "another's frame");
                }
            }
            Step::Call => self.ring_0(false),
            Step::Unmap => self.ring_0(true),
        }
    }

    /// Its program, and then what keeps a processor that waits from waiting for ever: there is
    /// always a next instruction.
    fn run(mut self, program: [Step; 3]) {
        for step in program {
            self.step(step);
        }
        enter(&self.machine.doors[self.number]);
    }
}

// SAFETY: loom says so if two processors use the cell at a time that are not ordered.
unsafe impl Sync for Machine {}

/// Explores both programs, in all interleavings.
fn explore(programs: [[Step; 3]; 2], fault: Fault) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let machine = Arc::new(Machine {
            shared: Mutex::new(Shared { mapped: true, stale: [false; 2] }),
            doors: [AtomicBool::new(true), AtomicBool::new(true)],
            interrupts: [AtomicBool::new(false), AtomicBool::new(false)],
            entry: AtomicBool::new(true),
            frame: [Cell::new(0), Cell::new(0)],
            freed: Cell::new(false),
        });
        let other = machine.clone();
        let other = thread::spawn(move || {
            let machine = &*other;
            Processor { machine, number: 1, cached: true, fault }.run(programs[1]);
        });
        let machine = &*machine;
        Processor { machine, number: 0, cached: true, fault }.run(programs[0]);
        other.join().unwrap();
    });
}

/// Each pair of programs once: the two processors are alike. Without an unmap there is nothing
/// to see, and the second of two does nothing more than a call.
fn pairs() -> Vec<[[Step; 3]; 2]> {
    let programs = || {
        let steps = || STEPS.into_iter();
        steps().flat_map(move |a| steps().flat_map(move |b| steps().map(move |c| [a, b, c])))
    };
    let unmaps = |program: &[Step; 3]| program.iter().filter(|it| **it == Step::Unmap).count();
    let programs: Vec<_> = programs().filter(|program| unmaps(program) <= 1).collect();
    let mut pairs = Vec::new();
    for (index, one) in programs.iter().enumerate() {
        let others = &programs[..=index];
        pairs.extend(others.iter().map(|other| [*one, *other]));
    }
    pairs.retain(|[one, other]| unmaps(one) + unmaps(other) > 0);
    pairs
}

#[test]
fn no_translation_outlives_a_shootdown() {
    for programs in pairs() {
        explore(programs, Fault::None);
    }
}

#[test]
fn each_part_of_the_protocol_is_needed() {
    let programs = [[Step::Unmap, Step::Call, Step::Call], [Step::Call, Step::Write, Step::Write]];
    for fault in [Fault::NoMark, Fault::NoWait, Fault::LeavesAfterUnlock] {
        let explored = std::panic::catch_unwind(|| explore(programs, fault));
        assert!(explored.is_err(), "without it nothing happens");
    }
}
