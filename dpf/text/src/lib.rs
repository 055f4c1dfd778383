//! Packet filters as text.
//!
//! [`parse`] reads the part of pcap's expression language (pcap-filter(7)) that a
//! [`Filter`] can express, [`explain`] writes a filter in it. Not part of the trusted
//! base: what the kernel takes is the wire form, which it verifies itself.
//!
//! A filter is a conjunction. An expression that means several is refused, with what
//! to write instead, and so is whatever could be meant in two ways; nothing is
//! guessed. The grammar and every difference from pcap are in `docs/filters.md`.
//!
//! | module | what it does |
//! |---|---|
//! | `lexer` | words and symbols, and where they are |
//! | `number` | numbers: one function reads them all |
//! | `term` | a term as it was written |
//! | `parser` | the terms of a conjunction |
//! | `address` | `src` and `dst`: addresses, nets, ports |
//! | `arithmetic` | `ip[6:2] & 0x1fff = 0`: a field, a mask, a number |
//! | `refusal` | what a filter cannot say, and what to write instead |
//! | `comparison` | when is such a comparison one range? |
//! | `meaning` | terms to steps: which protocol is meant, where its fields are |
//! | `explain` | the reverse |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod arithmetic;
mod comparison;
mod error;
mod explain;
mod lexer;
mod meaning;
mod number;
mod parser;
mod refusal;
mod term;

pub use error::ParseError;
pub use explain::{Explained, explain};

use dpf::Filter;

/// The filter that `text` describes.
///
/// # Errors
/// A [`ParseError`]; its `Display` shows the place in the text.
pub fn parse(text: &str) -> Result<Filter, ParseError> {
    parser::terms(text)
        .and_then(|terms| meaning::filter(&terms, text.len()))
        .map_err(|problem| problem.within(text))
}
