//! The console: a 16550 serial port without interrupts, and the buffer before it
//! ([`crate::console`]).

use core::fmt;

use super::cpu::{in8, out8, time_stamp};
use crate::console::{Console, Left};
use crate::slots::Payer;
use crate::state::State;
use crate::work::Work;

const PORT: u16 = 0x3f8;
const LINE_STATUS: u16 = PORT + 5;
const TRANSMIT_EMPTY: u8 = 1 << 5;
/// Longest wait for the port when the kernel itself prints, in polls: a dead port must not
/// stop the machine.
const PATIENCE: u32 = 100_000;
/// Bytes that go out at a time while others may want to run.
const PIECE: u32 = 128;
/// What a byte costs: few instructions, but each access to a port is dear.
const BYTE: u32 = 100;

/// Puts `text` of the environment that `payer` is into the buffer, and lets a piece of it go
/// out. False if there is no room for all of it.
pub fn print(console: &Console, text: &[u8], payer: Payer, work: &Work) -> bool {
    work.spend(PIECE * BYTE + 8 * text.len() as u32);
    let fits = console.put(text);
    if fits {
        console.payer.set(Some(payer));
    }
    console.drain(PIECE, take);
    fits
}

/// Lets a piece go out, at the expense of the environment that printed last.
#[inline]
pub fn drain(kernel: &State) -> Left {
    if kernel.console.is_empty() { Left::Nothing } else { drain_piece(kernel) }
}

#[cold]
fn drain_piece(kernel: &State) -> Left {
    let console = &kernel.console;
    let begin = time_stamp();
    let left = console.drain(PIECE, take);
    if let Some(payer) = console.payer.get() {
        payer.charge(kernel, time_stamp() - begin);
    }
    left
}

/// Lets everything go out, as far as the port takes it.
pub fn flush(console: &Console) {
    let mut patience = PATIENCE;
    console.drain(u32::MAX, |byte| {
        put(byte, &mut patience);
        true
    });
}

/// The serial port as a text sink, for the kernel's own lines: at once, so that what was
/// printed before is to be [flushed](flush).
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut patience = PATIENCE;
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r', &mut patience);
            }
            put(byte, &mut patience);
        }
        Ok(())
    }
}

/// Gives the port a byte, if it takes one now.
fn take(byte: u8) -> bool {
    // SAFETY: a serial port moves bytes and touches no memory.
    unsafe {
        let ready = in8(LINE_STATUS) & TRANSMIT_EMPTY != 0;
        if ready {
            out8(PORT, byte);
        }
        ready
    }
}

/// Gives the port a byte, as soon as it takes one or patience is at its end.
fn put(byte: u8, patience: &mut u32) {
    while !take(byte) {
        if *patience == 0 {
            // SAFETY: as in `take`.
            return unsafe { out8(PORT, byte) };
        }
        *patience -= 1;
    }
}

/// Prints a line of the kernel's own on the console, prefixed `exo: `.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // A serial port that swallows text is no reason to stop.
        let _ = writeln!($crate::arch::serial::Serial, "exo: {}", format_args!($($argument)*));
    }};
}
