//! How far a capability goes: stretches that end wherever the code is, time that is used up,
//! capabilities that are gone.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Allowance, Error, Lowered, Rights};
use libos::elevation::{self, Elevation};
use libos::sys;
use libos::time::timestamp;
use selftest::check::{Outcome, holds, refused, same};

use crate::bench::{Bench, Check, RIGHTS, WHOLE, drop_cap, in_ring, lost_by};

pub(crate) const CHECKS: &[Check] = &[
    ("an endless loop loses ring 0 at the end of the stretch", deadline),
    ("less can be derived, and not more", derived),
    ("a capability that is used up gives no ring 0", exhausted),
    ("copies do not make it last longer, and dropping them neither", copies),
    ("one that is revoked or dropped takes ring 0 along", revoked),
    ("it is for the processors that it names", cores),
];

const SHORT: Allowance = Allowance { stretch: 2000, ..WHOLE };

/// Computes until ring 0 is gone, and at most for `patience` ticks. Returns when.
fn until_lowered(patience: u64) -> u64 {
    let enough = timestamp() + patience;
    while elevation::is_elevated() && timestamp() < enough {
        core::hint::spin_loop();
    }
    timestamp()
}

fn deadline(bench: &mut Bench) -> Outcome {
    let short = Bench::less(bench.handle, RIGHTS, SHORT)?;
    let before = bench.environment.system.lowered[Lowered::Deadline as usize].load(Relaxed);
    for _ in 0..5 {
        let stretch = Elevation::new(short).begin()?;
        let end = stretch.end();
        let at = until_lowered(bench.ticks(1_000_000));
        lost_by(Lowered::Deadline)?;
        holds("before its end", at >= end)?;
        drop(stretch);
    }
    let after = bench.environment.system.lowered[Lowered::Deadline as usize].load(Relaxed);
    holds("the kernel does not count them", after - before >= 5)?;
    Ok(drop_cap(short)?)
}

fn derived(bench: &mut Bench) -> Outcome {
    let less = Allowance { cores: 1, stretch: 3000, total: 10_000 };
    let cap = Bench::less(bench.handle, RIGHTS, less)?;
    for more in [
        Allowance { cores: 3, ..less },
        Allowance { stretch: 3001, ..less },
        Allowance { total: 10_001, ..less },
        WHOLE,
    ] {
        refused(Bench::less(cap, RIGHTS, more).map(|_| 0), Error::OutOfRange)?;
    }
    refused(Bench::less(cap, Rights::ALL, less).map(|_| 0), Error::NoRight)?;
    // One that may not run in ring 0, and one that may not be derived from.
    let idle = Bench::less(cap, Rights::GRANT, less)?;
    refused(sys::elevate(idle), Error::NoRight)?;
    let last = Bench::less(cap, Rights::CONTROL, less)?;
    refused(Bench::less(last, Rights::CONTROL, less).map(|_| 0), Error::NoRight)?;
    in_ring(3)?;
    for cap in [last, idle, cap] {
        drop_cap(cap)?;
    }
    Ok(())
}

fn exhausted(bench: &mut Bench) -> Outcome {
    let scarce = Allowance { total: 5000, ..SHORT };
    let cap = Bench::less(bench.handle, RIGHTS, scarce)?;
    let before = elevation::area().ticks.load(Relaxed);
    let mut stretches = 0;
    loop {
        match Elevation::new(cap).begin() {
            Ok(stretch) => {
                until_lowered(bench.ticks(1_000_000));
                drop(stretch);
                stretches += 1;
                holds("it is never used up", stretches <= 3)?;
            }
            Err(error) => {
                same("refusal", error, Error::OutOfRange)?;
                break;
            }
        }
    }
    in_ring(3)?;
    same("stretches", stretches, 3)?;
    // A slice later at most, each.
    let took = elevation::area().ticks.load(Relaxed) - before;
    holds("less than was granted", took >= bench.ticks(4900))?;
    Ok(drop_cap(cap)?)
}

fn copies(bench: &mut Bench) -> Outcome {
    let scarce = Allowance { total: 6000, ..SHORT };
    let cap = Bench::less(bench.handle, RIGHTS, scarce)?;
    // A copy that is dropped in ring 0 takes along what was left of its stretch.
    for _ in 0..3 {
        let copy = Bench::less(cap, RIGHTS, Allowance { total: 2000, ..SHORT })?;
        let stretch = Elevation::new(copy).begin()?;
        drop_cap(copy)?;
        until_lowered(bench.ticks(1_000_000));
        lost_by(Lowered::Revoked)?;
        drop(stretch);
    }
    refused(sys::elevate(cap), Error::OutOfRange)?;
    Ok(drop_cap(cap)?)
}

fn revoked(bench: &mut Bench) -> Outcome {
    let cap = Bench::less(bench.handle, RIGHTS, WHOLE)?;
    let copy = Bench::less(cap, RIGHTS, WHOLE)?;
    let stretch = Elevation::new(copy).begin()?;
    sys::cap_revoke(cap)?;
    let at = until_lowered(bench.ticks(1_000_000));
    lost_by(Lowered::Revoked)?;
    holds("only at the end of its stretch", at < stretch.end())?;
    drop(stretch);
    refused(sys::elevate(copy), Error::BadHandle)?;
    drop_cap(cap)?;
    refused(sys::elevate(cap), Error::BadHandle)
}

fn cores(bench: &mut Bench) -> Outcome {
    let cap = Bench::less(bench.handle, RIGHTS, Allowance { cores: 1 << 31, ..WHOLE })?;
    refused(sys::elevate(cap), Error::OutOfRange)?;
    in_ring(3)?;
    Ok(drop_cap(cap)?)
}
