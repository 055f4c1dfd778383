//! Whether a store over TCP is a memcached: what `cargo exo conform` runs.
//!
//! | file | what it is |
//! |---|---|
//! | [`stores`] | the store that is tried, and the installed memcached beside it |
//! | [`requests`] | random requests in all protocols |
//! | [`differential`] | the same requests to both, answers compared byte for byte |
//! | [`differences`] | what may differ, and why |
//! | [`clients`] | `memccapable`, and sessions of common clients |

pub mod clients;
pub mod differences;
pub mod differential;
pub mod requests;
pub mod stores;
