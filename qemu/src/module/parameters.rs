//! How the module is loaded.

use std::fmt;

use anyhow::Result;

use super::{NAME, build};
use crate::linux::Guest;

/// What the module is told when it is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Memory of the store in MiB.
    pub memory_mib: u32,
    /// Secret of its index; none for a random one.
    pub seed: Option<u64>,
    /// What answers.
    pub workers: Workers,
}

/// What answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// The hook itself, in the network's soft interrupt.
    None,
    /// So many threads; requests for the same key go to the same one.
    ByKey(u32),
    /// So many threads, each in turn.
    RoundRobin(u32),
}

impl Parameters {
    /// Lets `guest` insert the module.
    ///
    /// **Blocking** while it is built.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn add_to(&self, guest: &mut Guest) -> Result<()> {
        guest.file(&format!("{NAME}.ko"), &build(&guest.kernel)?);
        guest.command(&self.command());
        Ok(())
    }

    /// The command that inserts `/exo_kvstore.ko`.
    #[must_use]
    pub fn command(&self) -> String {
        format!("insmod /{NAME}.ko {self}")
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory_mib={}", self.memory_mib)?;
        if let Some(seed) = self.seed {
            write!(f, " seed={seed}")?;
        }
        match self.workers {
            Workers::None => Ok(()),
            Workers::ByKey(count) => write!(f, " workers={count} distribution=key"),
            Workers::RoundRobin(count) => write!(f, " workers={count} distribution=round-robin"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_written_as_insmod_takes_them() {
        let parameters = Parameters { memory_mib: 8, seed: Some(7), workers: Workers::ByKey(2) };
        let command = "insmod /exo_kvstore.ko memory_mib=8 seed=7 workers=2 distribution=key";
        assert_eq!(parameters.command(), command);
        let parameters = Parameters { seed: None, workers: Workers::None, ..parameters };
        assert_eq!(parameters.to_string(), "memory_mib=8");
        let workers = Workers::RoundRobin(3);
        let text = Parameters { workers, ..parameters }.to_string();
        assert_eq!(text, "memory_mib=8 workers=3 distribution=round-robin");
    }
}
