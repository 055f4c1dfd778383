//! Which thread runs next: policy alone, without a stack or a register in it.
//!
//! [`Threads`](super::threads) knows how to stop a thread and let another go on. Which
//! one, it asks a [`Policy`], each time a slice begins and each time the running thread
//! gives way or blocks. A policy never sees a thread, only numbers below
//! [`MAX_THREADS`]; so it is tested on the host with a simulated clock, by
//! [`conformance`](super::conformance), which every policy must pass.
//!
//! Policies are called on the upcall stack in the middle of whatever was interrupted:
//! they must not allocate, print or wait, and they cannot block.

mod earliest;
mod round_robin;

pub use earliest::EarliestDeadlineFirst;
pub use round_robin::RoundRobin;

use super::Ticks;

/// Most threads of an application, the one that started them not counted.
pub const MAX_THREADS: usize = 32;

/// Names a thread. Used again after its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ThreadId(u8);

impl ThreadId {
    /// Thread number `index`, if there can be one.
    pub const fn new(index: usize) -> Option<Self> {
        if index < MAX_THREADS { Some(Self(index as u8)) } else { None }
    }

    /// The number, below [`MAX_THREADS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Decides which thread runs next.
///
/// The caller keeps to this order: a thread is admitted, then ready and blocked in
/// turn, then forgotten. When the running thread stops, because its slice is over, it gives way,
/// blocks or ends, the caller first charges it for what it had, however little; then it says
/// that the thread is blocked, or blocked and forgotten, if it is; then which others are ready
/// again; then it asks for the next. All times are ticks of the time-stamp counter. **Cost** of every method bounded by [`MAX_THREADS`].
pub trait Policy {
    /// What it wants to know about a thread: a deadline, a share, nothing.
    type Terms: Copy;

    /// A thread exists from now on. It is blocked.
    fn admit(&mut self, thread: ThreadId, terms: Self::Terms);

    /// A blocked thread can run again.
    fn ready(&mut self, thread: ThreadId, now: Ticks);

    /// A ready thread cannot run until it is ready again.
    fn blocked(&mut self, thread: ThreadId);

    /// A blocked thread has ended; its number may be admitted again.
    fn forget(&mut self, thread: ThreadId);

    /// The thread that runs until asked again; `None` only if none is ready.
    fn choose(&mut self, now: Ticks) -> Option<ThreadId>;

    /// `thread` has had the processor for `ran` ticks while another thread could have run: since it
    /// was chosen or last charged, whichever is later. Comes before the [`choose`](Self::choose)
    /// that follows, also for a slice that blocking cut short, and with zero if no other could have run.
    fn charge(&mut self, thread: ThreadId, ran: Ticks) {
        let _ = (thread, ran);
    }

    /// Whether `woken`, just ready, is to be considered before the running thread's
    /// slice is over.
    fn preempts(&self, woken: ThreadId, running: ThreadId) -> bool {
        let _ = (woken, running);
        false
    }
}
