//! What is wrong with a text, and where.

use alloc::string::{String, ToString};
use core::fmt;
use core::ops::Range;

/// Why a text is no filter. `Display` is for people: the message, the line of the text
/// with the place marked, and what to write instead, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    problem: Problem,
}

/// A [`ParseError`] that does not have the text yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) instead: String,
}

impl Problem {
    pub(crate) fn new(at: &Range<usize>, message: impl Into<String>) -> Self {
        Self { at: at.clone(), message: message.into(), instead: String::new() }
    }

    /// With what to write instead.
    pub(crate) fn instead(self, instead: impl Into<String>) -> Self {
        Self { instead: instead.into(), ..self }
    }

    pub(crate) fn within(self, text: &str) -> ParseError {
        ParseError { text: text.to_string(), problem: self }
    }
}

impl ParseError {
    /// The bytes of the text that are meant. Empty at the end of the text.
    pub fn place(&self) -> Range<usize> {
        self.problem.at.clone()
    }

    /// Line and column of the place, both from 1; columns are characters.
    pub fn line_and_column(&self) -> (usize, usize) {
        let before = self.text.get(..self.problem.at.start).unwrap_or(&self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_and_column();
        let shown = self.text.split('\n').nth(line - 1).unwrap_or_default();
        let marked = self.text.get(self.problem.at.clone()).unwrap_or_default();
        let marked = marked.split('\n').next().unwrap_or_default().chars().count().max(1);
        writeln!(f, "column {column}: {}", self.problem.message)?;
        // A tab is one column here, as it is in the marker below.
        writeln!(f, "  | {}", shown.replace('\t', " "))?;
        write!(f, "  | {:>column$}{:^<2$}", '^', "", marked - 1)?;
        if !self.problem.instead.is_empty() {
            write!(f, "\n  = {}", self.problem.instead)?;
        }
        Ok(())
    }
}

impl core::error::Error for ParseError {}
