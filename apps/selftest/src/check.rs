//! What checks are written with, and the loop that runs them.
//!
//! A check is a name and a function over whatever the program works with. It ends at the
//! first thing that is not as it should be, and says where that is in the source.

use alloc::string::String;
use core::fmt;
use core::panic::Location;

use exo_abi::Error;
use libos::memory::MemoryError;
use libos::println;
use libos::sched::threads::SpawnError;

/// A name and what is done with a `B`.
pub type Check<B> = (&'static str, fn(&mut B) -> Outcome);
/// How a check ends.
pub type Outcome = Result<(), Failure>;

/// Exit code of a program that has nothing to check with. Others are numbers of checks.
pub const NO_BENCH: u64 = 200;

/// Runs `checks` in order, each whatever became of the others, and prints a line for
/// each and one at the end. Returns the number of the first that failed, or 0.
pub fn run<B>(checks: &[&[Check<B>]], bench: &mut B) -> u64 {
    let (mut first_failed, mut failed) = (0, 0);
    let checks = || checks.iter().copied().flatten();
    for (number, (name, check)) in (1..).zip(checks()) {
        match check(bench) {
            Ok(()) => println!("{number:02} {name}: ok"),
            Err(failure) => {
                println!("{number:02} {name}: FAILED: {failure}");
                failed += 1;
                if first_failed == 0 {
                    first_failed = number;
                }
            }
        }
    }
    println!("done, {} checks, {failed} failed", checks().count());
    first_failed
}

/// The same with a bench of its own, which is closed at the end. The program's exit code: also
/// [`NO_BENCH`], if there was none or it could not be closed.
pub fn run_and_close<B>(
    checks: &[&[Check<B>]],
    bench: Result<B, Error>,
    close: impl FnOnce(B) -> Result<(), Error>,
) -> u64 {
    let mut bench = match bench {
        Ok(bench) => bench,
        Err(error) => {
            println!("cannot set up: {error}");
            return NO_BENCH;
        }
    };
    let first_failed = run(checks, &mut bench);
    match close(bench) {
        Ok(()) => first_failed,
        Err(error) => {
            println!("cannot clean up: {error}");
            NO_BENCH
        }
    }
}

/// Why a check failed, and where in it.
pub struct Failure {
    what: String,
    place: &'static Location<'static>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.what, self.place.file(), self.place.line())
    }
}

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            #[track_caller]
            fn from(error: $error) -> Self {
                Self { what: alloc::format!("refused: {error}"), place: Location::caller() }
            }
        })*
    };
}
failures!(Error, MemoryError, SpawnError);

/// Fails unless two values are the same.
///
/// # Errors
/// If they are not: both, and what they are.
#[track_caller]
pub fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    let what = alloc::format!("{what}: {got:?} instead of {wanted:?}");
    Err(Failure { what, place: Location::caller() })
}

/// Fails unless `condition` holds.
///
/// # Errors
/// With `what` if it does not, which is to say what is wrong then.
#[track_caller]
pub fn holds(what: &str, condition: bool) -> Outcome {
    if condition {
        return Ok(());
    }
    Err(Failure { what: what.into(), place: Location::caller() })
}

/// Fails unless a call was refused for the reason `wanted`.
///
/// # Errors
/// If it was done, or refused for another reason.
#[track_caller]
pub fn refused(result: Result<u64, Error>, wanted: Error) -> Outcome {
    same("answer", result.map(|_| ()), Err(wanted))
}
