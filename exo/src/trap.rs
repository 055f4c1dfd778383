//! Interrupts and exceptions: the other way in, and every way out that is not
//! a plain return.
//!
//! An exception in ring 3 is the environment's own affair: it is called about it, or
//! ended, if it does not want to be, with a report its creator can read. One in ring 0 is a bug of the kernel and stops the
//! machine. Interrupts reach ring 3, or the kernel while it halts, and nowhere
//! else.

use core::cell::Cell;

use exo_abi::{
    BACKTRACE_DEPTH, EnvId, EnvState, EnvStatus, GRACE_MICROSECONDS, USER_TOP, Upcall, UserPtr,
};

use crate::arch::entry::{resume, set_vector_state};
use crate::arch::{apic, cpu};
use crate::env::{self, Context, Env, upcall};
use crate::kernel::Kernel;
use crate::net;
use crate::schedule::{self, SLICE_MICROSECONDS};
use crate::start::kernel;
use crate::user::UserSlice;

const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// What the timer runs for. A slice's timer belongs to its slot: whoever runs in
/// another gets a whole slice, and nobody a longer one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Off,
    Deadline,
    Slice(u32),
    /// The slice in this slot is over, and this environment was told so.
    Grace(u32, EnvId),
}

impl Timer {
    /// Whether it bounds what is done in `slot`.
    fn bounds(self, slot: u32) -> bool {
        matches!(self, Self::Slice(of) | Self::Grace(of, _) if of == slot)
    }
}

/// State of the one core's timer.
struct CoreTimer(Cell<Timer>);

// SAFETY: one core exists, and ring 0 is not interrupted while it uses this.
unsafe impl Sync for CoreTimer {}

static TIMER: CoreTimer = CoreTimer(Cell::new(Timer::Off));

/// Serves a trap. Called by the vector stubs; returns if the halted kernel was
/// interrupted, or if the running environment is to go on as `frame` now says.
pub extern "C" fn trap(frame: &mut Context) {
    let vector = frame.vector as u8;
    if !frame.from_user() {
        return interrupted_while_halted(frame);
    }
    let kernel = kernel();
    Kernel::count(&kernel.info.traps, 1);
    let Some(env) = kernel.env(kernel.current.get()) else {
        panic!("a trap from ring 3 while no environment runs");
    };
    let mut slice_over = false;
    match vector {
        // Not ring 3's doing, and nothing can be relied on any more.
        2 | 8 | 18 => panic!("processor exception {vector}, error code {:#x}", frame.error),
        0..32 => {
            let address = if vector == PAGE_FAULT as u8 { cpu::fault_address() } else { 0 };
            if upcall::exception(&kernel.frames, env, frame, address) {
                return;
            }
            env.context().set(*frame);
            fault(kernel, env, frame, frame.vector);
        }
        apic::TIMER_VECTOR => {
            apic::end_of_interrupt();
            if slice_ends(kernel, env, frame) {
                return;
            }
            upcall::expect_begin(&kernel.frames, env);
            slice_over = true;
        }
        apic::SPURIOUS_VECTOR => {}
        _ => apic::end_of_interrupt(),
    }
    env.context().set(*frame);
    // A jump out of user space faults when its target is fetched. An interrupt can
    // come between the two; to return there would be ring 0's fault (SDM vol. 2,
    // IRET: a non-canonical return address).
    if frame.rip >= USER_TOP && env.state() == EnvState::Ready {
        fault(kernel, env, frame, GENERAL_PROTECTION);
    }
    leave(kernel, slice_over)
}

/// The timer has fired. True if `env` is told, and may go on for its grace.
fn slice_ends(kernel: &Kernel, env: &Env, frame: &mut Context) -> bool {
    if let Timer::Grace(_, told) = TIMER.0.replace(Timer::Off) {
        if let Some(told) = kernel.env(told) {
            told.overruns.set(told.overruns.get().saturating_add(1));
        }
        return false;
    }
    let made = upcall::make(&kernel.frames, env, frame, Upcall::SliceEnd);
    if made {
        TIMER.0.set(Timer::Grace(kernel.schedule.slot(), env.id()));
        apic::start_timer(GRACE_MICROSECONDS * apic::ticks_per_microsecond());
    }
    made
}

fn interrupted_while_halted(frame: &Context) {
    match frame.vector as u8 {
        vector @ 0..32 => {
            let address = cpu::fault_address();
            panic!(
                "processor exception {vector} in ring 0 at {:#x}, error code {:#x}, address {address:#x}",
                frame.rip, frame.error
            );
        }
        apic::TIMER_VECTOR => {
            TIMER.0.set(Timer::Off);
            apic::end_of_interrupt();
        }
        apic::SPURIOUS_VECTOR => {}
        _ => apic::end_of_interrupt(),
    }
}

/// Ends `env` for exception `vector` in the state `frame`.
fn fault(kernel: &Kernel, env: &Env, frame: &Context, vector: u64) {
    let mut status = EnvStatus {
        state: EnvState::Faulted as u32,
        vector: vector as u32,
        code: frame.error,
        rip: frame.rip,
        rsp: frame.rsp,
        address: if vector == PAGE_FAULT { cpu::fault_address() } else { 0 },
        backtrace: [0; BACKTRACE_DEPTH],
    };
    let mut base = frame.rbp;
    for entry in &mut status.backtrace {
        let mut words = [0; 16];
        let pair = UserSlice::new(env.root_table.get(), UserPtr(base), words.len());
        if pair.copy_in(&kernel.frames, &mut words).is_err() {
            break;
        }
        let (next, address) = words.split_at(8);
        *entry = u64::from_le_bytes(address.try_into().unwrap_or_default());
        base = u64::from_le_bytes(next.try_into().unwrap_or_default());
    }
    env::end(kernel, env, status);
}

/// Leaves ring 0 for whichever environment is to run now; halts while there is
/// none.
pub fn leave(kernel: &Kernel, mut slice_over: bool) -> ! {
    loop {
        let now = cpu::time_stamp();
        let deadline = schedule::wake_expired(kernel, now);
        if slice_over {
            // The tick is also when others' packets are looked for while an
            // environment computes.
            let net = &mut *kernel.net.borrow_mut();
            net::remind(kernel, net);
            net::receive(kernel, net);
            kernel.schedule.end_slice();
            slice_over = false;
        }
        if let Some(env) = schedule::next_ready(kernel) {
            run(kernel, env);
        }
        if kernel.env(kernel.first.get()).is_none_or(has_ended) {
            crate::panic::first_ended(kernel);
        }
        halt(kernel, now, deadline);
    }
}

fn has_ended(env: &Env) -> bool {
    matches!(env.state(), EnvState::Exited | EnvState::Faulted | EnvState::Dying)
}

/// Makes the address space and the registers that traps save to those of `env`.
#[inline]
pub fn make_current(kernel: &Kernel, env: &Env) {
    if kernel.current.get() != env.id() {
        kernel.current.set(env.id());
        Kernel::count(&kernel.info.switches, 1);
        // SAFETY: the environment's root has the kernel's half like every
        // other, made by `paging::create_root`.
        unsafe { cpu::set_page_table(env.root_table.get().address()) };
        cpu::forget_segments();
    }
    set_vector_state(env.vectors().image());
}

fn run(kernel: &Kernel, env: &'static Env) -> ! {
    make_current(kernel, env);
    let slot = kernel.schedule.slot();
    if !TIMER.0.get().bounds(slot) {
        TIMER.0.set(Timer::Slice(slot));
        apic::start_timer(SLICE_MICROSECONDS * apic::ticks_per_microsecond());
    }
    if env.pending.get() != 0 {
        upcall::make_pending(&kernel.frames, env);
    }
    // SAFETY: the context is a user state: made by `env::start`, or saved from
    // ring 3 by a trap or call. Nothing on the kernel stack is needed.
    unsafe { resume(env.context().as_ptr(), env.vectors().image()) }
}

/// Sleeps until a frame arrives or `deadline` passes.
fn halt(kernel: &Kernel, now: u64, deadline: Option<u64>) {
    let mut net = kernel.net.borrow_mut();
    // Conditions on memory are tried again a slice later.
    let look =
        kernel.schedule.watches().then(|| now + SLICE_MICROSECONDS * apic::ticks_per_microsecond());
    let deadline = [deadline, look].into_iter().flatten().min();
    if !net::arm(kernel, &mut net) {
        // A timer still running for a slice is left alone: it costs one vain
        // wake-up at most, and stopping it would cost every short sleep more.
        if let Some(deadline) = deadline
            && !matches!(TIMER.0.get(), Timer::Slice(_) | Timer::Grace(..))
        {
            TIMER.0.set(Timer::Deadline);
            apic::start_timer(deadline.saturating_sub(now));
        }
        Kernel::count(&kernel.info.halts, 1);
        cpu::halt_until_interrupt();
    }
    net::disarm(&mut net);
    net::reclaim(kernel, &mut net);
    net::receive(kernel, &mut net);
}
