//! Protected control transfer: calls with a reply, and one way.
//!
//! The program serves, while what it does otherwise sleeps; the partner calls, and
//! leaves its samples in the shared page.

use exo_abi::{EnvState, Error, Handle, Word};
use libos::sys;
use libos::transfer::{self, Message, Remote};
use ruler::{WARM_UP, timestamp};
use selftest::child::{Code, SHARED, exit};
use selftest::frames::{read, window, write};

use crate::environments::{PATIENCE, Setting};

/// Where the entries' stack lies.
const STACK: u32 = 20;
/// Samples that a page has room for.
const PAGEFUL: usize = 500;

/// Half of a call and its reply: with an entry that replies at once, and with a
/// Rust function that adds. And a whole transfer without a reply.
pub(crate) fn measure(setting: &Setting<'_>) -> Result<(), Error> {
    let frames = setting.maker.frames;
    let stack = window(STACK);
    let frame = frames.page(stack)?;
    let top = stack.plus(1).ok_or(Error::BadAddress)?.get();
    // SAFETY: the page was made for this, and nothing else uses it.
    let entries = unsafe { [transfer::offer(0, ends, top)?, transfer::offer(1, adds, top)?] };
    transfer(setting, ("transfer", 2), calls_bare, entries[0])?;
    transfer(setting, ("transfer-libos", 2), calls_typed, entries[1])?;
    transfer(setting, ("send", 1), sends, entries[0])?;
    for entry in entries {
        sys::cap_drop(entry)?;
    }
    frames.drop_page(stack, frame)
}

/// A line, each sample of which holds so many parts, of what `code` does to `entry`.
fn transfer(
    setting: &Setting<'_>,
    (name, parts): (&str, u64),
    code: Code,
    entry: Handle,
) -> Result<(), Error> {
    let child = setting.child()?;
    child.start(code, sys::cap_grant(entry, child.env)?)?;
    let status = child.wait(PATIENCE)?.ok_or(Error::Again)?;
    if (status.state, status.code) != (EnvState::Exited as u32, 0) {
        return Err(Error::WrongState);
    }
    let sample = |index: usize| setting.counter.between(0, read(setting.shared, index * 8));
    setting.counter.print(name, parts, (0..PAGEFUL).map(sample).collect());
    child.destroy()
}

extern "C" fn calls_bare(entry: u64) -> ! {
    let Ok(entry) = Handle::from_word(entry) else { exit(1) };
    // The other side leaves the message registers as they are, so that the bare call
    // preserves what Rust expects.
    fill(|| sys::transfer_call(entry, Handle::NONE).is_ok())
}

extern "C" fn calls_typed(entry: u64) -> ! {
    let Ok(entry) = Handle::from_word(entry) else { exit(1) };
    let add = Remote::<(u64, u64), u64>::new(entry);
    fill(|| add.call((2, 3)) == Ok(5))
}

/// Until the partner runs again: the other side is asleep by then, having served. It is
/// busy only if a slice ended while it did.
extern "C" fn sends(entry: u64) -> ! {
    let Ok(entry) = Handle::from_word(entry) else { exit(1) };
    fill(|| {
        loop {
            match sys::transfer_send(entry, Handle::NONE) {
                Err(Error::Busy) => drop(sys::slice_yield()),
                result => return result.is_ok(),
            }
        }
    })
}

/// Fills the shared page with samples of `call`, and ends.
#[inline(always)]
fn fill(call: impl Fn() -> bool) -> ! {
    for index in 0..WARM_UP + PAGEFUL {
        let start = timestamp();
        let done = call();
        let end = timestamp();
        if !done {
            exit(2);
        }
        write(SHARED, index.saturating_sub(WARM_UP) * 8, end - start);
    }
    exit(0)
}

/// An entry point that ends at once, and replies with what it was called with if
/// one waits for that.
use libos::transfer::reply as ends;

libos::entry_point! {
    /// An entry point that replies with a sum.
    adds => add
}

extern "C" fn add(_: u64, _: u64, message: &mut Message) {
    message[0] = message[0].wrapping_add(message[1]);
}
