//! How fast the guest's time-stamp counter is.
//!
//! On a `microvm` with ACPI there is no clock by which Linux could find out itself: no PIT,
//! no HPET, no timer of the power management. It has to be told, or it hangs. Under TCG the
//! guest's counter is the host's; with `-icount` it counts nanoseconds.

use std::time::{Duration, Instant};

/// kHz of the counter when it counts nanoseconds.
const ICOUNT: u64 = 1_000_000;
/// Long enough for a few parts in a million.
const MEASURED: Duration = Duration::from_millis(50);

/// kHz of the guest's time-stamp counter.
///
/// **Blocking** for 50 ms, unless the counter counts instructions.
pub(super) fn tsc_khz(icount: bool) -> u64 {
    if icount {
        return ICOUNT;
    }
    let (start, begin) = (Instant::now(), host_counter());
    std::thread::sleep(MEASURED);
    let (nanoseconds, end) = (start.elapsed().as_nanos(), host_counter());
    let khz = u128::from(end.wrapping_sub(begin)) * 1_000_000 / nanoseconds.max(1);
    u64::try_from(khz).unwrap_or(ICOUNT)
}

fn host_counter() -> u64 {
    // SAFETY: the instruction reads a register that every x86-64 processor has and that
    // programs may read unless the system has forbidden it, which Linux does not.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_frequency() {
        assert_eq!(tsc_khz(true), 1_000_000);
        let (first, second) = (tsc_khz(false), tsc_khz(false));
        assert!((100_000..20_000_000).contains(&first), "{first} kHz");
        assert!(first.abs_diff(second) < first / 10, "{first} and {second} kHz");
    }
}
