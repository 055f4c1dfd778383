//! One operation, many times; what the measuring costs itself.
//!
//! Under `-icount shift=0` the time-stamp counter counts instructions, of the kernel as
//! well as of programs ([`Counter::check`] shows that it does). Each sample is the
//! difference of two readings, less what the same costs around nothing. The median is
//! stated, so that a timer interrupt or the end of a slice that falls into a few samples
//! is of no consequence.
//!
//! Both programs that are compared, `apps/primbench` and `bench/linux-primitives`, measure
//! with this: whatever it does wrong, it does to both.
#![no_std]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::convert::Infallible;
use core::{fmt, mem};

/// Samples of each operation, unless it takes long.
pub const SAMPLES: usize = 1000;
/// Runs before the first sample, in which everything is touched for the first time.
pub const WARM_UP: usize = 100;

/// Reads the time-stamp counter. Nothing that touches memory is moved across, and it is
/// the same instructions wherever it stands, so that their cost can be subtracted.
#[inline(always)]
pub fn timestamp() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter; both systems allow it in ring 3 (`CR4.TSD` is clear).
    unsafe {
        asm!("rdtsc", "shl rdx, 32", "or rax, rdx", out("rax") ticks, out("rdx") _,
             options(nostack));
    }
    ticks
}

/// Measures, knowing what measuring costs, and prints a line per measurement.
#[derive(Debug)]
pub struct Counter {
    overhead: u64,
    print: Print,
}

/// Prints a line.
pub type Print = fn(fmt::Arguments<'_>);

impl Counter {
    /// Measures what measuring costs.
    pub fn new(print: Print) -> Self {
        let Ok(mut empty) = Self { overhead: 0, print }.samples(SAMPLES, nothing);
        empty.sort_unstable();
        Self { overhead: empty.get(SAMPLES / 2).copied().unwrap_or(0), print }
    }

    /// Prints what a thousand instructions that do nothing count as, and what a string
    /// instruction does that repeats 4096 times. A reader of the figures can see by it
    /// that they are instructions, and which of them count more than once.
    pub fn check(&self) {
        let Ok(nops) = self.samples(1, || {
            // SAFETY: does nothing.
            unsafe { asm!(".rept 1000", "nop", ".endr", options(nostack)) };
            nothing()
        });
        let mut page = [0_u8; 4096];
        let Ok(string) = self.samples(1, || {
            // SAFETY: writes the 4096 bytes of `page`, which nothing else looks at now.
            unsafe {
                asm!("rep stosb", inout("rcx") page.len() => _, in("al") 0_u8,
                     inout("rdi") page.as_mut_ptr() => _, options(nostack));
            };
            nothing()
        });
        for (what, counted) in [("nops=1000", nops), ("string=4096", string)] {
            let counted = counted.first().copied().unwrap_or(0);
            (self.print)(format_args!("check {what} counted={counted}"));
        }
    }

    /// Prints the line of an operation, of which each sample holds `parts`.
    pub fn print(&self, name: &str, parts: u64, mut samples: Vec<u64>) {
        samples.sort_unstable();
        let middle = samples.get(samples.len() / 2);
        let (Some(least), Some(middle), Some(most)) = (samples.first(), middle, samples.last())
        else {
            return (self.print)(format_args!("failed: no sample of {name}"));
        };
        let one = |sample: u64| sample as f64 / parts as f64;
        (self.print)(format_args!(
            "primitive {name} instructions={} least={} most={} samples={}",
            one(*middle),
            one(*least),
            one(*most),
            samples.len()
        ));
    }

    /// Measures `operation` and prints its line.
    ///
    /// # Errors
    /// The operation's.
    #[inline(always)]
    pub fn measure<E>(
        &self,
        name: &str,
        operation: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        self.print(name, 1, self.samples(SAMPLES, operation)?);
        Ok(())
    }

    /// Instructions from one reading to another, less what measuring costs.
    #[inline(always)]
    pub fn between(&self, start: u64, end: u64) -> u64 {
        (end - start).saturating_sub(self.overhead)
    }

    /// Instructions of each of `count` runs, after some that do not count.
    ///
    /// # Errors
    /// The operation's.
    #[inline(always)]
    pub fn samples<E>(
        &self,
        count: usize,
        mut operation: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<u64>, E> {
        let mut samples = vec![0; count];
        for _ in 0..WARM_UP {
            operation()?;
        }
        for sample in &mut samples {
            let start = timestamp();
            let done = operation();
            let end = timestamp();
            done?;
            *sample = self.between(start, end);
        }
        Ok(samples)
    }

    /// Instructions of those runs of `give_way` in which a partner took exactly one turn,
    /// of which `turns` knows the number.
    ///
    /// # Errors
    /// The operation's.
    #[inline(always)]
    pub fn turns<E>(
        &self,
        turns: impl Fn() -> u64,
        mut give_way: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<u64>, E> {
        for _ in 0..WARM_UP {
            give_way()?;
        }
        let mut samples = Vec::with_capacity(SAMPLES);
        for _ in 0..10 * SAMPLES {
            let before = turns();
            let start = timestamp();
            let done = give_way();
            let end = timestamp();
            done?;
            if turns() == before + 1 && samples.len() < SAMPLES {
                samples.push(self.between(start, end));
            }
        }
        Ok(samples)
    }
}

/// Instructions that an interruption takes from a loop that only reads the counter, until
/// `over` says that it has been.
#[inline(always)]
pub fn interruption(over: impl Fn() -> bool) -> u64 {
    let mut undisturbed = u64::MAX;
    let mut now = timestamp();
    loop {
        let last = mem::replace(&mut now, timestamp());
        undisturbed = undisturbed.min(now - last);
        // It may have come before this reading or after it: two intervals hold it.
        if over() {
            return (timestamp() - last).saturating_sub(2 * undisturbed);
        }
    }
}

fn nothing() -> Result<(), Infallible> {
    Ok(())
}
