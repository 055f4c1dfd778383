//! The console's buffer: what was printed and has not gone out yet.
//!
//! The port is slow, and stands still when what comes out of it is not read. So printing is
//! putting text here, all of a call or nothing, that lines are not torn apart; a few bytes
//! go out with each call that prints, at each end of a slice and before the processor halts.
//! Only a kernel that is about to end waits for the port.

use core::cell::Cell;

use exo_abi::EnvId;

/// Bytes of the buffer: a power of two, and room for the longest text of a call.
const ROOM: usize = 4096;

/// What is left after a [`Console::drain`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Text, which the port would take.
    More,
    /// Text, which the port does not take now.
    Blocked,
}

/// An environment that pays for time. It stays in debt to itself only: once it is gone
/// none pays, whichever environment its number names then.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payer {
    pub(crate) env: EnvId,
    pub(crate) generation: u32,
}

/// The buffer.
pub struct Console {
    text: [Cell<u8>; ROOM],
    produced: Cell<u32>,
    consumed: Cell<u32>,
    /// The last that printed: it pays when its text goes out in no call of its own.
    pub payer: Cell<Option<Payer>>,
}

impl Default for Console {
    /// An empty one.
    fn default() -> Self {
        Self {
            text: [const { Cell::new(0) }; ROOM],
            produced: Cell::default(),
            consumed: Cell::default(),
            payer: Cell::default(),
        }
    }
}

impl Console {
    /// Whether there is nothing to go out.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.produced.get() == self.consumed.get()
    }

    fn place(&self, count: u32) -> &Cell<u8> {
        &self.text[count as usize % ROOM]
    }

    /// Puts `text` in, with a carriage return before each line feed. False, and nothing is
    /// put in, if there is no room for all of it.
    pub fn put(&self, text: &[u8]) -> bool {
        let returns = text.iter().filter(|byte| **byte == b'\n').count();
        let used = self.produced.get().wrapping_sub(self.consumed.get()) as usize;
        if used + text.len() + returns > ROOM {
            return false;
        }
        let mut produced = self.produced.get();
        let mut put = |byte| {
            self.place(produced).set(byte);
            produced = produced.wrapping_add(1);
        };
        for byte in text {
            if *byte == b'\n' {
                put(b'\r');
            }
            put(*byte);
        }
        self.produced.set(produced);
        true
    }

    /// Gives up to `most` bytes to `port`, which says whether it took the byte.
    pub fn drain(&self, most: u32, mut port: impl FnMut(u8) -> bool) -> Left {
        for _ in 0..most {
            let consumed = self.consumed.get();
            if self.is_empty() {
                return Left::Nothing;
            }
            if !port(self.place(consumed).get()) {
                return Left::Blocked;
            }
            self.consumed.set(consumed.wrapping_add(1));
        }
        if self.is_empty() { Left::Nothing } else { Left::More }
    }
}

#[cfg(test)]
mod tests {
    use super::{Console, Left, ROOM};

    fn drained(console: &Console, most: u32) -> (Left, String) {
        let mut text = Vec::new();
        let left = console.drain(most, |byte| {
            text.push(byte);
            true
        });
        (left, String::from_utf8(text).expect("text"))
    }

    #[test]
    fn what_is_put_in_comes_out_in_order_and_in_pieces() {
        let console = Console::default();
        // So often that the counts and the buffer go round.
        console.produced.set(u32::MAX - 5);
        console.consumed.set(u32::MAX - 5);
        for _ in 0..ROOM {
            assert_eq!(drained(&console, 4), (Left::Nothing, String::new()));
            assert!(console.put(b"one\ntwo"));
            assert_eq!(drained(&console, 4), (Left::More, "one\r".into()));
            assert_eq!(drained(&console, 4), (Left::Nothing, "\ntwo".into()));
        }
    }

    #[test]
    fn a_text_is_put_in_whole_or_not_at_all() {
        let console = Console::default();
        assert!(console.put(&[b'a'; ROOM - 3]));
        assert!(!console.put(b"ab\n"), "four with the carriage return");
        assert!(console.put(b"a\n"));
        assert!(!console.put(b"a"));
        assert!(console.put(b""));
        let (left, text) = drained(&console, u32::MAX);
        assert_eq!((left, text.len()), (Left::Nothing, ROOM));
        assert!(text.ends_with("aa\r\n"));
    }

    #[test]
    fn a_port_that_takes_nothing_keeps_nobody() {
        let console = Console::default();
        assert!(console.put(b"text"));
        let mut asked = 0;
        let left = console.drain(1000, |_| {
            asked += 1;
            asked % 3 != 0
        });
        assert_eq!((left, asked), (Left::Blocked, 3));
        assert_eq!(drained(&console, 9), (Left::Nothing, "xt".into()), "nothing is lost");
    }
}
