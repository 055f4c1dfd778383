//! Preemptive threads: several computations in the slices of one environment.
//!
//! The kernel knows nothing of threads. It tells the application when its slice is over
//! and when the next begins ([`upcall`]); by then all registers of
//! the interrupted thread are in a [`Frame`] on the upcall stack, and that frame *is*
//! the thread's saved state. A thread switch copies it away and another one in its
//! place; going back from the upcall then leads into the other thread. A thread that
//! gives way or blocks enters the same upcall by itself, without a crossing.
//!
//! At the end of a slice the thread's time is counted and the rest of the grace given
//! back (`slice_yield`); the decision falls when the processor comes back, by the clock
//! of then. Which thread, a [`Policy`] decides. When none can run, the application
//! sleeps in the kernel, on the upcall stack.
//!
//! Sleepers are woken where decisions fall: at the beginning of a slice, when a thread
//! gives way, and exactly in time when all sleep.
//!
//! A scheduler of another kind ([`Scheduler`](super::Scheduler)) runs in a thread as it
//! does without threads: it parks in a [`KernelPark`](super::KernelPark), which blocks
//! the thread if another could run meanwhile, and enters the kernel at once if not.

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{EventCount, FRAME_BYTES, UArea, Upcall};

use super::park::guest::{set_alone_until, wait};
use super::policy::{Policy, ThreadId};
use super::section::{self, PutOff};
use super::table::{FOR_GOOD, Next, Table};
use super::{Ticks, Until};
use crate::sys;
use crate::time::timestamp;
use crate::upcall::{self, Exception, Frame, PAGE_FAULT, Reason};

/// Least bytes of a thread's stack, beside what its closure owns, and of the upcalls'.
pub const LEAST_STACK: usize = 4096;

/// Serves an exception; false if the application is to end of it, as it would
/// without upcalls. Runs on the upcall stack: no allocation, no waiting.
pub type ExceptionHandler = fn(Exception, &mut Frame) -> bool;

/// Why a thread was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnError {
    /// There are [`super::policy::MAX_THREADS`].
    Full,
    /// The stack is shorter than [`LEAST_STACK`] and what the closure owns.
    StackTooSmall,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many threads",
            Self::StackTooSmall => "stack too small",
        })
    }
}

impl core::error::Error for SpawnError {}

/// Threads that have not begun to run, and may borrow for `'a`.
pub struct Threads<'a, P> {
    table: Table<P>,
    /// Saved states, by thread.
    frames: Vec<Frame>,
    /// Their stacks, from the lowest byte to where they begin to fill.
    stacks: Vec<Range<u64>>,
    /// The state of the caller of [`Threads::run`].
    caller: Frame,
    exceptions: ExceptionHandler,
    u_area: &'static UArea,
    borrows: PhantomData<&'a mut &'a ()>,
}

/// The running [`Threads`], whatever its policy.
#[derive(Clone, Copy)]
struct Running {
    threads: NonNull<()>,
    serve: unsafe fn(NonNull<()>, Reason, &mut Frame),
}

struct Current(Cell<Option<Running>>);

// SAFETY: written before the threads begin and after they ended, read by whichever of
// them runs; an environment runs on one processor at a time.
unsafe impl Sync for Current {}

static CURRENT: Current = Current(Cell::new(None));

/// Where the running thread's stack ends; zero outside of threads.
static STACK_END: AtomicU64 = AtomicU64::new(0);

/// What a thread asks for when it enters the upcall by itself.
enum Request {
    Start,
    GiveWay,
    Block(Until),
    Wake(ThreadId),
    WhoAmI(Option<ThreadId>),
    Turns(u64),
    PutOff,
    End,
}

impl<'a, P: Policy> Threads<'a, P> {
    /// No threads yet, for the policy `policy` to order. `exceptions` serves what
    /// exceptions they cause; [`end_of_it`] if there is none to do so.
    pub fn new(policy: P, exceptions: ExceptionHandler) -> Self {
        Self {
            table: Table::new(policy),
            frames: Vec::new(),
            stacks: Vec::new(),
            caller: Frame::START,
            exceptions,
            u_area: upcall::u_area(),
            borrows: PhantomData,
        }
    }

    /// Adds a thread that runs `body` on `stack`, and ends with it. A panic in it ends
    /// the application.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn<F: FnOnce() + Send + 'a>(
        &mut self,
        stack: &'a mut [u8],
        terms: P::Terms,
        body: F,
    ) -> Result<ThreadId, SpawnError> {
        let range = stack.as_mut_ptr_range();
        let align = align_of::<F>().max(16);
        let place = (range.end.addr().saturating_sub(size_of::<F>())) & !(align - 1);
        if place.saturating_sub(LEAST_STACK) < range.start.addr() {
            return Err(SpawnError::StackTooSmall);
        }
        let thread = self.table.admit(terms, Ticks(timestamp())).ok_or(SpawnError::Full)?;
        let place = range.start.with_addr(place);
        // SAFETY: `place` is aligned for an `F`, which fits between it and the end of
        // the stack; nothing else uses the stack for `'a`. Below it there are at least
        // `LEAST_STACK` bytes, the uppermost of which are the return address of a
        // function that was not called.
        unsafe {
            place.cast::<F>().write(body);
            place.cast::<u64>().sub(1).write(0);
        }
        let mut frame = Frame::START;
        frame.rip = begin::<F> as *const () as u64;
        frame.rdi = place.expose_provenance() as u64;
        // As if called, which the calling convention wants: eight off from sixteen.
        frame.rsp = frame.rdi - 8;
        if self.frames.len() <= thread.index() {
            self.frames.resize(thread.index() + 1, Frame::START);
            self.stacks.resize(thread.index() + 1, 0..0);
        }
        self.frames[thread.index()] = frame;
        self.stacks[thread.index()] = range.start.addr() as u64..frame.rdi;
        Ok(thread)
    }

    /// Runs the threads until all have ended, and decides between them on the stack
    /// `upcalls`, which is also that of the exception handler.
    ///
    /// **Blocking** sleeps in the kernel while no thread can run.
    ///
    /// # Panics
    /// If threads run already, or `upcalls` is shorter than [`LEAST_STACK`].
    pub fn run(mut self, upcalls: &'a mut [u8]) {
        assert!(CURRENT.0.get().is_none(), "threads within threads");
        assert!(upcalls.len() >= LEAST_STACK, "a short stack for upcalls");
        let end = upcalls.as_mut_ptr_range().end.expose_provenance() as u64 & !15;
        let threads = NonNull::from(&mut self).cast();
        CURRENT.0.set(Some(Running { threads, serve: serve_for::<P> }));
        // SAFETY: the stack is borrowed until the threads have ended and upcalls with
        // them, and holds a frame several times.
        unsafe {
            upcall::install(self.u_area, end, &[Upcall::SliceEnd, Upcall::SliceBegin], serve);
        }
        ask(&mut Request::Start);
        upcall::remove(self.u_area);
        CURRENT.0.set(None);
    }

    /// The threads' upcall.
    fn serve(&mut self, reason: Reason, frame: &mut Frame) {
        match reason {
            Reason::Exception(exception) => {
                if !(self.exceptions)(exception, frame) {
                    self.explain(exception);
                    // It happens again, and the kernel ends the application of it.
                    upcall::remove(self.u_area);
                }
            }
            Reason::SliceEnd if section::busy() => section::put_off(PutOff::SliceEnd),
            Reason::SliceBegin if section::busy() => section::put_off(PutOff::Turn),
            Reason::SliceEnd => {
                self.end_slice();
                self.switch(frame);
            }
            Reason::SliceBegin => {
                self.table.stop(Ticks(timestamp()));
                self.switch(frame);
            }
            Reason::Entered(request) => {
                // SAFETY: `ask` passes an exclusive reference and waits for the way
                // back; none else enters while these threads run.
                let request = unsafe { &mut *core::ptr::with_exposed_provenance_mut(request) };
                self.grant(request, frame);
            }
            // Not wanted.
            Reason::Event | Reason::Revoke | Reason::Lowered => {}
        }
    }

    /// Says so if the running thread used up its stack: the page below is not mapped.
    fn explain(&self, exception: Exception) {
        let Some(thread) = self.table.running() else { return };
        let Some(stack) = self.stacks.get(thread.index()) else { return };
        if overflows(exception, stack.start) {
            let kib = (stack.end - stack.start) / 1024;
            crate::println!("stack overflow: thread {} has used its {kib} KiB", thread.index());
        }
    }

    fn grant(&mut self, request: &mut Request, frame: &mut Frame) {
        let now = Ticks(timestamp());
        match request {
            Request::Start => self.caller = *frame,
            Request::Wake(thread) => {
                let preempts = self.table.wake(*thread, now);
                set_alone_until(self.table.alone_until());
                if !preempts {
                    return;
                }
            }
            Request::WhoAmI(answer) => {
                *answer = self.table.running();
                return;
            }
            Request::Turns(turns) => {
                *turns = self.table.running().map_or(0, |thread| self.table.turns(thread));
                return;
            }
            Request::PutOff => match section::take_put_off() {
                PutOff::Nothing => return,
                PutOff::Turn => {}
                PutOff::SliceEnd => self.end_slice(),
            },
            Request::GiveWay | Request::Block(_) | Request::End => {}
        }
        self.table.stop(Ticks(timestamp()));
        let before = self.table.running();
        match request {
            Request::Block(until) => self.table.block(*until),
            Request::End => self.table.end(),
            _ => {}
        }
        self.resume(before, frame);
    }

    /// Counts the running thread's time, and gives the rest of the grace back.
    fn end_slice(&mut self) {
        self.table.stop(Ticks(timestamp()));
        // What the beginning of the next slice would be told for is done here; told
        // later, it would be a turn for nothing.
        let wanted = &self.u_area.upcall.wanted;
        wanted.store(Upcall::SliceEnd as u32, Relaxed);
        // It cannot be refused.
        let _ = sys::slice_yield();
        wanted.store(Upcall::SliceEnd as u32 | Upcall::SliceBegin as u32, Relaxed);
        self.table.resume(Ticks(timestamp()));
    }

    /// Lets the thread that the policy chooses go on in place of the running thread. Before the
    /// first and after the last there is none, and the caller goes on.
    fn switch(&mut self, frame: &mut Frame) {
        let running = self.table.running();
        if running.is_some() {
            self.resume(running, frame);
        }
    }

    /// The same, where `frame` is the state of `before`.
    fn resume(&mut self, before: Option<ThreadId>, frame: &mut Frame) {
        loop {
            // Before looking, so that an event in between ends the sleep at once.
            let events = EventCount(self.u_area.events.load(Acquire));
            let next = self.table.next(Ticks(timestamp()), events);
            match next {
                Next::Run(thread) => {
                    set_alone_until(self.table.alone_until());
                    if before != Some(thread) {
                        self.exchange(before, thread, frame);
                    }
                    return;
                }
                Next::Sleep(until) => wait(events, until),
                Next::Done => {
                    set_alone_until(FOR_GOOD);
                    STACK_END.store(0, Relaxed);
                    *frame = self.caller;
                    return;
                }
            }
        }
    }

    /// Keeps the state of `before`, and takes that of `after`.
    fn exchange(&mut self, before: Option<ThreadId>, after: ThreadId, frame: &mut Frame) {
        if let Some(saved) = before.and_then(|before| self.frames.get_mut(before.index())) {
            *saved = *frame;
        }
        if let Some(saved) = self.frames.get(after.index()) {
            *frame = *saved;
        }
        let end = self.stacks.get(after.index()).map(|stack| stack.end);
        STACK_END.store(end.unwrap_or_default(), Relaxed);
    }
}

/// Whether `exception` is an access to the page below a stack whose lowest byte is at `start`.
fn overflows(exception: Exception, start: u64) -> bool {
    let guard = start.saturating_sub(FRAME_BYTES)..start;
    exception.vector == PAGE_FAULT && guard.contains(&exception.address)
}

/// The upcall handler of every [`Threads`].
fn serve(reason: Reason, frame: &mut Frame) {
    if let Some(running) = CURRENT.0.get() {
        // SAFETY: `CURRENT` names the threads that `run` is running, and the function
        // made for their type. `run` waits in `ask` meanwhile and upcalls are masked,
        // so this is the only use.
        unsafe { (running.serve)(running.threads, reason, frame) }
    }
}

/// # Safety
/// `threads` must be a `Threads<P>`, used by nothing else meanwhile.
unsafe fn serve_for<P: Policy>(threads: NonNull<()>, reason: Reason, frame: &mut Frame) {
    // SAFETY: as this function's. Its lifetime is longer than `run`'s, which waits.
    let threads = unsafe { threads.cast::<Threads<'_, P>>().as_mut() };
    threads.serve(reason, frame);
}

/// Where a thread begins.
extern "C" fn begin<F: FnOnce()>(body: *mut F) -> ! {
    // SAFETY: `spawn` put the closure there for this one thread.
    let body = unsafe { body.read() };
    body();
    loop {
        ask(&mut Request::End);
    }
}

fn ask(request: &mut Request) {
    assert!(CURRENT.0.get().is_some(), "not in a thread");
    let answered = core::ptr::from_mut(request);
    // SAFETY: `run` has installed upcalls, and takes `CURRENT` back with them.
    unsafe { upcall::enter(answered.expose_provenance()) };
}

fn ask_to_wait(request: &mut Request) {
    assert!(!section::busy(), "gives way in an uninterrupted section");
    ask(request);
}

/// What was put off during a section.
pub(super) fn make_up() {
    if CURRENT.0.get().is_some() {
        ask(&mut Request::PutOff);
    } else {
        section::take_put_off();
    }
}

/// An [`ExceptionHandler`] that serves none.
pub fn end_of_it(_: Exception, _: &mut Frame) -> bool {
    false
}

/// Gives way to the other threads that are ready, if the policy agrees.
///
/// # Panics
/// This and the following: outside of a thread, or in an
/// [`uninterrupted`](super::uninterrupted) section.
pub fn give_way() {
    ask_to_wait(&mut Request::GiveWay);
}

/// **Blocking** until the clock passes `time`.
pub fn sleep_until(time: Ticks) {
    while timestamp() < time.0 {
        block(Until { time: Some(time), event: None });
    }
}

/// **Blocking** until `until`, or until another thread calls [`wake`] for this one;
/// not at all if one has already.
pub fn block(until: Until) {
    ask_to_wait(&mut Request::Block(until));
}

/// Ends the wait of `thread`, or the next one it begins.
pub fn wake(thread: ThreadId) {
    ask_to_wait(&mut Request::Wake(thread));
}

/// The thread that asks.
pub fn current() -> Option<ThreadId> {
    let mut request = Request::WhoAmI(None);
    ask(&mut request);
    if let Request::WhoAmI(thread) = request { thread } else { None }
}

/// Where the running thread's stack ends, if a thread runs.
pub(crate) fn stack_end() -> Option<u64> {
    Some(STACK_END.load(Relaxed)).filter(|end| *end != 0)
}

/// How often the thread that asks was chosen to run.
pub fn turns() -> u64 {
    let mut request = Request::Turns(0);
    ask(&mut request);
    if let Request::Turns(turns) = request { turns } else { 0 }
}
