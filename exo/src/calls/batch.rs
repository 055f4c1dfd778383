//! Several calls in one crossing, as far as the work of one entry goes.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{BATCH_MAX, BATCH_WORDS, Error, UserPtr};

use super::call;
use super::caller::{Caller, Reply};
use crate::user::UserWords;

/// What a call costs at most that spends nothing of its own.
const CALL: u32 = 250;

#[inline(never)]
pub(super) fn batch(caller: Caller<'_>, calls: UserPtr, count: u32) -> Result<u64, Error> {
    if count > BATCH_MAX {
        return Err(Error::TooMuch);
    }
    let frames = &caller.kernel.frames;
    // Held: one of the calls might give away the very page the results go to.
    let root = caller.env.root_table.get();
    let words = UserWords::<BATCH_WORDS>::hold(frames, root, calls, count as usize)?;
    let work = caller.work();
    work.spend(count * CALL);
    let mut made = 0;
    for [number, arguments @ .., code, value] in words.get() {
        if work.is_spent() {
            break;
        }
        made += 1;
        let argument = |index: usize| arguments.get(index).map_or(0, |word| word.load(Relaxed));
        // A batch makes only calls that return.
        match call::<true>(caller, number.load(Relaxed), argument) {
            Reply::Done(result) => {
                code.store(result.err().map_or(0, Error::code), Relaxed);
                value.store(result.unwrap_or(0), Relaxed);
            }
            Reply::Refused(error, explained) => {
                code.store(error.code(), Relaxed);
                value.store(explained, Relaxed);
            }
            // The rest of the slice stays the batch's.
            Reply::Aside(error) => code.store(error.code(), Relaxed),
            _ => return Err(Error::WrongState),
        }
    }
    Ok(made)
}
