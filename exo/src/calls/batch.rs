//! Several calls in one crossing.

use exo_abi::{BATCH_MAX, BATCH_WORDS, Error, UserPtr};

use super::{Caller, Reply, call};
use crate::user::UserWords;

#[inline(never)]
pub(super) fn batch(caller: Caller<'_>, calls: UserPtr, count: u32) -> Result<u64, Error> {
    if count > BATCH_MAX {
        return Err(Error::TooMuch);
    }
    let frames = &caller.kernel.frames;
    let length = count as usize * BATCH_WORDS;
    // Held: one of the calls might give away the very page the results go to.
    let words = UserWords::hold(frames, caller.env.root_table.get(), calls, length)?;
    let mut succeeded = 0;
    for vector in words.get().chunks_exact(BATCH_WORDS) {
        let [number, arguments @ .., code, value] = vector else { continue };
        let argument = |index: usize| arguments.get(index).map_or(0, UserWords::load);
        match call::<true>(caller, UserWords::load(number), argument) {
            Reply::Done(Ok(result)) => {
                succeeded += 1;
                UserWords::store(code, 0);
                UserWords::store(value, result);
            }
            Reply::Done(Err(error)) => {
                UserWords::store(code, error.code());
                UserWords::store(value, 0);
            }
            // A batch makes only calls that return.
            _ => return Err(Error::WrongState),
        }
    }
    Ok(succeeded)
}
