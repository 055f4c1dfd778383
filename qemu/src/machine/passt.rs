//! `passt`: a program that is the other end of the machine's network, without rights, and faster than
//! QEMU's own user-mode network.
//!
//! Not a part of this package, but of many distributions. It has one socket to QEMU and one for
//! each forwarded port or connection; a connection of the guest ends in the host kernel's TCP, whose
//! windows and segment sizes it passes on. It knows one address of the guest.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use root::manifest::Manifest;

use super::forwards::Forwarded;
use super::process::spawn_bound;
use crate::prerequisites::PASST;

/// How long it may take to find out that it cannot work.
const START: Duration = Duration::from_millis(200);
const GLANCE: Duration = Duration::from_millis(10);
/// Its end of the wire.
const MAC: &str = "52:55:0a:00:02:02";
/// What it says when the host has no system log, which is of no interest.
const NO_LOG: &str = "to syslog";

/// A `passt` that runs; ended when dropped.
pub(super) struct Passt {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Passt {
    /// Starts one for the applications of `manifest`, with the ports `forwards`, all of one address.
    /// Returns the socket for QEMU as well.
    pub(super) fn start(manifest: &Manifest, forwards: &[Forwarded]) -> Result<(Self, OwnedFd)> {
        PASST.require()?;
        let first = forwards.first();
        let address = first
            .map(|forward| forward.guest.0)
            .or_else(|| manifest.apps.iter().find_map(|app| app.address.map(Into::into)));
        let address = address.context("no application of this manifest has an address")?;
        ensure!(
            forwards.iter().all(|forward| forward.guest.0 == address),
            "passt knows one address of a machine"
        );
        let gateway = std::net::Ipv4Addr::from(manifest.gateway);
        let (own, socket) = UnixStream::pair().context("cannot make a pair of sockets")?;
        let mut command = Command::new(PASST.name);
        command.args(["--foreground", "--stderr", "--quiet", "--one-off", "--ipv4-only"]);
        command.args(["--address", &address.to_string(), "--gateway", &gateway.to_string()]);
        command.args(["--netmask", &manifest.prefix_len.to_string(), "--mac-addr", MAC]);
        command.args(forwards.iter().flat_map(Forwarded::passt_ports));
        command.args(["--fd", &own.as_raw_fd().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C is for this process, which then ends the other behind QEMU.
        command.process_group(0);
        let mut child = spawn_bound(command, vec![own.into()]).context("cannot start passt")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        if let Some(mut stderr) = child.stderr.take() {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stderr.read(&mut piece) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    said.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
            });
        }
        let mut passt = Self { child, said };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = passt.child.try_wait()? {
                thread::sleep(GLANCE);
                bail!("passt ended at once ({status}): {}", passt.complaints().join("; "));
            }
            thread::sleep(GLANCE);
        }
        Ok((passt, socket.into()))
    }

    /// What it has complained of so far.
    pub(super) fn complaints(&self) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.contains(NO_LOG));
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
