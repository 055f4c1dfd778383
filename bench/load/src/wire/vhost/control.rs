//! What QEMU asks for, and the thread that does it.
//!
//! QEMU 7.2 enables the queues before it sets any features, which the crates for
//! vhost-user refuse; here the order does not matter. Without `PROTOCOL_FEATURES` it could
//! not enable them, and would carry packets itself, saying so in one line. Of the features
//! which that stands for none is offered. A queue runs from when it is enabled and its
//! kick is known until its base is asked for.

use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::device::{Addresses, Device, OFFERED, PROTOCOL_FEATURES, Region};
use super::messages::{Message, request};

/// In a kick or call message: there is no descriptor.
const NO_DESCRIPTOR: u64 = 1 << 8;

/// The device, shared by the thread that talks to QEMU and the one that moves packets.
#[derive(Default)]
pub(super) struct Shared {
    device: Mutex<Device>,
    error: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// The control side of a device: its socket and thread.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    path: PathBuf,
}

impl Shared {
    /// The device. An error if talking to QEMU has failed.
    pub(super) fn device(&self) -> Result<MutexGuard<'_, Device>> {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if device.gone()
            && let Some(error) = &*self.error.lock().unwrap_or_else(PoisonError::into_inner)
        {
            bail!("vhost-user: {error}");
        }
        Ok(device)
    }
}

impl Control {
    /// Makes the socket, and a thread that serves the first QEMU that connects.
    pub(super) fn bind(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot make the socket {}", path.display()))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        thread::Builder::new().name("vhost-user".into()).spawn(move || {
            let result = accept(&listener, &served.stop)
                .and_then(|socket| socket.map_or(Ok(()), |socket| serve(&socket, &served)));
            if let Err(error) = result {
                let mut place = served.error.lock().unwrap_or_else(PoisonError::into_inner);
                *place = Some(format!("{error:#}"));
            }
            served.device.lock().unwrap_or_else(PoisonError::into_inner).leave();
        })?;
        Ok(Self { shared, path: path.to_owned() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The first connection; none if there is to be none any more.
fn accept(listener: &UnixListener, stop: &AtomicBool) -> Result<Option<UnixStream>> {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false)?;
                return Ok(Some(socket));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("cannot accept a connection"),
        }
    }
    Ok(None)
}

/// Does what QEMU asks for until it closes the socket.
fn serve(socket: &UnixStream, shared: &Shared) -> Result<()> {
    while let Some(mut message) = Message::read(socket)? {
        let mut device = shared.device.lock().unwrap_or_else(PoisonError::into_inner);
        match message.request {
            request::GET_FEATURES => {
                message.reply(socket, &(OFFERED | PROTOCOL_FEATURES).to_ne_bytes())?;
            }
            request::SET_FEATURES => device.set_features(message.u64(0)?),
            request::SET_OWNER | request::SET_PROTOCOL_FEATURES => {}
            request::SET_VRING_ENABLE => {
                device.ring(message.u32(0)?)?.enable(message.u32(4)? != 0);
            }
            request::RESET_OWNER => device.stop_all(),
            request::SET_MEM_TABLE => device.set_memory(regions(&mut message)?)?,
            request::SET_VRING_NUM => {
                device.ring(message.u32(0)?)?.set_size(message.u32(4)?)?;
            }
            request::SET_VRING_ADDR => {
                let addresses = Addresses {
                    descriptors: message.u64(8)?,
                    used: message.u64(16)?,
                    available: message.u64(24)?,
                };
                device.set_addresses(message.u32(0)?, addresses)?;
            }
            request::SET_VRING_BASE => {
                device.ring(message.u32(0)?)?.set_base(message.u32(4)?);
            }
            request::GET_VRING_BASE => {
                let index = message.u32(0)?;
                let base = device.ring(index)?.stop();
                let payload = [index.to_ne_bytes(), base.to_ne_bytes()].concat();
                message.reply(socket, &payload)?;
            }
            request::SET_VRING_KICK => {
                let (index, file) = descriptor(&mut message)?;
                device.start(index, file)?;
            }
            request::SET_VRING_CALL => {
                let (index, file) = descriptor(&mut message)?;
                device.ring(index)?.set_call(file);
            }
            request::SET_VRING_ERR => {}
            request::GET_PROTOCOL_FEATURES => message.reply(socket, &0_u64.to_ne_bytes())?,
            request::GET_QUEUE_NUM => message.reply(socket, &1_u64.to_ne_bytes())?,
            other => bail!("QEMU sent request {other}, which this back end does not know"),
        }
    }
    Ok(())
}

/// The table of memory regions, with a descriptor for each.
fn regions(message: &mut Message) -> Result<Vec<Region>> {
    let descriptors = std::mem::take(&mut message.descriptors);
    let count = message.u32(0)? as usize;
    if count != descriptors.len() {
        bail!("{count} memory regions come with {} file descriptors", descriptors.len());
    }
    let region = |(index, file)| {
        let at = 8 + 32 * index;
        Ok(Region {
            guest: message.u64(at)?,
            size: message.u64(at + 8)?,
            user: message.u64(at + 16)?,
            offset: message.u64(at + 24)?,
            file: File::from(file),
        })
    };
    descriptors.into_iter().enumerate().map(region).collect()
}

/// A queue's number and the event file descriptor for it.
fn descriptor(message: &mut Message) -> Result<(u32, Option<File>)> {
    let word = message.u64(0)?;
    let file = (word & NO_DESCRIPTOR == 0).then(|| message.descriptors.pop()).flatten();
    Ok(((word & 0xff) as u32, file.map(File::from)))
}
