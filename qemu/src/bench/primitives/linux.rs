//! Linux in the same machine: our program as its first and only one.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::linux::{self, Guest, Kernel};
use crate::machine::{Config, Machine};
use crate::output::note;
use crate::signals::Signals;

/// The program that measures.
const PROGRAM: &str = "linux-primitives";
/// A string instruction counts once for each repetition; without these two features Linux
/// lets one repetition move eight bytes and not one, so that the unit of counting does not
/// speak against it.
pub(in crate::bench) const LARGE_REPETITIONS: &str = "clearcpuid=erms,fsrm";

/// Boots Linux with the program, in the machine of `config`. Default mitigations.
pub(super) fn boot(config: &Config, kernel: Option<&Path>, interrupt: &Signals) -> Result<Machine> {
    let kernel = match kernel {
        Some(kernel) => Kernel::from_file(kernel),
        None => Kernel::of_distribution().map_err(|error| {
            anyhow!(
                "{error:#}\nElsewhere, or without network, give a kernel with --vmlinuz FILE \
                 (it needs\nCONFIG_SERIAL_8250_CONSOLE), or leave Linux out with --exo-only"
            )
        })?,
    };
    interrupt.check()?;
    let mut guest = Guest::of_program(kernel, &linux::build(PROGRAM)?);
    guest.parameters.push(LARGE_REPETITIONS.to_owned());
    note!("bench: booting {}", guest.kernel.image().display());
    guest.boot(config)
}
