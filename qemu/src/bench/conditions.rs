//! What a figure is worthless without: where and how it was measured.

use std::process::Command;

use serde::Serialize;

use crate::machine::emulator::Emulator;
use crate::workspace;

/// Where and how something was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Conditions {
    /// The commit of the source tree; with `+changes` if it is not quite that.
    commit: String,
    /// The emulator and its version.
    qemu: String,
    /// How it executes the guest.
    accelerator: String,
    /// The processor beneath; of no influence on counts.
    host: String,
}

impl Conditions {
    /// Those of now, with this accelerator.
    pub(crate) fn now(accelerator: &str) -> Self {
        let commit = match output("git", &["rev-parse", "--short=12", "HEAD"]) {
            None => "unknown".to_owned(),
            Some(commit) => match output("git", &["status", "--porcelain"]) {
                Some(changes) if changes.is_empty() => commit,
                _ => commit + "+changes",
            },
        };
        let qemu = Emulator::find().map_or("unknown".to_owned(), |qemu| qemu.banner().to_owned());
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
        let cpus = std::thread::available_parallelism().map_or(1, Into::into);
        Self {
            commit,
            qemu,
            accelerator: accelerator.to_owned(),
            host: format!("{cpus} x {model}"),
        }
    }

    /// Those of now, for what runs on the host alone.
    pub(crate) fn on_host() -> Self {
        Self { qemu: "no QEMU".to_owned(), ..Self::now("host") }
    }

    /// Of these, what says something about a program of the host; as lines.
    pub(crate) fn host_lines(&self) -> String {
        let Self { commit, host, .. } = self;
        format!("commit {commit}, built as the guest is\nhost: {host}\n")
    }

    /// As lines.
    pub(crate) fn lines(&self) -> String {
        let Self { commit, qemu, accelerator, host } = self;
        format!(
            "commit {commit}, release build of the guest, 1 processor\n{qemu}, {accelerator}\nhost: {host}\n"
        )
    }
}

/// What a command prints, if it succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(workspace::root()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
