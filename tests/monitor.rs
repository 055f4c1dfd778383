//! QEMU's monitor (QMP), by which a machine's disk is made slow.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What QEMU must be told to have a monitor at `socket`.
#[must_use]
pub fn arguments(socket: &Path) -> [OsString; 2] {
    ["-qmp".into(), format!("unix:{},server=on,wait=off", socket.display()).into()]
}

/// Lets QEMU's disk move so many bytes a second; any number for 0.
///
/// # Panics
/// There is no monitor, or no disk.
pub fn throttle(monitor: &Path, bytes: u64) {
    let limit = format!(
        r#"{{"execute": "block_set_io_throttle", "arguments": {{"device": "disk", "bps": {bytes},
        "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}}}}"#
    );
    ask(monitor, &limit.replace('\n', " "));
}

/// Sends a command; returns the answer.
fn ask(monitor: &Path, command: &str) -> String {
    let mut stream = UnixStream::connect(monitor).expect("QEMU's monitor");
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let mut last = String::new();
    for command in [r#"{"execute": "qmp_capabilities"}"#, command] {
        writeln!(stream, "{command}").expect("a monitor");
        // A greeting and events come in between.
        let answers = lines.by_ref().map(|line| line.expect("an answer"));
        let mut answers =
            answers.skip_while(|line| !line.contains("\"return\"") && !line.contains("\"error\""));
        last = answers.next().expect("an answer");
        assert!(!last.contains("\"error\""), "{last}");
    }
    last
}
