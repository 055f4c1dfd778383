//! A heap of its own, under everything that allocates.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, exo_hosted))]
extern crate alloc;

#[cfg(any(exo_guest, exo_hosted, test))]
mod heap;

libos::app!(guest::main, heap: crate::heap::Segregated);

#[cfg(any(exo_guest, exo_hosted))]
mod guest {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use libos::measure::workload;
    use libos::println;
    use libos::runtime::Environment;

    pub(crate) fn main(environment: Environment) -> u64 {
        let before = environment.free_frames();
        let words: Vec<_> = (0..10_000).map(|number: u32| number.to_string()).collect();
        let letters: usize = words.iter().map(String::len).sum();
        let taken = before - environment.free_frames();
        // For `cargo exo measure`: what a block costs.
        workload::heap();
        println!("{} words, {letters} letters, in {taken} frames", words.len());
        0
    }
}
