//! Processor time: the slice vector, and sleeping.
//!
//! Slots belong to environments by position; the processor goes round them, and
//! each is one slice long. A slot whose owner sleeps is skipped, so idle time
//! goes to whoever can use it. That is all the kernel decides: how slots are
//! spread over environments is the business of whoever holds them.
//!
//! Who owns a slot is in [`SystemInfo`]; whose owner is ready is a bit here, kept
//! current when an environment's state changes, so that finding who runs next
//! takes constant time on the way of every packet. Each processor has a vector of
//! its own, and slots are numbered through.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, EnvState, Pfn, SLOT_COUNT};

use crate::cores::{MAX_CORES, number};
use crate::env::{self, Env, transfer};
use crate::kernel::Kernel;
use crate::object;

/// Length of a slice in microseconds.
pub const SLICE_MICROSECONDS: u64 = 1000;

/// Later than any deadline.
const NEVER: u64 = u64::MAX;

/// What goes with the slice vector.
pub struct Schedule {
    cursor: Cell<u32>,
    /// One bit per slot whose owner may be able to run.
    pub(crate) ready: Cell<u64>,
    /// No deadline of a sleeping environment is earlier.
    pub(crate) nearest: Cell<u64>,
    /// Who gets the rest of the slice.
    heir: Cell<EnvId>,
    /// Decisions so far about which environment runs; and in the last of which a condition
    /// on memory was looked at.
    decisions: Cell<u64>,
    watched: Cell<u64>,
}

const NOBODY: EnvId = EnvId(0);

/// An environment that pays for time. It stays in debt to itself only: once it is gone
/// none pays, whichever environment its number names then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payer {
    env: EnvId,
    generation: u32,
}

impl Payer {
    /// The environment `env`, if there is one.
    pub fn new(kernel: &Kernel, env: EnvId) -> Self {
        Self { env, generation: kernel.frames.generation(Pfn(env.0)) }
    }

    /// The owner of slot `slot` of this processor.
    pub fn of_slot(kernel: &Kernel, slot: u32) -> Self {
        let number = number() * SLOT_COUNT + slot as usize;
        let owner = kernel.info.slots.owners.get(number).map_or(0, |owner| owner.load(Relaxed));
        Self::new(kernel, EnvId(owner))
    }

    /// It took `ticks` that it was not given.
    pub fn charge(self, kernel: &Kernel, ticks: u64) {
        let env = object::get_live::<Env>(&kernel.frames, Pfn(self.env.0), self.generation);
        if let Some(env) = env {
            env.debt.set(env.debt.get().saturating_add(ticks));
        }
    }
}

/// A slice on the processor's timer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Its slot.
    pub slot: u32,
    /// Whose slot that was when it began.
    pub payer: Payer,
    /// When it is over, by the time-stamp counter.
    pub end: u64,
}

impl Slice {
    /// It ends `now`: what was taken beyond its end is charged, and `least` at least. No
    /// more than a slice, which is longer than anything that ring 0 does: what is later
    /// than that was the machine's doing.
    pub fn charge(self, kernel: &Kernel, now: u64, least: u64) {
        let late = now.saturating_sub(self.end).min(slice(kernel));
        self.payer.charge(kernel, late.max(least));
    }
}

/// Length of a slice in ticks of the time-stamp counter.
#[inline]
pub fn slice(kernel: &Kernel) -> u64 {
    kernel.info.tsc_hz.load(Relaxed) / (1_000_000 / SLICE_MICROSECONDS)
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new()
    }
}

impl Schedule {
    /// A schedule in which nobody is ready.
    pub const fn new() -> Self {
        Self {
            cursor: Cell::new(0),
            ready: Cell::new(0),
            nearest: Cell::new(NEVER),
            heir: Cell::new(NOBODY),
            decisions: Cell::new(0),
            watched: Cell::new(0),
        }
    }

    /// Ends the slice: the next look starts behind the current slot.
    pub fn end_slice(&self) {
        self.cursor.set((self.cursor.get() + 1) % SLOT_COUNT as u32);
        // There is no rest of it to give away.
        self.heir.set(NOBODY);
    }

    /// The current slot.
    pub fn slot(&self) -> u32 {
        self.cursor.get()
    }

    /// Whether an environment waits for a condition that did not hold in this decision, and
    /// has to be tried now and then.
    pub fn watches(&self) -> bool {
        self.watched.get() == self.decisions.get()
    }

    /// Notes that there is such a one. Returns the decision: no other, of whichever
    /// processor, has the same number.
    pub(crate) fn watches_in_decision(&self) -> u64 {
        self.watched.set(self.decisions.get());
        self.decisions.get() * MAX_CORES as u64 + number() as u64
    }

    /// Whether no environment runs before something happens.
    #[inline]
    pub fn rests(&self) -> bool {
        self.ready.get() == 0 && self.heir.get() == NOBODY
    }

    /// Notes that somebody sleeps until `deadline`.
    pub fn expect(&self, deadline: u64) {
        self.nearest.set(self.nearest.get().min(deadline));
    }

    fn set_ready(&self, slots: u64, ready: bool) {
        let others = self.ready.get() & !slots;
        self.ready.set(if ready { others | slots } else { others });
    }
}

/// The owner of a slot.
fn owner(kernel: &Kernel, slot: u32) -> Option<&'static Env> {
    let owner = kernel.info.slots.owners.get(slot as usize)?.load(Relaxed);
    if owner == 0 { None } else { kernel.env(EnvId(owner)) }
}

/// Changes what `env` is doing.
#[inline]
pub fn set_state(kernel: &Kernel, env: &Env, state: EnvState) {
    env.set_state(state);
    let may_run = env.may_run();
    if !kernel.has_others() {
        let [core, ..] = &kernel.cores;
        return core.schedule.set_ready(env.slots[0].get(), may_run);
    }
    for (core, slots) in kernel.cores.iter().zip(&env.slots) {
        core.schedule.set_ready(slots.get(), may_run);
    }
    if may_run {
        kernel.wake_core(env);
    }
}

/// The processor of a slot, and the slot's bit there.
fn place(kernel: &Kernel, slot: u32) -> Option<(usize, &Schedule, u64)> {
    let number = slot as usize / SLOT_COUNT;
    Some((number, &kernel.cores.get(number)?.schedule, 1 << (slot as usize % SLOT_COUNT)))
}

/// What [`assign`] costs.
pub const ASSIGN: u32 = 250;

/// Gives slot `slot` to `heir`, or to nobody.
pub fn assign(kernel: &Kernel, slot: u32, heir: Option<&'static Env>) {
    let Some((number, schedule, bit)) = place(kernel, slot) else { return };
    let Some(entry) = kernel.info.slots.owners.get(slot as usize) else { return };
    if let Some(owner) = owner(kernel, slot) {
        owner.slots[number].set(owner.slots[number].get() & !bit);
    }
    entry.store(heir.map_or(0, |heir| heir.id().0), Relaxed);
    schedule.set_ready(bit, heir.is_some_and(Env::may_run));
    let Some(heir) = heir else { return };
    heir.slots[number].set(heir.slots[number].get() | bit);
    // A deadline that passed while it owned no slot is still to be noticed.
    if let Some((_, deadline)) = sleeper(kernel, heir) {
        kernel.here().schedule.expect(deadline);
    }
    if heir.may_run() {
        kernel.wake_core(heir);
    }
}

/// Whether `env` owns the `count` slots from `first` on.
pub fn owns(env: &Env, first: u32, count: u32) -> bool {
    let has = |slot: u32| {
        let slots = env.slots.get(slot as usize / SLOT_COUNT).map_or(0, Cell::get);
        slots >> (slot as usize % SLOT_COUNT) & 1 == 1
    };
    let end = first.checked_add(count).filter(|_| count as usize <= SLOT_COUNT);
    end.is_some_and(|end| (first..end).all(has))
}

/// Takes all slots of `env` away.
pub fn forget(kernel: &Kernel, env: &Env) {
    for (slots, number) in env.slots.iter().zip(0..) {
        while slots.get() != 0 {
            let first = number * SLOT_COUNT as u32;
            assign(kernel, first + slots.get().trailing_zeros(), None);
        }
    }
}

/// The environment to run now: whoever was given the rest of this slice, or the
/// owner of the next slot whose owner is ready, or whom that owner waits for in a
/// protected call.
#[inline]
pub fn next_ready(kernel: &Kernel) -> Option<&'static Env> {
    let schedule = &kernel.here().schedule;
    schedule.decisions.set(schedule.decisions.get() + 1);
    if schedule.heir.get() != NOBODY {
        let heir = kernel.env(schedule.heir.replace(NOBODY));
        if let Some(heir) = heir.and_then(|heir| transfer::end_of_line(kernel, heir)) {
            return Some(heir);
        }
    }
    let mut passed_over = None;
    let first = (number() * SLOT_COUNT) as u32;
    let mut ahead = schedule.ready.get().rotate_right(schedule.cursor.get());
    while ahead != 0 {
        let slot = (schedule.cursor.get() + ahead.trailing_zeros()) % SLOT_COUNT as u32;
        ahead &= ahead - 1;
        let Some(env) = owner(kernel, first + slot) else { continue };
        if let Some(runs) = transfer::end_of_line(kernel, env) {
            let debt = env.debt.get();
            if !owes(kernel, env) {
                schedule.cursor.set(slot);
                return Some(runs);
            }
            // An environment that owes a slice loses the next slot, unless no other wants it;
            // either way it is paid for then, or the debt of one that was alone for
            // long would keep it from running when it no longer is.
            env.debt.set(debt - slice(kernel));
            passed_over = passed_over.or(Some((slot, runs)));
        }
    }
    let (slot, runs) = passed_over?;
    schedule.cursor.set(slot);
    Some(runs)
}

/// Whether `env` owes a slice or more, and so loses a turn.
#[inline]
fn owes(kernel: &Kernel, env: &Env) -> bool {
    let debt = env.debt.get();
    debt != 0 && debt >= slice(kernel)
}

/// Whether [`next_ready`] would choose `env`, which sleeps or has woken on this processor,
/// because the current slot is its own; if false, it may choose it all the same.
#[inline]
pub fn is_its_turn(kernel: &Kernel, env: &Env) -> bool {
    let schedule = &kernel.here().schedule;
    let slots = env.slots[number() % MAX_CORES].get();
    env.state() == EnvState::Ready
        && slots >> (schedule.cursor.get() % SLOT_COUNT as u32) & 1 == 1
        && schedule.heir.get() == NOBODY
        && !owes(kernel, env)
}

/// Gives the rest of the current slice to `heir`.
pub fn donate(kernel: &Kernel, heir: &Env) {
    kernel.here().schedule.heir.set(heir.id());
}

/// Wakes whoever's deadline has passed. Returns the nearest deadline left.
#[inline]
pub fn wake_expired(kernel: &Kernel, now: u64) -> Option<u64> {
    let nearest = kernel.here().schedule.nearest.get();
    match nearest {
        NEVER => None,
        later if later > now => Some(later),
        _ => look_at_deadlines(kernel, now),
    }
}

/// Whoever the slots of `env` are for now, the environment itself or whom it waits for
/// in a protected call, if it sleeps until a deadline; and that deadline.
pub(crate) fn sleeper(kernel: &Kernel, env: &'static Env) -> Option<(&'static Env, u64)> {
    let sleeper = transfer::last_of_line(kernel, env)?;
    let deadline = sleeper.deadline.get();
    (sleeper.state() == EnvState::Waiting && deadline != 0).then_some((sleeper, deadline))
}

#[inline(never)]
fn look_at_deadlines(kernel: &Kernel, now: u64) -> Option<u64> {
    let mut nearest = NEVER;
    let slots = (kernel.started().count() * SLOT_COUNT) as u32;
    for env in (0..slots).filter_map(|slot| owner(kernel, slot)) {
        match sleeper(kernel, env) {
            Some((_, deadline)) if deadline > now => nearest = nearest.min(deadline),
            Some((sleeper, _)) => env::wake(kernel, sleeper),
            None => {}
        }
    }
    kernel.here().schedule.nearest.set(nearest);
    (nearest != NEVER).then_some(nearest)
}
