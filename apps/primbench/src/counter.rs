//! One operation, many times; what the measuring costs itself.
//!
//! Each sample is the difference of two readings of the time-stamp counter, less what
//! the same costs around nothing. The median is stated, so that the end of a slice that
//! falls into a few samples is of no consequence.

use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;

use exo_abi::Error;
use libos::println;

/// Samples of each operation.
pub(crate) const SAMPLES: usize = 1000;
/// Runs before the first sample.
pub(crate) const WARM_UP: usize = 100;

/// Reads the time-stamp counter. Nothing that touches memory is moved across, and it is
/// the same instructions wherever it stands, so that their cost can be subtracted.
#[inline(always)]
pub(crate) fn timestamp() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter; the kernel allows it in ring 3.
    unsafe {
        asm!("rdtsc", "shl rdx, 32", "or rax, rdx", out("rax") ticks, out("rdx") _,
             options(nostack));
    }
    ticks
}

/// Measures, knowing what measuring costs.
pub(crate) struct Counter {
    overhead: u64,
}

impl Counter {
    pub(crate) fn new() -> Self {
        // Doing nothing is not refused.
        let nothing = Self { overhead: 0 }.samples(SAMPLES, || Ok(()));
        let mut empty = nothing.unwrap_or_default();
        empty.sort_unstable();
        Self { overhead: empty.get(SAMPLES / 2).copied().unwrap_or(0) }
    }

    /// Prints what a thousand instructions that do nothing count as.
    pub(crate) fn check(&self) {
        let counted = self.samples(1, || {
            // SAFETY: does nothing.
            unsafe { asm!(".rept 1000", "nop", ".endr", options(nostack)) };
            Ok(())
        });
        println!("check nops=1000 counted={}", counted.map_or(0, |counted| counted[0]));
    }

    /// What measuring costs itself.
    pub(crate) fn overhead(&self) -> u64 {
        self.overhead
    }

    /// Measures `operation` and prints its line.
    ///
    /// # Errors
    /// The operation's.
    #[inline(always)]
    pub(crate) fn measure(
        &self,
        name: &str,
        operation: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        print(name, 1, self.samples(SAMPLES, operation)?);
        Ok(())
    }

    /// Instructions of each of `count` runs, after some that do not count.
    #[inline(always)]
    pub(crate) fn samples(
        &self,
        count: usize,
        mut operation: impl FnMut() -> Result<(), Error>,
    ) -> Result<Vec<u64>, Error> {
        let mut samples = vec![0; count];
        for _ in 0..WARM_UP {
            operation()?;
        }
        for sample in &mut samples {
            let start = timestamp();
            let done = operation();
            let end = timestamp();
            done?;
            *sample = (end - start).saturating_sub(self.overhead);
        }
        Ok(samples)
    }
}

/// Prints the line of an operation, of which each sample holds `parts`.
pub(crate) fn print(name: &str, parts: u64, mut samples: Vec<u64>) {
    samples.sort_unstable();
    let (Some(least), Some(most)) = (samples.first(), samples.last()) else { return };
    let one = |sample: u64| sample as f64 / parts as f64;
    println!(
        "primitive {name} instructions={} least={} most={} samples={}",
        one(samples[samples.len() / 2]),
        one(*least),
        one(*most),
        samples.len()
    );
}
