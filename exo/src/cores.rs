//! Processors: how one makes another look up.
//!
//! One lock guards the kernel's state ([`crate::kernel`]). It is taken at every entry and given
//! back at every exit, so everything else in the kernel is written as for one processor. What
//! an entry does is bounded, and so is the wait for it: the lock goes round in order of
//! arrival.
//!
//! An environment runs on one processor at a time; its slots may lie on several. A
//! processor keeps the page tables of the environment that ran last until another one runs,
//! so that sleeping and waking cost no flush. A call that takes a mapping away therefore
//! marks the processors that have the tables loaded, and *expels* those that are in
//! ring 3: when the call ends no processor can use the old translation, because the way
//! back to ring 3 leads past the mark.

use core::sync::atomic::Ordering;

pub use exo_abi::MAX_CORES;
use exo_abi::{EnvId, EnvState, Pfn};

pub use self::processor::number;
use crate::memory;
use crate::shootdown;
use crate::state::State;
use crate::state::env::Env;
pub use crate::state::percore::Core;
use crate::state::transfer::CHAIN;

impl State {
    /// This processor.
    #[inline]
    pub fn here(&self) -> &Core {
        processor::core(self)
    }

    /// The processors that were started.
    pub fn started(&self) -> impl Iterator<Item = (usize, &Core)> {
        let count = self.info.cores.load(Ordering::Relaxed) as usize;
        self.cores.iter().enumerate().take(count)
    }

    /// Whether there is more than one.
    #[inline]
    pub fn has_others(&self) -> bool {
        self.info.cores.load(Ordering::Relaxed) > 1
    }

    /// Whether one of the others halts.
    pub fn others_sleep(&self) -> bool {
        self.has_others() && self.others().any(|(_, core)| core.idle.get())
    }

    fn others(&self) -> impl Iterator<Item = (usize, &Core)> {
        let here = number();
        self.started().filter(move |(number, _)| *number != here)
    }

    /// Whether another processor runs `env`.
    #[inline]
    pub fn runs_elsewhere(&self, env: &Env) -> bool {
        let last = env.core.get() as usize;
        last != number()
            && self.cores[last % MAX_CORES].running.get().is_some_and(|it| core::ptr::eq(it, env))
    }

    /// Whether another processor has the page tables of `env` loaded, which is not to run
    /// again. If so, that processor is asked to let go of them.
    pub fn is_loaded_elsewhere(&self, env: &Env) -> bool {
        let mut loaded = false;
        for (number, core) in self.others().filter(|(_, core)| core.current.get() == env.id()) {
            processor::interrupt(number);
            core.stale.set(true);
            loaded = true;
        }
        loaded
    }

    /// Makes other processors forget what they cache of the address space of `space`
    /// before they are in ring 3 again, and waits until those that are have left it.
    pub fn expel(&self, space: EnvId) {
        for (number, core) in self.others().filter(|(_, core)| core.current.get() == space) {
            core.stale.set(true);
            shootdown::expel(
                processor::door(number),
                || processor::interrupt(number),
                core::hint::spin_loop,
            );
        }
    }

    /// Makes every processor forget what it caches of the address space of `space`.
    pub fn forget(&self, space: EnvId) {
        if let Some(env) = self.here().running.get().filter(|env| env.id() == space) {
            processor::load(env.root_table.get());
        }
        self.expel(space);
    }

    /// Makes the direct map's page of `pfn` one of code or one of data, on all processors
    /// before they use it again.
    pub fn protect(&self, pfn: Pfn, executable: bool) {
        memory::protect(self.direct_map, pfn, executable);
        self.others().for_each(|(_, core)| core.stale.set(true));
    }

    /// `env` may run now. If this processor is about to look which one runs, it may be this
    /// one, and the others are told afterwards ([`Kernel::pass_on`]); else one that halts,
    /// and where there are slots for it, looks again.
    #[inline(never)]
    pub fn wake_core(&self, env: &Env) {
        let here = self.here();
        if here.running.get().is_none() && self.has_slot(env, number()) {
            here.passes_on.set(true);
        } else {
            self.wake_one(|number| self.has_slot(env, number));
        }
    }

    /// Whether there is a slot of processor `number` in which `env` may run: one of its own or
    /// of those that wait for it in a protected call.
    fn has_slot(&self, env: &Env, number: usize) -> bool {
        let has = |env: &Env| env.slots[number % MAX_CORES].get() != 0;
        let mut caller = env.transfer.caller.get();
        has(env)
            || (0..CHAIN).any(|_| match self.env(caller) {
                Some(env) => {
                    caller = env.transfer.caller.get();
                    has(env)
                }
                None => false,
            })
    }

    /// Wakes one of the others that halts and is wanted.
    fn wake_one(&self, wanted: impl Fn(usize) -> bool) {
        let mut others = self.others();
        if let Some((number, core)) = others.find(|(n, core)| core.idle.get() && wanted(*n)) {
            core.idle.set(false);
            processor::interrupt(number);
        }
    }

    /// This processor goes on with `next`, after it ran `before`: what may run as well, here
    /// and now, may run on one that halts.
    #[inline(never)]
    pub fn pass_on(&self, before: Option<&Env>, next: &Env) {
        if self.here().passes_on.replace(false) {
            self.wake_one(|number| {
                let next = next.slots[number % MAX_CORES].get();
                self.cores[number % MAX_CORES].schedule.ready.get() & !next != 0
            });
        }
        if let Some(before) = before
            && before.state() == EnvState::Ready
            && !core::ptr::eq(before, next)
        {
            self.wake_one(|number| self.has_slot(before, number));
        }
    }

    /// Does what another processor wanted when it marked this one: forgets what it caches,
    /// and lets go of the page tables of an environment that will not run again.
    #[inline(never)]
    pub fn catch_up(&self) {
        let core = self.here();
        core.stale.set(false);
        let gone = |env: &Env| env.state() == EnvState::Dying;
        match self.env(core.current.get()) {
            Some(env) if !gone(env) => processor::load(env.root_table.get()),
            _ => {
                core.current.set(EnvId(0));
                processor::load(self.root_table);
            }
        }
    }
}

#[cfg(exo_guest)]
mod processor {
    use core::sync::atomic::AtomicBool;

    use exo_abi::Pfn;

    use super::{Core, State};
    use crate::arch::{apic, cpu, percpu};

    #[inline]
    pub(super) fn core(_state: &State) -> &Core {
        // SAFETY: set to one of the kernel's, which stay where they are, before this
        // processor first enters the schedule.
        unsafe { &*percpu::core_data() }
    }

    /// The number of this processor.
    #[inline]
    pub fn number() -> usize {
        percpu::core_number()
    }

    pub(super) fn door(number: usize) -> &'static AtomicBool {
        percpu::door(number)
    }

    pub(super) fn interrupt(core: usize) {
        apic::interrupt(core as u32, apic::LOOK_UP_VECTOR);
    }

    pub(super) fn load(root: Pfn) {
        // SAFETY: an environment's root table or the kernel's: the kernel's half is
        // the same in all.
        unsafe { cpu::set_page_table(root.address()) };
    }
}

/// On the host a thread is a processor, number 0 unless a test says otherwise.
#[cfg(not(exo_guest))]
pub(crate) mod processor {
    use std::cell::Cell;
    use std::sync::atomic::AtomicBool;

    thread_local! {
        pub(crate) static NUMBER: Cell<usize> = const { Cell::new(0) };
    }

    /// The number of this processor.
    pub fn number() -> usize {
        NUMBER.get()
    }

    pub(super) fn core(state: &super::State) -> &super::Core {
        &state.cores[number() % super::MAX_CORES]
    }

    /// None is in ring 3 here.
    pub(super) fn door(_number: usize) -> &'static AtomicBool {
        static DOOR: AtomicBool = AtomicBool::new(false);
        &DOOR
    }

    pub(super) fn interrupt(_core: usize) {}

    pub(super) fn load(_root: exo_abi::Pfn) {}
}
