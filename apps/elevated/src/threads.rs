//! Threads of the library OS in ring 0: the end of a slice comes there as an upcall, and another
//! thread goes on.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use libos::elevation::is_elevated;
use libos::sched::policy::RoundRobin;
use libos::sched::threads::{Threads, end_of_it, turns};
use selftest::check::{Outcome, holds, same};

use crate::bench::{Bench, Check, in_ring, ring, stays};

pub(crate) const CHECKS: &[Check] = &[("threads take turns in ring 0", take_turns)];

/// Turns that each thread is to have.
const TURNS: u64 = 6;
const THREADS: usize = 3;

/// Adds up words in an order that shows when one is lost. A slice that ends in the middle goes
/// on where it was.
fn sum(words: u64) -> u64 {
    (1..=words).fold(0, |sum, word| core::hint::black_box(sum).rotate_left(5) ^ word)
}

fn take_turns(bench: &mut Bench) -> Outcome {
    let memory = bench.environment.memory;
    let upcalls = memory.map_region(16)?;
    // How many have ended; what each found: a wrong sum, or ring 3 while ring 0 was granted.
    let (ended, wrong) = (AtomicUsize::new(0), AtomicU64::new(0));
    let mut threads = Threads::new(RoundRobin::new(), end_of_it);
    for _ in 0..THREADS {
        threads.spawn(memory.map_region(8)?, (), || {
            let mut rounds = 5000;
            while turns() < TURNS {
                rounds += 1;
                let right = sum(rounds) == sum(rounds);
                let granted = is_elevated();
                if !right || granted && ring() != 0 && is_elevated() {
                    wrong.fetch_add(1, Relaxed);
                }
            }
            ended.fetch_add(1, Relaxed);
        })?;
    }
    let mut stretch = bench.right().begin()?;
    threads.run(upcalls);
    stays(&mut stretch)?;
    drop(stretch);
    in_ring(3)?;
    same("threads that ended", ended.load(Relaxed), THREADS)?;
    holds("a thread was elsewhere or lost something", wrong.load(Relaxed) == 0)
}
