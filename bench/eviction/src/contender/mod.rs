//! Stores that are compared.

mod memcached;
mod ours;

use anyhow::Result;

use crate::request::Request;

pub use memcached::Memcached;
pub use ours::Ours;

/// A store.
pub trait Contender {
    /// Whether its time is the host's, whatever [`Contender::set_time`] says.
    fn is_in_real_time(&self) -> bool;

    /// What time it is, in seconds from 1.
    fn set_time(&mut self, now: u32);

    /// Reads items, and adds whether each was there.
    ///
    /// # Errors
    /// It does not answer, or with what it should not.
    fn read(&mut self, requests: &[Request], hits: &mut Vec<bool>) -> Result<()>;

    /// Stores items.
    ///
    /// # Errors
    /// It does not answer, or with what it should not.
    fn store(&mut self, requests: &[Request]) -> Result<()>;

    /// How many items it holds.
    ///
    /// # Errors
    /// It does not answer, or with what it should not.
    fn items(&mut self) -> Result<u64>;
}
