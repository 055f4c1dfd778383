//! Interrupts and exceptions: the other way in, and every way out that is not
//! a plain return.
//!
//! An exception in ring 3 is the environment's own affair: it was given back before it
//! came here (`arch::vectors`), or, if the environment has no use for it, ends it with a
//! report its creator can read. One in ring 0 is a bug of the kernel and stops the
//! machine. Interrupts reach ring 3, or the kernel while it halts, and nowhere else.

use core::cell::Cell;

use exo_abi::{
    BACKTRACE_DEPTH, EnvState, EnvStatus, GRACE_MICROSECONDS, Lowered, USER_TOP, Upcall, UserPtr,
};
use exo_boot::layout::KERNEL_BASE;

use crate::arch::exit::resume;
use crate::arch::percpu::{PerCore, set_upcalls, set_vector_state};
use crate::arch::{apic, cpu, serial};
use crate::console::Left;
use crate::cores::{Core, MAX_CORES, number};
use crate::disk;
use crate::elevation;
use crate::env::{self, Context, Env, VectorState, upcall};
use crate::kernel::{Kernel, Locked, enter};
use crate::keys;
use crate::net;
use crate::schedule::{self, Payer, SLICE_MICROSECONDS, Slice};
use crate::state::State;
use crate::user::UserSlice;

const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// What the timer runs for. A slice's timer belongs to its slot: an environment that runs in
/// another gets a whole slice, and none a longer one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Off,
    Deadline,
    Slice(Slice),
    /// The slice is over, and the environment that runs was told so.
    Grace(Slice),
}

impl Timer {
    /// Whether it bounds what is done in `slot`.
    fn bounds(self, slot: u32) -> bool {
        matches!(self, Self::Slice(of) | Self::Grace(of) if of.slot == slot)
    }
}

/// What each processor's timer runs for.
static TIMERS: PerCore<Cell<Timer>> = PerCore::new([const { Cell::new(Timer::Off) }; MAX_CORES]);

#[inline]
fn timer() -> &'static Cell<Timer> {
    TIMERS.here()
}

/// Serves a trap. Called by the vector stubs; returns if the running environment is to
/// go on as `frame` now says.
///
/// # Panics
/// For an exception in ring 0.
pub extern "C" fn trap(frame: &mut Context) {
    let vector = frame.vector as u8;
    if !frame.from_user() {
        let address = cpu::fault_address();
        panic!(
            "processor exception {vector} in ring 0 at {:#x}, error code {:#x}, address {address:#x}",
            frame.rip, frame.error
        );
    }
    let kernel = enter();
    let core = kernel.here();
    let was_long = core.work.begin();
    State::count(&kernel.info.traps, 1);
    let env = running(core);
    if core.stale.get() {
        kernel.catch_up();
    }
    let mut slice_over = false;
    match vector {
        // Not ring 3's doing, and nothing can be relied on any more.
        2 | 8 | 18 => panic!("processor exception {vector}, error code {:#x}", frame.error),
        // It is being destroyed by another processor: nothing is its affair any more.
        0..32 if env.state() != EnvState::Ready => {}
        0..32 if (env.elevated.is_set() || keys::is_guarded(env)) && tells(&kernel, env, frame) => {
            return kernel.leave();
        }
        0..32 => {
            env.context().set(*frame);
            fault(&kernel, env, frame, frame.vector);
        }
        apic::TIMER_VECTOR => {
            apic::end_of_interrupt();
            // One that struck while ring 0 went from one slice to the next comes late: the
            // timer runs for the next slice already, and its owner must not lose it.
            if !apic::timer_runs() {
                if env.elevated.is_set() {
                    elevation::look(&kernel, env, frame);
                }
                if slice_ends(&kernel, env, frame, was_long) {
                    elevation::apply(env);
                    let (code, data) = elevation::selectors(env);
                    (frame.cs, frame.ss) = (code.into(), data.into());
                    return kernel.leave();
                }
                upcall::expect_begin(env);
                slice_over = true;
            }
        }
        apic::SPURIOUS_VECTOR => {}
        _ => apic::end_of_interrupt(),
    }
    env.context().set(*frame);
    // A jump out of user space faults when its target is fetched. An interrupt can
    // come between the two; to return there would be ring 0's fault (SDM vol. 2,
    // IRET: a non-canonical return address).
    let end = if env.elevated.is_set() { KERNEL_BASE } else { u64::MAX };
    if (USER_TOP..end).contains(&frame.rip) && env.state() == EnvState::Ready {
        fault(&kernel, env, frame, GENERAL_PROTECTION);
    }
    leave(kernel, slice_over)
}

/// Exception `frame` of `env`, which the entry does not give back, is told there; if it was
/// in ring 0, that takes it to ring 3. False if it does not want to be told, or must not be.
#[cold]
fn tells(kernel: &Kernel, env: &Env, frame: &mut Context) -> bool {
    const FROM_USER: u64 = 1 << 2;
    if env.elevated.is_set() {
        elevation::end(kernel, env, Lowered::Fault);
        elevation::apply(env);
    }
    let (code, address) = match frame.vector {
        // As it would have been there.
        PAGE_FAULT => (frame.error | FROM_USER, cpu::fault_address()),
        _ => (0, 0),
    };
    upcall::tell_exception(env, frame, code, address)
}

/// The environment that entered the kernel.
#[inline]
pub fn running(core: &Core) -> &'static Env {
    core.running.get().expect("an environment that enters from ring 3 is running")
}

/// Another processor wanted to be seen while `env` entered the kernel for a call. Does
/// not return if it is being destroyed: whatever it asked for could bring it back to
/// life.
#[cold]
#[inline(never)]
pub fn look_up(kernel: Locked, env: &Env) -> Locked {
    kernel.catch_up();
    if env.state() != EnvState::Ready {
        leave(kernel, false);
    }
    kernel
}

/// The timer has fired, just after a long entry if `was_long`: then that is why it is late,
/// and not the machine. True if `env` is told, and may go on for its grace.
fn slice_ends(kernel: &Kernel, env: &Env, frame: &mut Context, was_long: bool) -> bool {
    let now = cpu::time_stamp();
    let slice = match timer().replace(Timer::Off) {
        Timer::Grace(slice) => {
            slice.charge(kernel, now, schedule::slice(kernel));
            return false;
        }
        Timer::Slice(slice) => slice,
        Timer::Off | Timer::Deadline => return false,
    };
    if was_long {
        slice.charge(kernel, now, 0);
    }
    let made = env.state() == EnvState::Ready && upcall::make(env, frame, Upcall::SliceEnd);
    if made {
        let grace = GRACE_MICROSECONDS * apic::ticks_per_microsecond();
        timer().set(Timer::Grace(Slice { end: now + grace, ..slice }));
        apic::start_timer(grace);
    }
    made
}

/// Serves an interrupt of the halted kernel. Called by the vector stubs.
pub extern "C" fn interrupted_while_halted(vector: u64) {
    if vector == u64::from(apic::TIMER_VECTOR) {
        timer().set(Timer::Off);
    }
    if vector != u64::from(apic::SPURIOUS_VECTOR) {
        apic::end_of_interrupt();
    }
}

/// The error code that ring 3 is shown: that of a page fault. Others name a selector,
/// which may be none of ring 3's: QEMU's emulation lets a far return of ring 3 take it
/// from the kernel's memory (`start::descriptors`).
fn error_code(frame: &Context, vector: u64) -> u64 {
    if vector == PAGE_FAULT { frame.error } else { 0 }
}

/// Ends `env` for exception `vector` in the state `frame`.
fn fault(kernel: &Kernel, env: &Env, frame: &Context, vector: u64) {
    let mut status = EnvStatus {
        state: EnvState::Faulted as u32,
        vector: vector as u32,
        code: error_code(frame, vector),
        rip: frame.rip,
        rsp: frame.rsp,
        address: if vector == PAGE_FAULT { cpu::fault_address() } else { 0 },
        backtrace: [0; BACKTRACE_DEPTH],
    };
    let mut base = frame.rbp;
    for entry in &mut status.backtrace {
        let mut words = [0; 16];
        let pair = UserSlice::new(env.root_table.get(), UserPtr(base));
        if pair.copy_in(&kernel.frames, &mut words).is_err() {
            break;
        }
        let (next, address) = words.split_at(8);
        *entry = u64::from_le_bytes(address.try_into().unwrap_or_default());
        base = u64::from_le_bytes(next.try_into().unwrap_or_default());
    }
    env::end(kernel, env, status);
}

/// Leaves ring 0 because the running environment stopped of itself. Its grace is not part of
/// its slice: an environment that stops in it, in whatever way, has ended the slice.
pub fn stop(kernel: Locked, yields: bool) -> ! {
    let in_grace = matches!(timer().get(), Timer::Grace(_));
    if in_grace {
        timer().set(Timer::Off);
    }
    leave(kernel, yields || in_grace)
}

/// Sleeps in the call by which `env` began to wait, if no other can run. True if it is
/// to go on at once, as if the call had returned: nothing of it had to be saved, since
/// no other ran in between. If false it is to be saved, and [`stop`] does the rest.
///
/// Only on a machine with one processor: another could run `env` from what is saved of it.
#[inline(always)]
pub fn sleep(mut kernel: Locked, env: &Env) -> (Locked, bool) {
    let rests = |kernel: &Kernel| kernel.here().schedule.rests();
    if kernel.has_others() || !rests(&kernel) || matches!(timer().get(), Timer::Grace(_)) {
        return (kernel, false);
    }
    let now = cpu::time_stamp();
    let deadline = schedule::wake_expired(&kernel, now);
    if rests(&kernel) && !kernel.over.get() {
        kernel = halt(kernel, now, deadline);
    }
    // The same as `leave` would do: the environment's page tables are loaded, its vector
    // registers are spent, and an upcall would change what is to be saved.
    let goes_on = schedule::is_its_turn(&kernel, env) && env.pending.get() == 0;
    if goes_on {
        begin_slice(&kernel, kernel.here().schedule.slot());
    }
    (kernel, goes_on)
}

/// Leaves ring 0 for whichever environment is to run now; halts while there is
/// none.
pub fn leave(mut kernel: Locked, mut slice_over: bool) -> ! {
    let mut before = kernel.here().running.replace(None);
    if let Some(env) = before {
        keys::save(env);
    }
    loop {
        let now = cpu::time_stamp();
        let deadline = schedule::wake_expired(&kernel, now);
        if slice_over {
            // The tick is also when others' packets and requests are looked for while an
            // environment computes.
            let net = &mut *kernel.net.borrow_mut();
            net.set_time(now);
            net::remind(&kernel, net);
            net::receive(&kernel, net);
            disk::remind(&kernel, &mut kernel.disk.borrow_mut());
            serial::drain(&kernel);
            kernel.here().schedule.end_slice();
            slice_over = false;
        }
        if let Some(env) = schedule::next_ready(&kernel) {
            if kernel.has_others() {
                kernel.pass_on(before, env);
            }
            run(kernel, env);
        }
        if kernel.over.get() {
            crate::panic::first_ended(&kernel);
        }
        kernel = halt(kernel, now, deadline);
        // It may be gone by now.
        before = None;
    }
}

/// Makes the address space of `env` the current one.
#[inline(always)]
pub fn switch_to(kernel: &Kernel, env: &'static Env) {
    let core = kernel.here();
    core.current.set(env.id());
    env.core.set(number() as u32);
    State::count(&kernel.info.switches, 1);
    core.stale.set(false);
    // SAFETY: the environment's root has the kernel's half like every other, made by
    // `paging::create_root`.
    unsafe { cpu::set_page_table(env.root_table.get().address()) };
    cpu::forget_segments();
    // An exception behind a gate is not given back: that is looked at in `trap`.
    set_upcalls(env.area().filter(|_| !keys::is_guarded(env)).map(|area| &area.upcall));
}

/// `env` runs, in the current address space, which is its own; traps save its vector
/// registers to `vectors`.
#[inline(always)]
pub fn set_running(kernel: &Kernel, env: &'static Env, vectors: *mut VectorState) {
    kernel.here().running.set(Some(env));
    set_vector_state(vectors);
    if env.elevated.is_set() {
        let mut context = env.context().get();
        elevation::look(kernel, env, &mut context);
        env.context().set(context);
    }
    elevation::apply(env);
    keys::load(env);
}

/// Goes on in `env` as it was saved.
pub fn run(kernel: Locked, env: &'static Env) -> ! {
    let current = kernel.here().current.get();
    if current != env.id() || env.core.get() as usize != number() {
        switch_to(&kernel, env);
    }
    set_running(&kernel, env, env.vectors().image());
    begin_slice(&kernel, kernel.here().schedule.slot());
    if env.pending.get() != 0 {
        upcall::make_pending(env);
    }
    let (code, data) = elevation::selectors(env);
    kernel.leave();
    // SAFETY: the context is a user state: made by `env::start`, or saved from
    // ring 3 by a trap or call; ring 0 is for elevated environments. Nothing on the kernel
    // stack is needed.
    unsafe { resume(env.context().as_ptr(), env.vectors().image(), code, data) }
}

/// The next environment runs in `slot`: the timer bounds that, if it does not already.
#[inline]
fn begin_slice(kernel: &Kernel, slot: u32) {
    if !timer().get().bounds(slot) {
        let payer = Payer::of_slot(kernel, slot);
        let length = SLICE_MICROSECONDS * apic::ticks_per_microsecond();
        let end = cpu::time_stamp() + length;
        timer().set(Timer::Slice(Slice { slot, payer, end }));
        apic::start_timer(length);
    }
}

/// Sleeps until a frame arrives, the disk is done with something, `deadline` passes or another
/// processor calls.
///
/// The devices interrupt the first processor. Whichever halts last asks them to, from
/// the frame on that is to come; so while all sleep it is asked, and the interrupt's
/// processor gives the frame to its owner and wakes another if that is where it runs.
fn halt(mut kernel: Locked, now: u64, deadline: Option<u64>) -> Locked {
    let text = serial::drain(&kernel);
    if text == Left::More {
        return kernel;
    }
    let arrived = net::arm(&kernel, &mut kernel.net.borrow_mut());
    if !disk::arm(&kernel, &mut kernel.disk.borrow_mut()) && !arrived {
        // A timer still running for a slice is left alone: it costs one vain
        // wake-up at most, and stopping it would cost every short sleep more.
        let runs = matches!(timer().get(), Timer::Slice(_) | Timer::Grace(_));
        let watches = !runs && begin_rest(&kernel, now, deadline, text == Left::Blocked);
        State::count(&kernel.info.halts, 1);
        kernel.here().idle.set(true);
        kernel = kernel.without(cpu::halt_until_interrupt);
        if watches {
            end_measuring(&kernel);
        }
        kernel.here().idle.set(false);
    } else {
        // Packets keep coming: the others have their turn in between all the same.
        kernel = kernel.without(core::hint::spin_loop);
    }
    // What comes now is no entry's: it may all be looked at, whatever was done before.
    kernel.here().work.begin();
    if kernel.here().stale.get() {
        kernel.catch_up();
    }
    look_at_devices(&kernel);
    kernel
}

#[inline]
fn look_at_devices(kernel: &Kernel) {
    let (net, disk) = (&mut *kernel.net.borrow_mut(), &mut *kernel.disk.borrow_mut());
    if !kernel.others_sleep() {
        net::disarm(net);
        disk::disarm(disk);
    }
    net.set_time(cpu::time_stamp());
    net::reclaim(kernel, net);
    net::receive(kernel, net);
    disk::reclaim(kernel, disk);
}

/// Sets the timer, which does not run, for a rest until `deadline`, a slice at most if the
/// console's port is `blocked`. Whether it is used instead to measure how fast the time-stamp
/// counter runs.
#[inline(never)]
fn begin_rest(kernel: &Kernel, now: u64, deadline: Option<u64>, blocked: bool) -> bool {
    // Conditions on memory are tried again a slice later, and a port that takes nothing.
    let slice = SLICE_MICROSECONDS * apic::ticks_per_microsecond();
    let look = (blocked || kernel.here().schedule.watches()).then_some(now + slice);
    if let Some(deadline) = [deadline, look].into_iter().flatten().min() {
        timer().set(Timer::Deadline);
        apic::start_timer(deadline.saturating_sub(now));
    } else if now >= kernel.clock.due.get() {
        begin_measuring(kernel);
        return true;
    }
    false
}

/// How fast does the time-stamp counter run? The timer counts while the processor sleeps.
#[cold]
#[inline(never)]
fn begin_measuring(kernel: &Kernel) {
    kernel.clock.due.set(u64::MAX);
    timer().set(Timer::Off);
    kernel.clock.first.set(apic::begin_watch());
}

/// The processor has slept. Done ever more rarely.
#[cold]
#[inline(never)]
fn end_measuring(kernel: &Kernel) {
    let clock = &kernel.clock;
    let (first, last) = (clock.first.get(), apic::end_watch());
    clock.due.set(last.after.saturating_add(last.after / 8));
    let before = clock.rate.get();
    clock.rate.set(before.over(first, last, apic::WATCH_PERIOD));
    if clock.rate.get() != before {
        apic::set_rates(clock);
        clock.publish(kernel.info, cpu::time_stamp);
    }
}
