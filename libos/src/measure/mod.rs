//! Instructions of an application's operations, exactly, and of the parts of each.
//!
//! ```ignore
//! measure::repeat("insert", || {
//!     let place = table.find(key);
//!     measure::mark("find");        // what came before is "find", what follows is "rest"
//!     table.put(place, value)
//! });
//! ```
//!
//! `cargo exo measure` boots the application where one tick of the time-stamp counter is one
//! instruction, of the kernel as well as of the program, and asks for so many samples (argument
//! `measure=1000`). Otherwise nothing is measured, [`repeat`] does its work once, and a mark is a
//! load and a branch. On the host a mark is nothing.
//!
//! A sample is the difference of two readings, less what is between two marks with nothing
//! between them. What keeping the account takes is in none. A mark is a call, though: what
//! the compiler would otherwise keep in registers may go through memory there.
//!
//! **Limits** one thread measures at a time: what others do meanwhile counts as its. Of the
//! interruptions by timer and neighbours the median knows nothing, the mean does. At most
//! [`MAX_PARTS`] parts of all operations together, totals and rests included.

#[cfg(any(exo_guest, test))]
mod account;
#[cfg(exo_guest)]
mod guest;
pub mod workload;

use core::hint::black_box;

#[cfg(exo_guest)]
pub(crate) use guest::{begin, finish};

/// Most parts of all operations together.
pub const MAX_PARTS: usize = 64;

/// Does `work` as an operation called `name`, and measures it if there are samples wanted. Within
/// another operation it is part of that.
#[inline(always)]
pub fn operation<R>(name: &'static str, work: impl FnOnce() -> R) -> R {
    #[cfg(exo_guest)]
    guest::reach(account::Event::Begin, name);
    let result = work();
    #[cfg(exo_guest)]
    guest::reach(account::Event::End, name);
    #[cfg(not(exo_guest))]
    let _ = name;
    result
}

/// Ends a part of the operation that is being measured: what was done since its beginning, or
/// since the last mark, is `name`. Outside of an operation it means nothing.
#[inline(always)]
pub fn mark(name: &'static str) {
    #[cfg(exo_guest)]
    guest::reach(account::Event::Mark, name);
    #[cfg(not(exo_guest))]
    let _ = name;
}

/// Does `work` as often as there are samples wanted, each as an [`operation`]; once if none are.
///
/// The compiler knows nothing of what `work` captures by reference, and everything of what is
/// written there counts as read, as does the result: so none of the work is left out. A constant
/// within `work` is known to it, though: what depends on nothing else may be computed
/// beforehand. Inputs are made outside, then, and captured.
#[inline(always)]
pub fn repeat<R>(name: &'static str, mut work: impl FnMut() -> R) {
    for _ in 0..runs() {
        let work = black_box(&mut work);
        // Within the operation: what was written has been written when it ends.
        operation(name, || black_box(work()));
    }
}

/// Whether there are samples wanted: for an application that otherwise does something else.
pub fn is_wanted() -> bool {
    runs() > 1
}

/// How often an operation is to be done so that there are as many samples as are wanted; one if
/// none are.
pub fn runs() -> usize {
    #[cfg(exo_guest)]
    let runs = guest::runs();
    #[cfg(not(exo_guest))]
    let runs = 1;
    runs
}
