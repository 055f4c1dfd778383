//! Several calls in one crossing.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{BATCH_MAX, BATCH_WORDS, Error, UserPtr};

use super::{Caller, Reply, call};
use crate::user::UserWords;

#[inline(never)]
pub(super) fn batch(caller: Caller<'_>, calls: UserPtr, count: u32) -> Result<u64, Error> {
    if count > BATCH_MAX {
        return Err(Error::TooMuch);
    }
    let frames = &caller.kernel.frames;
    // Held: one of the calls might give away the very page the results go to.
    let root = caller.env.root_table.get();
    let words = UserWords::<BATCH_WORDS>::hold(frames, root, calls, count as usize)?;
    let mut succeeded = 0;
    for [number, arguments @ .., code, value] in words.get() {
        let argument = |index: usize| arguments.get(index).map_or(0, |word| word.load(Relaxed));
        // A batch makes only calls that return.
        let (error, result) = match call::<true>(caller, number.load(Relaxed), argument) {
            Reply::Done(Ok(value)) => (0, value),
            Reply::Done(Err(error)) => (error.code(), 0),
            Reply::Refused(error, value) => (error.code(), value),
            _ => return Err(Error::WrongState),
        };
        succeeded += u64::from(error == 0);
        code.store(error, Relaxed);
        value.store(result, Relaxed);
    }
    Ok(succeeded)
}
