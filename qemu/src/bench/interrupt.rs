//! Ctrl-C: noted, so that a measurement ends in order and leaves nothing behind.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether somebody wants this process to end.
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

/// The error that ends a measurement then, if no other one is the consequence of the
/// signal first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted {
    signal: usize,
}

impl Interrupt {
    /// From now on signals are noted and not obeyed at once.
    pub(crate) fn register() -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)
                .context("cannot handle signals")?;
        }
        Ok(Self { signal })
    }

    /// Fails if a signal has come.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Interrupted { signal }),
        }
    }
}

impl Interrupted {
    /// What a shell would report of a process that the signal ended.
    pub(crate) fn exit_code(self) -> u8 {
        u8::try_from(128 + self.signal).unwrap_or(1)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted")
    }
}

impl std::error::Error for Interrupted {}
