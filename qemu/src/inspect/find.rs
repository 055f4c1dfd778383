//! Which machines of this kernel run on the host.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{guest, workspace};

/// A machine that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// Process id of its QEMU.
    pub(crate) process: u32,
    /// Its kernel.
    pub(crate) kernel: String,
}

/// All QEMUs that run this kernel, whichever directory that was built in.
pub(crate) fn all() -> Vec<Running> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let running = processes.filter_map(|entry| {
        let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
        kernel_of(&line).map(|kernel| Running { process, kernel })
    });
    let mut running: Vec<_> = running.collect();
    running.sort_by_key(|machine| machine.process);
    running
}

/// The machine to look at: the one with that process id, otherwise the only one of this tree's
/// kernel, or the only one there is.
pub(crate) fn one(process: Option<u32>) -> Result<Running> {
    let all = all();
    if let Some(process) = process {
        let machine = all.into_iter().find(|machine| machine.process == process);
        return machine.with_context(|| format!("process {process} is no machine of this kernel"));
    }
    // Others on this host may work in trees of their own.
    let own = workspace::guest_elf(guest::KERNEL);
    let (ours, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|machine| Path::new(&machine.kernel) == own);
    match <[Running; 1]>::try_from(if ours.is_empty() { others } else { ours }) {
        Ok([machine]) => Ok(machine),
        Err(all) if all.is_empty() => {
            bail!("no machine runs; start one with `cargo exo run` in another terminal")
        }
        Err(all) => {
            let ids: Vec<_> = all.iter().map(|machine| machine.process.to_string()).collect();
            bail!("several machines run; choose one with --process: {}", ids.join(", "))
        }
    }
}

/// The kernel on a command line of QEMU, if it is this one: by the name of its file.
fn kernel_of(line: &[u8]) -> Option<String> {
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let program = Path::new(words.first()?.as_ref()).file_name()?.to_str()?;
    let at = words.iter().position(|word| word == "-kernel")?;
    let kernel = words.get(at + 1)?;
    let is_ours = Path::new(kernel.as_ref()).file_name()?.to_str()? == guest::KERNEL;
    (program.starts_with("qemu-system") && is_ours).then(|| kernel.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_known_by_their_kernel() {
        let line = |words: &[&str]| words.join("\0").into_bytes();
        let ours =
            line(&["/usr/bin/qemu-system-x86_64", "-M", "microvm", "-kernel", "/t/exokernel"]);
        assert_eq!(kernel_of(&ours).as_deref(), Some("/t/exokernel"));
        for other in [
            line(&["qemu-system-x86_64", "-kernel", "/boot/vmlinuz"]),
            line(&["less", "-kernel", "/t/exokernel"]),
            line(&["qemu-system-x86_64", "-kernel"]),
            line(&[]),
        ] {
            assert_eq!(kernel_of(&other), None);
        }
    }
}
