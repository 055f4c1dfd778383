//! The library OS: everything above protection, as an ordinary untrusted crate
//! that each application links and may replace piece by piece.
#![cfg_attr(not(test), no_std)]

pub mod start;
#[cfg(exo_guest)]
pub mod sys;
