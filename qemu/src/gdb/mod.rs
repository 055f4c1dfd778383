//! gdb for a machine: with the kernel's symbols, and those of the environment that has the processor.
//!
//! | file | what it is |
//! |---|---|
//! | `environments.py` | what gdb reads: commands, and whose symbols are loaded |
//! | [`boundary`] | how a backtrace gets from ring 0 to ring 3 |

mod boundary;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::manifest::Manifest;
use crate::prerequisites::GDB;
use crate::{guest, workspace};

const SCRIPT: &str = include_str!("environments.py");

/// The files that gdb reads; they go with this.
pub(crate) struct Files {
    dir: TempDir,
    kernel: PathBuf,
}

impl Files {
    /// Those for a machine with the applications of `manifest`, which are built.
    pub(crate) fn new(manifest: &Manifest) -> Result<Self> {
        let programs = guest::images_by_name(manifest)
            .into_iter()
            .map(|(name, image)| (name, workspace::guest_elf(&image)))
            .collect();
        Self::of(workspace::guest_elf(guest::KERNEL), &programs)
    }

    /// Those for a machine with that kernel and these programs, by the names of applications.
    pub(crate) fn of(kernel: PathBuf, programs: &BTreeMap<String, PathBuf>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("exo-gdb-").tempdir()?;
        let elf = std::fs::read(&kernel).with_context(|| format!("no {}", kernel.display()))?;
        let frames = dir.path().join("boundary.o");
        std::fs::write(&frames, boundary::object(&elf)?)?;
        // What JSON calls a string or a table, Python does.
        let programs = serde_json::to_string(programs)?;
        let boundary = serde_json::to_string(&frames)?;
        let script = format!("PROGRAMS = {programs}\nBOUNDARY = {boundary}\n{SCRIPT}");
        std::fs::write(dir.path().join("exo.py"), script)?;
        Ok(Self { dir, kernel })
    }

    /// gdb, connected to the stub on that port, which then does what `arguments` say.
    pub(crate) fn command(&self, port: u16, arguments: &[OsString]) -> Result<Command> {
        GDB.require()?;
        let mut command = Command::new(GDB.name);
        command.args(["-q", "-iex", "set confirm off"]);
        command.arg(&self.kernel).arg("-x");
        command.arg(self.dir.path().join("exo.py"));
        command.args(["-ex", &format!("target remote 127.0.0.1:{port}")]).args(arguments);
        Ok(command)
    }
}
