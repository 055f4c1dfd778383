//! The console: whole lines, each with the application's name in front.
//!
//! All environments print to one console, so a line is written in one system
//! call where it fits, and cannot be torn apart by another's. The kernel takes
//! at most [`LINE_BYTES`] at once; a longer line goes out in pieces.

#[cfg(exo_guest)]
mod guest;

use core::fmt;

#[cfg(exo_hosted)]
pub use crate::hosted::{name, print};
#[cfg(exo_guest)]
pub use guest::{init, name, print};

/// Most bytes of one system call.
pub const LINE_BYTES: usize = 1024;

/// Where finished pieces of text go.
pub trait Sink {
    /// Takes `text`, at most [`LINE_BYTES`] long. What cannot be printed is lost:
    /// there is nowhere to report it to.
    fn put(&mut self, text: &[u8]);
}

/// Collects text until a line is complete.
pub struct LineWriter<S> {
    sink: S,
    buffer: [u8; LINE_BYTES],
    used: usize,
}

impl<S: Sink> LineWriter<S> {
    /// An empty line that goes to `sink`.
    pub const fn new(sink: S) -> Self {
        Self { sink, buffer: [0; LINE_BYTES], used: 0 }
    }

    /// Writes `name: text` and ends the line.
    pub fn line(&mut self, name: &str, text: fmt::Arguments<'_>) {
        // `write_str` below never fails; a `Display` that does has printed what
        // it could.
        let _ = fmt::write(self, format_args!("{name}: {text}\n"));
        self.flush();
    }

    /// Passes on what has been collected.
    pub fn flush(&mut self) {
        let text = self.buffer.get(..self.used).unwrap_or_default();
        if !text.is_empty() {
            self.sink.put(text);
        }
        self.used = 0;
    }
}

impl<S: Sink> fmt::Write for LineWriter<S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let free = self.buffer.get_mut(self.used..).unwrap_or_default();
            let count = free.len().min(rest.len());
            let (now, later) = rest.split_at(count);
            for (to, from) in free.iter_mut().zip(now) {
                *to = *from;
            }
            self.used += count;
            rest = later;
            if self.used == LINE_BYTES {
                self.flush();
            }
        }
        Ok(())
    }
}

/// Prints a line to the console, with the application's name in front.
#[cfg(any(exo_guest, exo_hosted))]
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::console::print(::core::format_args!($($argument)*))
    };
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES, LineWriter, Sink};

    impl Sink for &mut Vec<Vec<u8>> {
        fn put(&mut self, text: &[u8]) {
            assert!(text.len() <= LINE_BYTES);
            self.push(text.to_vec());
        }
    }

    #[test]
    fn a_line_is_one_piece() {
        let mut pieces = Vec::new();
        let mut writer = LineWriter::new(&mut pieces);
        writer.line("echo", format_args!("serving {}:{}", "10.0.2.16", 7));
        writer.line("echo", format_args!(""));
        assert_eq!(pieces, [b"echo: serving 10.0.2.16:7\n".to_vec(), b"echo: \n".to_vec()]);
    }

    #[test]
    fn long_lines_are_split_and_complete() {
        let mut pieces = Vec::new();
        let text: String = (0..5000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
        LineWriter::new(&mut pieces).line("n", format_args!("{text}"));
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces.concat(), format!("n: {text}\n").into_bytes());
        let mut exact = Vec::new();
        LineWriter::new(&mut exact).line("n", format_args!("{}", &text[..LINE_BYTES - 4]));
        assert_eq!(exact.len(), 1);
    }
}
