//! The last calls, to be shown when something is found to be wrong.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::SYSCALLS;

use crate::cores;
use crate::kernel::Kernel;
use crate::say;

/// How many are kept.
const KEPT: usize = 16;
/// Words of each: processor, environment, number and arguments.
const WORDS: usize = 9;

static CALLS: [[AtomicU64; WORDS]; KEPT] = [const { [const { AtomicU64::new(0) }; WORDS] }; KEPT];
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Notes a call that is about to be served.
pub(super) fn note(kernel: &Kernel, number: u64, words: [u64; 6]) {
    let place = &CALLS[NEXT.fetch_add(1, Relaxed) as usize % KEPT];
    let env = kernel.here().current.get().0;
    let head = [cores::number() as u64, u64::from(env), number];
    for (word, value) in place.iter().zip(head.into_iter().chain(words)) {
        word.store(value, Relaxed);
    }
}

/// Prints the last calls, oldest first.
pub(super) fn print() {
    let next = NEXT.load(Relaxed);
    for index in next.saturating_sub(KEPT as u64)..next {
        let words = CALLS[index as usize % KEPT].each_ref().map(|word| word.load(Relaxed));
        let [core, env, number, arguments @ ..] = words;
        let entry = SYSCALLS.get(number as usize);
        let count = entry.map_or(6, |entry| entry.arguments.len());
        let name = entry.map_or("no such call", |entry| entry.name);
        say!("call on {core} by {env:#x}: {name} {:x?}", &arguments[..count]);
    }
}
