//! The guest's serial console as lines of text.
//!
//! What the guest says is not trusted: an application may print anything. Control
//! characters are replaced, so that no line can move the cursor of the terminal it
//! is shown on; a line without end is cut, and of very much output the oldest lines
//! are forgotten.

use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Longest line in bytes; a longer one is cut into several.
const LINE: usize = 4096;
/// Lines kept.
const KEPT: usize = 100_000;

/// A view of a machine's console; clones see the same console.
#[derive(Clone, Debug, Default)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    /// Lines forgotten, thus the number of the first one kept.
    forgotten: usize,
    ended: bool,
}

impl Console {
    /// Line `number` in the order of appearance, counted from 0, if it is there yet.
    /// In place of a forgotten line stands an empty one.
    #[must_use]
    pub fn line(&self, number: usize) -> Option<String> {
        let state = self.state();
        match number.checked_sub(state.forgotten) {
            Some(index) => state.lines.get(index).cloned(),
            None => Some(String::new()),
        }
    }

    /// All lines kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.iter().cloned().collect()
    }

    /// All lines kept, as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines().iter().flat_map(|line| [line, "\n"]).collect()
    }

    /// Whether nothing more will come, because the machine has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.state().ended
    }

    /// **Blocking** until line `number` is there (true), the console has ended or
    /// the deadline has passed (false).
    #[must_use]
    pub fn wait_for(&self, number: usize, deadline: Instant) -> bool {
        let mut state = self.state();
        loop {
            if number < state.forgotten + state.lines.len() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads a serial line until its end.
    pub(super) fn read_from(&self, serial: impl Read) {
        let mut line = Vec::new();
        for byte in BufReader::new(serial).bytes() {
            let Ok(byte) = byte else { break };
            match byte {
                b'\n' => self.push(&mut line),
                _ => line.push(byte),
            }
            if line.len() == LINE {
                self.push(&mut line);
            }
        }
        if !line.is_empty() {
            self.push(&mut line);
        }
        self.state().ended = true;
        self.shared.changed.notify_all();
    }

    fn push(&self, line: &mut Vec<u8>) {
        let text = printable(line);
        line.clear();
        let mut state = self.state();
        state.lines.push_back(text);
        if state.lines.len() > KEPT {
            state.lines.pop_front();
            state.forgotten += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line's text, harmless to a terminal.
fn printable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let harmless = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    String::from_utf8_lossy(line).chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Console {
        let console = Console::default();
        console.read_from(bytes);
        console
    }

    #[test]
    fn splits_lines() {
        let console = read(b"exo: one\r\n\ntwo");
        assert_eq!(console.lines(), ["exo: one", "", "two"]);
        assert_eq!(console.text(), "exo: one\n\ntwo\n");
        assert_eq!(console.line(2).as_deref(), Some("two"));
        assert_eq!(console.line(3), None);
        assert!(console.ended());
    }

    #[test]
    fn is_harmless_to_terminals() {
        assert_eq!(read(b"\x1b[2J\tx\xff\n").lines(), ["\u{fffd}[2J\tx\u{fffd}"]);
    }

    #[test]
    fn is_bounded() {
        let console = read(&vec![b'x'; LINE + 1]);
        assert_eq!(console.lines().iter().map(String::len).collect::<Vec<_>>(), [LINE, 1]);

        let console = read("a\n".repeat(KEPT + 2).as_bytes());
        assert_eq!(console.lines().len(), KEPT);
        assert_eq!(console.line(1).as_deref(), Some(""));
        assert_eq!(console.line(2).as_deref(), Some("a"));
        assert_eq!(console.line(KEPT + 2), None);
    }
}
