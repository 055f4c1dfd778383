//! QEMU's monitor (QMP): what was done to the disk, and what is under way.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::option_value;

/// A connection to the monitor of a machine with a disk.
pub(crate) struct Monitor {
    stream: RefCell<BufReader<UnixStream>>,
    /// QEMU's name for the disk; none if there is none.
    disk: Option<String>,
}

/// What QEMU has done to the disk, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Written {
    pub(super) wr_bytes: u64,
    pub(super) wr_operations: u64,
    pub(super) flush_operations: u64,
}

impl Monitor {
    /// What QEMU must be told to have a monitor at `socket`.
    pub(super) fn arguments(socket: &Path) -> [OsString; 2] {
        let mut value = OsString::from("unix:");
        value.push(option_value(socket));
        value.push(",server=on,wait=off");
        ["-qmp".into(), value]
    }

    /// Connects to it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn connect(socket: &PathBuf) -> Result<Self> {
        Self::over(UnixStream::connect(socket).context("QEMU's monitor")?)
    }

    /// The monitor at the other end of `stream`.
    ///
    /// # Errors
    /// It does not answer as one.
    pub(super) fn over(stream: UnixStream) -> Result<Self> {
        let mut monitor = Self { stream: RefCell::new(BufReader::new(stream)), disk: None };
        monitor.ask(&json!({ "execute": "qmp_capabilities" }))?;
        let devices = monitor.ask(&json!({ "execute": "x-query-virtio" }))?;
        let of = |device: &Value, key: &str| Some(device.get(key)?.as_str()?.to_owned());
        let mut disks = devices.as_array().into_iter().flatten();
        let disk = disks.find(|it| of(it, "name").is_some_and(|name| name.contains("blk")));
        monitor.disk = disk.and_then(|disk| of(disk, "path"));
        Ok(monitor)
    }

    /// What was done so far.
    pub(super) fn written(&self) -> Result<Written> {
        Written::of(&self.ask(&json!({ "execute": "query-blockstats" }))?)
    }

    /// Whether the disk has requests that it has not answered.
    pub(crate) fn is_busy(&self) -> Result<bool> {
        let Some(disk) = &self.disk else { return Ok(false) };
        let status = self.ask(&json!({
            "execute": "x-query-virtio-queue-status",
            "arguments": { "path": disk, "queue": 0 },
        }))?;
        let in_use = status.get("inuse").and_then(Value::as_u64);
        Ok(in_use.context("QEMU does not say what its disk does")? > 0)
    }

    /// Sends a command, and returns what comes back.
    fn ask(&self, command: &Value) -> Result<Value> {
        let mut stream = self.stream.borrow_mut();
        writeln!(stream.get_mut(), "{command}")?;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                bail!("QEMU's monitor says nothing");
            }
            // A greeting and events come in between.
            let answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's monitor: {error}");
            }
            if let Some(answer) = answer.get("return") {
                return Ok(answer.clone());
            }
        }
    }
}

impl Written {
    /// From the answer to `query-blockstats`.
    fn of(answer: &Value) -> Result<Self> {
        let disk = answer.as_array().and_then(|devices| devices.first());
        let Some(stats) = disk.and_then(|disk| disk.get("stats")) else {
            return Ok(Self::default());
        };
        Ok(serde_json::from_value(stats.clone())?)
    }

    /// What was done since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            wr_bytes: self.wr_bytes - earlier.wr_bytes,
            wr_operations: self.wr_operations - earlier.wr_operations,
            flush_operations: self.flush_operations - earlier.flush_operations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_says_is_read() {
        let answer = r#"[{"device": "disk", "stats":
            {"wr_bytes": 1024, "wr_operations": 2, "flush_operations": 3, "rd_bytes": 7}}]"#;
        let written = Written { wr_bytes: 1024, wr_operations: 2, flush_operations: 3 };
        assert_eq!(Written::of(&serde_json::from_str(answer).unwrap()).unwrap(), written);
        let none = serde_json::from_str("[]").unwrap();
        assert_eq!(Written::of(&none).unwrap(), Written::default());
        assert_eq!(written.since(written), Written::default());
    }
}
