//! The far end of the guest's NIC: raw Ethernet frames through a datagram socket.
//!
//! QEMU's `dgram` back end carries one frame per datagram, without any header and
//! without a checksum behind it. There is no network at the far end but what the
//! test makes of it.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::qemu::option_value;

/// Longest frame: a jumbo frame and some more.
const LONGEST: usize = 65536;

/// Sends frames to the guest and receives what it sends.
#[derive(Debug)]
pub struct FrameSocket {
    socket: UnixDatagram,
    near: PathBuf,
    far: PathBuf,
    // The directory of both ends.
    _dir: TempDir,
}

impl FrameSocket {
    pub(super) fn bind() -> Result<Self> {
        // Not in the build directory: a socket's path may have 107 bytes.
        let dir = tempfile::Builder::new().prefix("exo-net-").tempdir()?;
        let (near, far) = (dir.path().join("host"), dir.path().join("guest"));
        let socket = UnixDatagram::bind(&near)
            .with_context(|| format!("cannot make the socket {}", near.display()))?;
        Ok(Self { socket, near, far, _dir: dir })
    }

    /// Hands the guest's NIC a frame, from destination address to end of payload.
    ///
    /// **Blocking** while QEMU's socket is full, at most for ten seconds; in the
    /// first instants of a machine until QEMU has opened its end.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        loop {
            match self.socket.send_to(frame, &self.far) {
                Ok(_) => return Ok(()),
                Err(error) if not_yet(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error).context("cannot send a frame to the guest"),
            }
        }
    }

    /// The next frame the guest sent; none if it sends none in time.
    ///
    /// **Blocking** at most for `timeout`.
    pub fn receive(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        // A timeout of zero means for ever to the socket.
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut frame = vec![0; LONGEST];
        match self.socket.recv(&mut frame) {
            Ok(len) => {
                frame.truncate(len);
                Ok(Some(frame))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error).context("cannot receive frames from the guest"),
        }
    }

    /// QEMU's `-netdev` argument for the other end.
    pub(super) fn netdev(&self, id: &str) -> OsString {
        let mut netdev = OsString::from(format!("dgram,id={id},local.type=unix,local.path="));
        netdev.push(option_value(&self.far));
        netdev.push(",remote.type=unix,remote.path=");
        netdev.push(option_value(&self.near));
        netdev
    }
}

/// Whether QEMU has not opened its end yet.
fn not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}
