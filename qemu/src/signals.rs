//! Signals that ask this process to end: noted, so that it ends in order.
//!
//! A signal that was ignored when this process started stays ignored: `nohup` means that a
//! hang-up is not for this process, and a shell that starts a job in the background means the
//! same of Ctrl-C.

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Signals that ask this process to end, noted instead of obeyed at once.
pub(crate) struct Signals {
    last: Arc<AtomicUsize>,
}

/// A signal has asked this process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted {
    signal: u8,
}

impl Signals {
    /// Notes the signals that come from now on.
    pub(crate) fn register() -> Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if ignored >> (signal - 1) & 1 == 0 {
                signal_hook::flag::register_usize(signal, Arc::clone(&last), signal as usize)
                    .context("cannot handle signals")?;
            }
        }
        Ok(Self { last })
    }

    /// Fails if a signal has come.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        match u8::try_from(self.last.load(Ordering::Relaxed)) {
            Ok(0) | Err(_) => Ok(()),
            Ok(signal) => Err(Interrupted { signal }),
        }
    }
}

impl Interrupted {
    /// What a shell would report of a process that the signal ended: 128 and its number.
    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(128_u8.saturating_add(self.signal))
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The signals that a process ignores, by its `/proc/PID/status` (proc(5)): bit 0 is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_ignored() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        let mask = ignored(status);
        assert_eq!(mask, 1 << (SIGHUP - 1) | 1 << 12);
        assert_eq!(ignored(""), 0);
    }
}
