//! The console: a 16550 serial port, written by polling.

use core::fmt;

use super::cpu::{in8, out8};

const PORT: u16 = 0x3f8;
const LINE_STATUS: u16 = PORT + 5;
const TRANSMIT_EMPTY: u8 = 1 << 5;
/// Longest wait for the port in one call, in polls: a dead port must not stop the
/// machine.
const PATIENCE: u32 = 100_000;

/// The serial port as a text sink.
pub struct Serial;

impl Serial {
    /// Writes bytes, a carriage return before each line feed.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let mut patience = PATIENCE;
        for &byte in bytes {
            if byte == b'\n' {
                put(b'\r', &mut patience);
            }
            put(byte, &mut patience);
        }
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        Ok(())
    }
}

fn put(byte: u8, patience: &mut u32) {
    // SAFETY: a serial port moves bytes and touches no memory.
    unsafe {
        while in8(LINE_STATUS) & TRANSMIT_EMPTY == 0 && *patience > 0 {
            *patience -= 1;
        }
        out8(PORT, byte);
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
