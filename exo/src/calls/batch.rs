//! Several calls in one crossing.

use exo_abi::{BATCH_MAX, BATCH_WORDS, Error, UserPtr, call_number};

use super::{Caller, Reply, call};
use crate::user::UserWords;

/// One bit for each call that may not return to its caller.
const LEAVING: u64 = {
    let names = [
        "exit",
        "slice_yield",
        "wait",
        "machine_exit",
        "slice_donate",
        "transfer_call",
        "transfer_send",
        "transfer_reply",
        "batch",
        "wait_until",
    ];
    let (mut mask, mut index) = (0, 0);
    while index < names.len() {
        mask |= 1 << call_number(names[index]);
        index += 1;
    }
    mask
};

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
        let [number, a, b, c, d, e, f, code, value] = vector else { continue };
        let number = UserWords::load(number);
        let result = if number >= 64 || LEAVING >> number & 1 == 0 {
            let arguments = [a, b, c, d, e, f].map(UserWords::load);
            match call(caller, number, arguments) {
                Reply::Done(result) => result,
                _ => Err(Error::BadArgument),
            }
        } else {
            Err(Error::BadArgument)
        };
        match result {
            Ok(result) => {
                succeeded += 1;
                UserWords::store(code, 0);
                UserWords::store(value, result);
            }
            Err(error) => {
                UserWords::store(code, error.code());
                UserWords::store(value, 0);
            }
        }
    }
    Ok(succeeded)
}
