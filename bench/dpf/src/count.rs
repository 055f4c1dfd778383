//! Counts instructions of this process by single steps.
//!
//! With the trap flag set the processor raises an exception after each instruction
//! (Intel SDM vol. 3, 18.3.1.4), which Linux delivers as SIGTRAP; the handler counts.
//! The kernel clears the flag for the handler itself, so that is not counted. It is what a
//! debugger does with `PTRACE_SINGLESTEP`, without the two changes of process for
//! each instruction, and needs no rights. The count repeats exactly; an iteration of
//! a `rep` instruction counts as one instruction, a system call too.

use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};

/// Steps since the program began.
static STEPS: AtomicU64 = AtomicU64::new(0);
/// Whoever steps. There is one count.
static STEPPING: Mutex<()> = Mutex::new(());

extern "C" fn step(_signal: libc::c_int) {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// Counts, less what the marks around the work cost.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    marks: u64,
}

impl Counter {
    /// Installs the handler, and checks it against a loop whose length is known.
    pub fn new() -> Result<Self> {
        // SAFETY: all zeros is a valid `sigaction`; the handler only adds to an atomic,
        // which is safe in a signal handler.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = step as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut())
        };
        ensure!(done == 0, "cannot handle SIGTRAP: {}", std::io::Error::last_os_error());
        let mut counter = Self { marks: 0 };
        counter.marks = counter.count(|| {});
        let [few, many] = [1, 1001].map(|rounds| counter.count(|| known_loop(rounds)));
        ensure!(many - few == 2000, "counted {} instructions of 2000", many - few);
        Ok(counter)
    }

    /// Instructions that `work` executes.
    #[inline(always)]
    pub fn count(&self, work: impl FnOnce()) -> u64 {
        let guard = STEPPING.lock().unwrap_or_else(PoisonError::into_inner);
        let before = STEPS.load(Ordering::Relaxed);
        // SAFETY: sets the trap flag and nothing else; SIGTRAP is handled, or this
        // value would not exist.
        unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
        work();
        // SAFETY: clears the trap flag and nothing else.
        unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
        let after = STEPS.load(Ordering::Relaxed);
        drop(guard);
        (after - before).saturating_sub(self.marks)
    }
}

/// 2 * `rounds` instructions, and always the same number besides. At least one round.
#[inline(never)]
fn known_loop(rounds: u32) {
    // SAFETY: changes one register and flags.
    unsafe {
        asm!("2:", "dec {n:e}", "jnz 2b", n = inout(reg) rounds => _, options(nomem, nostack));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_exactly_and_the_same_each_time() {
        let counter = Counter::new().unwrap();
        let [some, more] = [5, 12_345].map(|rounds| counter.count(|| known_loop(rounds)));
        assert_eq!(more - some, 2 * 12_340);
        let work = || (0..100u64).map(std::hint::black_box).sum::<u64>();
        let once = counter.count(|| drop(std::hint::black_box(work())));
        let again = counter.count(|| drop(std::hint::black_box(work())));
        assert_eq!(once, again);
        assert!(once > 100);
    }
}
