//! Words and symbols, and where they are.
//!
//! A word may contain what addresses and ranges are written with (`. : - /`), except
//! that within brackets a colon separates offset and size.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use crate::error::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'t> {
    Word(&'t str),
    Symbol(&'t str),
    End,
}

pub(crate) type Lexeme<'t> = (Token<'t>, Range<usize>);

/// Longest first.
const SYMBOLS: [&str; 23] = [
    "&&", "||", "<<", ">>", "==", "!=", "<=", ">=", "<", ">", "=", "&", "|", "!", "[", "]", "(",
    ")", ":", "+", "*", "%", "^",
];

/// All tokens, the last of them [`Token::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Lexeme<'_>>, Problem> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut in_brackets = false;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let is_word = |c: char| {
            c.is_ascii_alphanumeric() || "_.\\".contains(c) || !in_brackets && ":-/".contains(c)
        };
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (token, length) = if word > 0 {
            (Token::Word(&rest[..word]), word)
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            in_brackets = symbol == "[" || in_brackets && symbol != "]";
            (Token::Symbol(symbol), symbol.len())
        } else {
            let character = rest.chars().next().unwrap_or_default();
            let length = character.len_utf8();
            if !character.is_whitespace() {
                let place = at..at + length;
                return Err(Problem::new(&place, format!("`{character}` is not understood here")));
            }
            at += length;
            continue;
        };
        tokens.push((token, at..at + length));
        at += length;
    }
    tokens.push((Token::End, text.len()..text.len()));
    Ok(tokens)
}
