//! A datagram as a sequence of lines, tokens and data blocks.
//!
//! Requests are lines of tokens separated by spaces; a storage command is followed
//! by a block of as many bytes as it says. Everything is found in one pass, eight
//! bytes at a time, by looking for bytes that are not above a space. A token ends at a space
//! or at the end of its line, `\n` or `\r\n`; any other byte belongs to it.
//!
//! A line that is not ended within the datagram is not a request. Instead of
//! asking at every token, the input is cut after its last line feed at once: in
//! what is left every line has an end. (Nothing is lost: a valid data block ends
//! with a line feed too.)

use crate::engine::Key;
use crate::wide;

/// What is left of the text of a datagram.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The whole datagram up to its last line feed. Text starts behind the frame;
    /// that bytes precede it lets the last bytes be loaded as a whole word.
    buf: &'a [u8],
    at: usize,
}

/// A token that is not a key: too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

/// A data block that does not end with `\r\n` where it should, or at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl<'a> Input<'a> {
    /// The text of `datagram` from byte `start`.
    #[must_use]
    #[inline(always)]
    pub fn new(datagram: &'a [u8], start: usize) -> Self {
        let end = match datagram.last() {
            Some(b'\n') => datagram.len(),
            _ => datagram.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1),
        };
        Self { buf: datagram.get(..end).unwrap_or_default(), at: start }
    }

    /// The text of a stream from byte `at`. Only a line that has its end in it may be read
    /// ([`Input::line_len`]).
    #[must_use]
    pub fn of_stream(stream: &'a [u8], at: usize) -> Self {
        Self { buf: stream, at }
    }

    /// Where the next line, token or data block starts.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes on reading at byte `at` of the text, as [`Input::at`] has it.
    pub fn go_to(&mut self, at: usize) {
        self.at = at.min(self.buf.len());
    }

    /// Passes over `len` bytes, or as many as there are. Returns how many.
    pub fn skip(&mut self, len: usize) -> usize {
        let len = len.min(self.rest().len());
        self.at += len;
        len
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.buf.get(self.at..).unwrap_or_default()
    }

    /// Bytes of this line, its end included. `None` if its end is not there.
    #[must_use]
    pub fn line_len(&self) -> Option<usize> {
        wide::position(self.rest(), b'\n').map(|end| end + 1)
    }

    /// Whether there is another line.
    #[must_use]
    #[inline(always)]
    pub fn has_more(&self) -> bool {
        self.at < self.buf.len()
    }

    /// Whether no line follows this one.
    #[must_use]
    pub fn is_last_line(&self) -> bool {
        let rest = self.buf.get(self.at..).unwrap_or_default();
        wide::position(rest, b'\n').is_none_or(|end| end + 1 == rest.len())
    }

    /// Passes over spaces.
    #[inline(always)]
    pub fn skip_blanks(&mut self) {
        while self.buf.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    /// Whether this line has no more tokens.
    #[inline(always)]
    pub(super) fn at_line_end(&mut self) -> bool {
        self.skip_blanks();
        matches!(self.buf.get(self.at..), Some([b'\n', ..] | [b'\r', b'\n', ..]))
    }

    /// The next token of this line. `None` at its end.
    #[inline(always)]
    pub(super) fn token(&mut self) -> Option<&'a [u8]> {
        let (buf, mut at) = (self.buf, self.at);
        while buf.get(at) == Some(&b' ') {
            at += 1;
        }
        let start = at;
        loop {
            let word = wide::word_at(buf, at);
            let marks = wide::blanks(word);
            if marks == 0 {
                at += 8;
                continue;
            }
            let blank = wide::first_mark(marks);
            at += blank;
            match (word >> (8 * blank)) as u8 {
                b' ' | b'\n' => break,
                b'\r' if buf.get(at + 1) == Some(&b'\n') => break,
                // A caller that goes on behind the end meets zeros.
                _ if at >= buf.len() => break,
                // Any other control character is part of the token.
                _ => at += 1,
            }
        }
        self.at = at;
        buf.get(start..at).filter(|token| !token.is_empty())
    }

    /// The next token of this line as a key. `None` at the end of the line.
    #[inline(always)]
    pub fn key(&mut self) -> Option<Result<Key<'a>, BadKey>> {
        let token = self.token()?;
        Some(Key::from_token(token).ok_or(BadKey))
    }

    /// What is left of this line, without its end.
    pub(super) fn rest_of_line(&self) -> &'a [u8] {
        let line = self.rest().get(..self.line_len().unwrap_or(0)).unwrap_or_default();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// Goes to the start of the next line.
    #[inline(always)]
    pub fn end_line(&mut self) {
        let rest = self.buf.get(self.at..).unwrap_or_default();
        self.at += match rest {
            [b'\r', b'\n', ..] => 2,
            _ => rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1),
        };
    }

    /// Takes the data block of a storage command: `len` bytes and a line end.
    ///
    /// # Errors
    /// If the block does not end with `\r\n`, or the datagram ends before it does.
    /// As many bytes are consumed as the client said the block has.
    pub fn data(&mut self, len: usize) -> Result<&'a [u8], BadChunk> {
        let block = self.at.checked_add(len).and_then(|end| self.buf.get(self.at..end));
        let end = block.and_then(|_| self.buf.get(self.at + len..self.at + len + 2));
        self.skip_data(len);
        match (block, end) {
            (Some(block), Some(b"\r\n")) => Ok(block),
            _ => Err(BadChunk),
        }
    }

    /// Passes over the data block of a storage command.
    pub fn skip_data(&mut self, len: usize) {
        self.at = self.at.saturating_add(len).saturating_add(2).min(self.buf.len());
    }

    /// Passes over everything.
    pub fn skip_all(&mut self) {
        self.at = self.buf.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn lines(text: &[u8]) -> Vec<Vec<&[u8]>> {
        let mut input = Input::new(text, 0);
        let mut lines = Vec::new();
        while input.has_more() {
            lines.push(core::iter::from_fn(|| input.token()).collect());
            input.end_line();
        }
        lines
    }

    #[test]
    fn lines_and_tokens() {
        assert_eq!(lines(b"get a\r\n"), [[b"get" as &[u8], b"a"]]);
        assert_eq!(lines(b"  a  bb   ccc  \n"), [[b"a" as &[u8], b"bb", b"ccc"]]);
        assert_eq!(lines(b"a\nb c\r\nd\r\n"), [&[b"a" as &[u8]][..], &[b"b", b"c"], &[b"d"]]);
        assert_eq!(lines(b"\r\n\n"), [[b""; 0], []]);
        assert_eq!(lines(b"a\rb\tc\r\r\n"), [[b"a\rb\tc\r" as &[u8]]]);
        let long = [b'x'; 100];
        assert_eq!(lines(&[&long[..], b" ", &long, b"\r\n"].concat()), [[&long[..], &long]]);
    }

    #[test]
    fn an_unfinished_line_is_no_line() {
        for text in [b"" as &[u8], b"get a", b"get a\r", b"\r"] {
            assert_eq!(lines(text), [[b""; 0]; 0]);
        }
        assert_eq!(lines(b"a\r\nget b"), [[b"a" as &[u8]]]);
    }

    #[test]
    fn tokens_are_cut_at_every_alignment() {
        for first in 1..20 {
            for second in 1..20 {
                let text = [b'a'; 20];
                let line = [&text[..first], b" ", &text[..second], b"\r\n"].concat();
                assert_eq!(lines(&line), [[&text[..first], &text[..second]]]);
            }
        }
    }

    #[test]
    fn a_block_is_exactly_as_long_as_said() {
        let block = |text: &'static [u8], len| {
            let mut input = Input::new(text, 0);
            (input.data(len), input.at)
        };
        assert_eq!(block(b"abc\r\n", 3), (Ok(b"abc" as &[u8]), 5));
        assert_eq!(block(b"\r\n", 0), (Ok(b"" as &[u8]), 2));
        assert_eq!(block(b"a\r\nb\r\n", 4), (Ok(b"a\r\nb" as &[u8]), 6));
        assert_eq!(block(b"abcd\r\n", 3), (Err(BadChunk), 5));
        assert_eq!(block(b"abc\r\n", 4), (Err(BadChunk), 5));
        assert_eq!(block(b"abc\n", 3), (Err(BadChunk), 4));
        for len in [i32::MAX as usize, usize::MAX - 1, usize::MAX] {
            assert_eq!(block(b"abc\r\n", len), (Err(BadChunk), 5));
        }
    }
}
