//! One operation, many times; what the measuring costs itself.
//!
//! Each sample is the difference of two readings of the time-stamp counter, less what
//! the same costs around nothing. The median is stated, so that a timer interrupt that
//! falls into a few samples is of no consequence.

use std::arch::asm;

/// Samples of each operation.
pub(crate) const SAMPLES: usize = 1000;
/// Runs before the first sample, in which everything is touched for the first time.
pub(crate) const WARM_UP: usize = 100;

/// Reads the time-stamp counter. Nothing that touches memory is moved across, and it is
/// the same instructions wherever it stands, so that their cost can be subtracted.
#[inline(always)]
pub(crate) fn timestamp() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter; Linux allows it in ring 3 (`CR4.TSD` is clear).
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
        let mut empty = Self { overhead: 0 }.samples(SAMPLES, || {});
        empty.sort_unstable();
        Self { overhead: empty[SAMPLES / 2] }
    }

    /// Prints what a thousand instructions that do nothing count as, and what a string
    /// instruction does that repeats 4096 times. Whoever reads the figures can see by it
    /// that they are instructions, and which of them count more than once.
    pub(crate) fn check(&self) {
        let counted = self.samples(1, || {
            // SAFETY: does nothing.
            unsafe { asm!(".rept 1000", "nop", ".endr", options(nostack)) };
        });
        println!("check nops=1000 counted={}", counted[0]);
        let mut page = [0_u8; 4096];
        let counted = self.samples(1, || {
            // SAFETY: writes the 4096 bytes of `page`, which nothing else looks at now.
            unsafe {
                asm!("rep stosb", inout("rcx") page.len() => _, in("al") 0_u8,
                     inout("rdi") page.as_mut_ptr() => _, options(nostack));
            };
        });
        println!("check string=4096 counted={}", counted[0]);
    }

    /// What measuring costs itself.
    pub(crate) fn overhead(&self) -> u64 {
        self.overhead
    }

    /// Measures `operation` and prints its line.
    pub(crate) fn measure(&self, name: &str, operation: impl FnMut()) {
        print(name, 1, self.samples(SAMPLES, operation));
    }

    /// Instructions of each of `count` runs, after some that do not count.
    #[inline(always)]
    pub(crate) fn samples(&self, count: usize, mut operation: impl FnMut()) -> Vec<u64> {
        let mut samples = vec![0; count];
        for _ in 0..WARM_UP {
            operation();
        }
        for sample in &mut samples {
            let start = timestamp();
            operation();
            let end = timestamp();
            *sample = (end - start).saturating_sub(self.overhead);
        }
        samples
    }
}

/// Prints the line of an operation, of which each sample holds `parts`.
pub(crate) fn print(name: &str, parts: u64, mut samples: Vec<u64>) {
    samples.sort_unstable();
    let (Some(least), Some(most)) = (samples.first(), samples.last()) else {
        println!("failed: no sample of {name}");
        return;
    };
    let one = |sample: u64| sample as f64 / parts as f64;
    println!(
        "primitive {name} instructions={} least={} most={} samples={}",
        one(samples[samples.len() / 2]),
        one(*least),
        one(*most),
        samples.len()
    );
}
