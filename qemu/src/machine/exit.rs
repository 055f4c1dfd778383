//! How a machine can end, read from QEMU's exit code.
//!
//! The guest writes a byte `v` to QEMU's `isa-debug-exit` device and QEMU exits
//! with `2v + 1`. Some values of QEMU's exit code have a second meaning, told apart
//! here: 1 is also QEMU's own for a bad argument, and 0 is what `-no-reboot` makes
//! of a reset, which on this machine only a triple fault causes.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::{Result, bail};

/// The byte with which the kernel ends the machine when it panics.
const PANIC: u8 = 0x7f;

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestExit {
    /// The guest ended the machine and was content.
    Success,
    /// The guest ended the machine with this code, not 0.
    Failure(u8),
    /// The kernel panicked.
    Panic,
    /// The processor was reset: a triple fault.
    Reset,
    /// A signal ended QEMU.
    Killed(i32),
    /// What was recorded is over. QEMU ends as after a reset.
    Replayed,
}

impl GuestExit {
    /// `spoke` tells whether the console has a line, thus whether there was a guest.
    pub(super) fn from_qemu(status: ExitStatus, spoke: bool) -> Result<Self> {
        match (status.code(), status.signal()) {
            (Some(1), _) if !spoke => bail!("QEMU refused to start"),
            (Some(0), _) => Ok(Self::Reset),
            (Some(code), _) if code & 1 == 1 => Ok(match u8::try_from(code >> 1)? {
                0 => Self::Success,
                PANIC => Self::Panic,
                code => Self::Failure(code),
            }),
            (None, Some(signal)) => Ok(Self::Killed(signal)),
            _ => bail!("QEMU ended with {status}"),
        }
    }

    /// The exit code a command reports this with: the guest's own, 127 for a panic.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success | Self::Replayed => 0,
            Self::Failure(code) => code,
            Self::Panic => PANIC,
            Self::Reset | Self::Killed(_) => 1,
        }
    }
}

impl std::fmt::Display for GuestExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Success => write!(f, "the machine was switched off"),
            Self::Failure(code) => write!(f, "the machine ended with code {code}"),
            Self::Panic => write!(f, "the kernel panicked"),
            Self::Reset => write!(f, "the machine was reset (triple fault)"),
            Self::Killed(signal) => write!(f, "QEMU was ended by signal {signal}"),
            Self::Replayed => write!(f, "the recording ends here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exit_codes() {
        let exited =
            |code: i32, spoke| GuestExit::from_qemu(ExitStatus::from_raw(code << 8), spoke).ok();
        assert_eq!(exited(1, true), Some(GuestExit::Success));
        assert_eq!(exited(1, false), None);
        assert_eq!(exited(7, true), Some(GuestExit::Failure(3)));
        assert_eq!(exited(255, true), Some(GuestExit::Panic));
        assert_eq!(exited(0, true), Some(GuestExit::Reset));
        assert_eq!(exited(2, true), None);
        let killed = GuestExit::from_qemu(ExitStatus::from_raw(9), true).ok();
        assert_eq!(killed, Some(GuestExit::Killed(9)));
        assert_eq!(GuestExit::Panic.code(), 127);
    }
}
