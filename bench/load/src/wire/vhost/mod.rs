//! vhost-user: this process is the NIC of a virtual machine.
//!
//! QEMU hands over the guest's memory and, for each queue, where it lies and two event
//! file descriptors: one that the guest *kicks* when it has made buffers available, one by
//! which the device *calls* for an interrupt. Requests are put straight into the guest's
//! receive buffers and replies taken from its transmit queue; QEMU does not touch a packet.
//! So the guest is the bottleneck, which is what is to be measured.
//!
//! | file | what it is |
//! |---|---|
//! | [`messages`] | the protocol on the Unix socket |
//! | [`control`] | what QEMU asks for, and the thread that does it |
//! | [`device`] | the state of the device: memory, features, queues |
//! | [`queue`] | one virtqueue, from the device's side |
//!
//! Sources: QEMU's `docs/interop/vhost-user.rst`; virtio 1.1, sections 2.6 and 5.1.
//!
//! Of the optional features only `VERSION_1` and `EVENT_IDX` are offered, to every guest:
//! no checksum or segmentation offload, no mergeable buffers, one pair of queues. So every
//! guest has the same device, and computes its own checksums.
//!
//! **Trust.** QEMU is trusted as far as it is for the rest of the machine. The guest is
//! not: it can write anything into its queues. Every address is looked up in the guest's
//! memory (`vm-memory`), chains are bounded (`virtio-queue`), lengths too.

mod control;
mod device;
mod messages;
mod queue;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ethernet::{self, Mac, Station};
use super::{Batch, Wire};
use control::{Control, Shared};
use device::Device;
use queue::HEADER;

/// This end's Ethernet address: locally administered, "exo" in it.
pub const OWN_MAC: Mac = [0x02, 0x65, 0x78, 0x6f, 0x00, 0x01];
/// Name of the count of kicks: notifications of the guest's that came while one was awaited.
pub const KICKS: &str = "kicks";
/// Name of the count of calls: interrupts that the guest was sent.
pub const CALLS: &str = "interrupts asked for";
/// Datagram that an Ethernet frame of 1,500 bytes holds.
const PAYLOAD: usize = 1472;
/// Frames taken from the guest in one go.
const AT_ONCE: usize = 256;
/// How long the queue is watched before this process sleeps: about what waking up costs.
const WATCHED: Duration = Duration::from_micros(50);
/// Longest sleep. QEMU before 8.1 leaves memory fences out of what it translates for one
/// processor, so a guest may miss that a kick is wanted; it is found after that long.
const NAP: Duration = Duration::from_millis(1);
/// How often the server's address is asked for.
const ARP_EVERY: Duration = Duration::from_millis(100);

/// A socket at which a QEMU is awaited.
///
/// It must be there before QEMU starts: QEMU connects, asks for the features, and waits
/// for the answer before it makes the machine.
pub struct Listener {
    control: Control,
}

/// The NIC of a guest, and this end's place on its network.
pub struct VhostUser {
    control: Control,
    own: Station,
    server: Station,
    /// A frame with the header of virtio-net before it, on its way.
    frame: Vec<u8>,
    /// Frames to be sent before others: answers to ARP.
    pending: Vec<Vec<u8>>,
    short: bool,
    counts: Counts,
}

/// What happened on the queues.
#[derive(Clone, Copy, Default)]
struct Counts {
    kicks: u64,
    calls: u64,
    sleeps: u64,
    other: u64,
    dropped: u64,
}

impl Listener {
    /// Makes the socket `path` and answers the first QEMU that connects.
    pub fn bind(path: &Path) -> Result<Self> {
        Ok(Self { control: Control::bind(path)? })
    }

    /// The guest's NIC, once its driver has started it and the server at `server` has
    /// answered ARP; this end has the address `own`.
    ///
    /// **Blocking** until then, at most for `patience`; `going_on` is asked now and then
    /// whether to go on waiting, and may say why not.
    pub fn connect(
        self,
        own: (Ipv4Addr, u16),
        server: (Ipv4Addr, u16),
        patience: Duration,
        mut going_on: impl FnMut() -> Result<()>,
    ) -> Result<VhostUser> {
        let deadline = Instant::now() + patience;
        let station = |mac, (address, port)| Station { mac, address, port };
        let mut wire = VhostUser {
            control: self.control,
            own: station(OWN_MAC, own),
            server: station([0; 6], server),
            frame: Vec::new(),
            pending: Vec::new(),
            short: false,
            counts: Counts::default(),
        };
        let mut ask = Instant::now();
        while wire.server.mac == [0; 6] {
            going_on()?;
            if Instant::now() >= deadline {
                let seconds = patience.as_secs_f64();
                match wire.control.shared.device()?.running() {
                    false => bail!("no guest has started its network interface in {seconds} s"),
                    true => bail!("nothing at {} has answered ARP in {seconds} s", server.0),
                }
            }
            if !wire.control.shared.device()?.running() {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            if Instant::now() >= ask {
                ask = Instant::now() + ARP_EVERY;
                wire.pending.push(ethernet::arp_request(wire.own, server.0));
                wire.send(&Batch::default())?;
            }
            wire.receive(&mut |_| {})?;
            wire.wait(NAP)?;
        }
        Ok(wire)
    }
}

impl VhostUser {
    /// Puts a frame into the guest's receive queue. False if there is no buffer.
    fn put(&mut self, device: &mut Device) -> Result<bool> {
        match device.receive(&self.frame)? {
            queue::Put::Done => Ok(true),
            queue::Put::TooLong => {
                self.counts.dropped += 1;
                Ok(true)
            }
            queue::Put::NoBuffer => Ok(false),
        }
    }

    fn header(&mut self) {
        self.frame.clear();
        self.frame.extend(HEADER);
    }

    fn locked(shared: &Arc<Shared>) -> Result<MutexGuard<'_, Device>> {
        let device = shared.device()?;
        ensure!(!device.gone(), "QEMU has closed the vhost-user socket: the machine has ended");
        Ok(device)
    }
}

impl Wire for VhostUser {
    fn describe(&self) -> String {
        let device = match self.control.shared.device() {
            Ok(device) => device.describe(),
            Err(error) => error.to_string(),
        };
        format!("vhost-user, this process is the guest's NIC; {device}")
    }

    fn payload_max(&self) -> usize {
        PAYLOAD
    }

    fn send(&mut self, batch: &Batch) -> Result<usize> {
        let shared = Arc::clone(&self.control.shared);
        let mut device = Self::locked(&shared)?;
        if !device.running() {
            return Ok(0);
        }
        self.short = false;
        while let Some(frame) = self.pending.pop() {
            self.header();
            self.frame.extend(&frame);
            if !self.put(&mut device)? {
                self.pending.push(frame);
                break;
            }
        }
        let mut sent = 0;
        for payload in batch.iter() {
            self.header();
            ethernet::append_datagram(&mut self.frame, self.own, self.server, payload);
            if !self.put(&mut device)? {
                self.short = true;
                break;
            }
            sent += 1;
        }
        self.counts.calls += u64::from(device.call_receive()?);
        Ok(sent)
    }

    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let shared = Arc::clone(&self.control.shared);
        let mut device = Self::locked(&shared)?;
        if !device.running() {
            return Ok(0);
        }
        let (own, server) = (self.own, self.server);
        let mut received = 0;
        for _ in 0..AT_ONCE {
            let Some(frame) = device.transmitted()? else { break };
            if let Ok(payload) = ethernet::payload(frame, server, own) {
                received += 1;
                visit(payload);
            } else if let Some(answer) = ethernet::answer_arp(frame, own) {
                self.pending.push(answer);
            } else if let Some(mac) = ethernet::arp_answer(frame, own, server.address) {
                self.server.mac = mac;
            } else {
                self.counts.other += 1;
            }
        }
        self.counts.calls += u64::from(device.call_transmit()?);
        drop(device);
        if !self.pending.is_empty() {
            self.send(&Batch::default())?;
        }
        Ok(received)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let shared = Arc::clone(&self.control.shared);
        let start = Instant::now();
        while start.elapsed() < WATCHED.min(timeout) {
            let device = Self::locked(&shared)?;
            if !device.running() {
                break;
            }
            if device.has_transmitted()? {
                return Ok(());
            }
            drop(device);
            std::thread::yield_now();
        }
        let left = timeout.saturating_sub(start.elapsed()).min(NAP);
        if left.is_zero() {
            return Ok(());
        }
        let mut device = Self::locked(&shared)?;
        if !device.running() {
            drop(device);
            std::thread::sleep(left);
            return Ok(());
        }
        let Some(kicks) = device.want_kicks(self.short)? else { return Ok(()) };
        drop(device);
        self.counts.sleeps += 1;
        let mut polled: Vec<_> =
            kicks.iter().map(|kick| PollFd::new(&**kick, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: left.as_nanos() as i64 };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (polled, kick) in polled.iter().zip(&kicks) {
            if polled.revents().contains(PollFlags::IN) {
                self.counts.kicks += queue::drain(kick);
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            (KICKS, self.counts.kicks),
            (CALLS, self.counts.calls),
            ("sleeps until a kick", self.counts.sleeps),
            ("other frames", self.counts.other),
            ("frames that fit no buffer", self.counts.dropped),
        ]
    }
}
