//! A guest without a machine: what QEMU says on a vhost-user socket, in the order of
//! QEMU 7.2, and a driver that echoes UDP datagrams and answers ARP.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use exo_load::wire::ethernet::{self, Station};
use exo_load::wire::vhost::OWN_MAC;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

const SIZE: usize = 1 << 20;
/// Where the memory lies in "QEMU".
const USER: u64 = 0x7f00_0000_0000;
const ENTRIES: u16 = 16;
const BUFFER: u32 = 2048;
pub(crate) const VERSION_1: u64 = 1 << 32;
const PROTOCOL_FEATURES: u64 = 1 << 30;
pub(crate) const EVENT_IDX: u64 = 1 << 29;

/// How the guest behaves.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// What it negotiates.
    pub(crate) features: u64,
    /// Its first receive buffer lies outside its memory.
    pub(crate) bad_buffer: bool,
}

pub(crate) struct Guest {
    socket: UnixStream,
    stop: Arc<AtomicBool>,
    driver: Option<JoinHandle<u64>>,
}

pub(crate) const OWN: Station =
    Station { mac: OWN_MAC, address: Ipv4Addr::new(10, 0, 2, 2), port: 40_000 };
pub(crate) const SERVER: Station = Station {
    mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
    address: Ipv4Addr::new(10, 0, 2, 16),
    port: 7,
};

impl Guest {
    pub(crate) fn start(path: &Path, behaviour: Behaviour) -> Self {
        let socket = UnixStream::connect(path).unwrap();
        let memory = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, SIZE as u64).unwrap();
        let event = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let (kicks, calls) = ([event(), event()], [event(), event()]);

        send(&socket, 1, &[], &[]);
        let offered = reply(&socket);
        assert_eq!(
            u64::from_ne_bytes(offered.try_into().unwrap()),
            VERSION_1 | EVENT_IDX | PROTOCOL_FEATURES
        );
        send(&socket, 15, &[], &[]);
        assert_eq!(reply(&socket), [0; 8]);
        send(&socket, 16, &words(&[0]), &[]);
        send(&socket, 3, &[], &[]);
        for (index, call) in (0_u64..).zip(&calls) {
            send(&socket, 13, &words(&[index]), &[call.as_fd()]);
        }
        for index in 0..2_u32 {
            send(&socket, 18, &[index.to_ne_bytes(), 1_u32.to_ne_bytes()].concat(), &[]);
        }
        send(&socket, 2, &words(&[behaviour.features | PROTOCOL_FEATURES]), &[]);
        let table = words(&[1, 0, SIZE as u64, USER, 0]);
        send(&socket, 5, &table, &[memory.as_fd()]);

        let file = FileOffset::new(memory.into(), 0);
        let ranges = [(GuestAddress(0), SIZE, Some(file))];
        let memory = GuestMemoryMmap::<()>::from_ranges_with_files(&ranges).unwrap();
        let driver = Driver { memory, kicks, behaviour, taken: [0; 2], given: [0; 2] };
        driver.prepare();
        for (index, kick) in (0_u32..).zip(&driver.kicks) {
            let pair = |value: u32| [index.to_ne_bytes(), value.to_ne_bytes()].concat();
            send(&socket, 8, &pair(ENTRIES.into()), &[]);
            send(&socket, 10, &pair(0), &[]);
            let [table, available, used] = parts(index.into()).map(|address| USER + address.0);
            send(&socket, 9, &[pair(0), words(&[table, used, available, 0])].concat(), &[]);
            send(&socket, 12, &words(&[index.into()]), &[kick.as_fd()]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let driver = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || driver.run(&stop))
        };
        Self { socket, stop, driver: Some(driver) }
    }

    /// Ends; how many datagrams were echoed, what the device says of its transmit queue's
    /// base, and the socket, with which QEMU ends.
    pub(crate) fn end(mut self) -> (u64, u32, UnixStream) {
        self.stop.store(true, Ordering::Relaxed);
        let echoed = self.driver.take().unwrap().join().unwrap();
        send(&self.socket, 11, &[1_u32.to_ne_bytes(), [0; 4]].concat(), &[]);
        let base = reply(&self.socket);
        assert_eq!(base[..4], 1_u32.to_ne_bytes());
        (echoed, u32::from_ne_bytes(base[4..].try_into().unwrap()), self.socket)
    }
}

/// Descriptor table, available ring, used ring of a queue.
fn parts(queue: u64) -> [GuestAddress; 3] {
    [0, 0x1000, 0x2000].map(|part| GuestAddress(0x1_0000 * (queue + 1) + part))
}

fn buffer(queue: u64, index: u16) -> GuestAddress {
    GuestAddress(0x4_0000 + 0x1_0000 * queue + u64::from(index) * u64::from(BUFFER))
}

struct Driver {
    memory: GuestMemoryMmap,
    kicks: [OwnedFd; 2],
    behaviour: Behaviour,
    /// Used entries seen, and entries made available.
    taken: [u16; 2],
    given: [u16; 2],
}

impl Driver {
    fn prepare(&self) {
        for index in 0..ENTRIES {
            // The device writes.
            let bad = self.behaviour.bad_buffer && index == 0;
            let address = if bad { GuestAddress(SIZE as u64 * 4) } else { buffer(0, index) };
            self.describe(0, index, address, BUFFER, 2);
        }
    }

    fn describe(&self, queue: u64, index: u16, address: GuestAddress, length: u32, flags: u16) {
        let at = GuestAddress(parts(queue)[0].0 + 16 * u64::from(index));
        self.memory.write_obj(address.0, at).unwrap();
        self.memory.write_obj(length, GuestAddress(at.0 + 8)).unwrap();
        self.memory.write_obj(u32::from(flags), GuestAddress(at.0 + 12)).unwrap();
    }

    fn give(&mut self, queue: usize, index: u16) {
        let base = parts(queue as u64)[1].0;
        let slot = u64::from(self.given[queue] % ENTRIES);
        self.memory.write_obj(index, GuestAddress(base + 4 + 2 * slot)).unwrap();
        self.given[queue] = self.given[queue].wrapping_add(1);
        let place = GuestAddress(base + 2);
        self.memory.store(self.given[queue], place, Ordering::Release).unwrap();
    }

    /// The next used entry: index and length.
    fn take(&mut self, queue: usize) -> Option<(u16, u32)> {
        let base = parts(queue as u64)[2].0;
        let used: u16 = self.memory.load(GuestAddress(base + 2), Ordering::Acquire).unwrap();
        if used == self.taken[queue] {
            return None;
        }
        let at = base + 4 + 8 * u64::from(self.taken[queue] % ENTRIES);
        self.taken[queue] = self.taken[queue].wrapping_add(1);
        let index: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        Some((index as u16, self.memory.read_obj(GuestAddress(at + 4)).unwrap()))
    }

    fn run(mut self, stop: &AtomicBool) -> u64 {
        (0..ENTRIES).for_each(|index| self.give(0, index));
        let mut echoed = 0;
        while !stop.load(Ordering::Relaxed) {
            let Some((index, length)) = self.take(0) else {
                thread::sleep(Duration::from_micros(50));
                continue;
            };
            let mut bytes = vec![0; length as usize];
            self.memory.read_slice(&mut bytes, buffer(0, index)).unwrap();
            if let Some(frame) = bytes.get(12..) {
                assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "one buffer");
                if let Some(answer) = ethernet::answer_arp(frame, SERVER) {
                    self.transmit(&answer);
                } else if let Ok(payload) = ethernet::payload(frame, OWN, SERVER) {
                    self.transmit(&ethernet::datagram(SERVER, OWN, payload));
                    echoed += 1;
                }
            }
            self.give(0, index);
        }
        echoed
    }

    fn transmit(&mut self, frame: &[u8]) {
        while self.given[1].wrapping_sub(self.taken[1]) == ENTRIES {
            if self.take(1).is_none() {
                thread::yield_now();
            }
        }
        let index = self.given[1] % ENTRIES;
        let bytes = [&[0; 12], frame].concat();
        self.memory.write_slice(&bytes, buffer(1, index)).unwrap();
        self.describe(1, index, buffer(1, index), bytes.len() as u32, 0);
        self.give(1, index);
        rustix::io::write(&self.kicks[1], &1_u64.to_ne_bytes()).unwrap();
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn send(socket: &UnixStream, request: u32, payload: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let header = [request, 1, payload.len() as u32].map(u32::to_ne_bytes).concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let slices = [IoSlice::new(&header), IoSlice::new(payload)];
    sendmsg(socket, &slices, &mut ancillary, SendFlags::empty()).unwrap();
}

fn reply(mut socket: &UnixStream) -> Vec<u8> {
    socket.flush().unwrap();
    let mut header = [0; 12];
    socket.read_exact(&mut header).unwrap();
    assert_eq!(u32::from_ne_bytes(header[4..8].try_into().unwrap()), 1 | 4);
    let mut payload = vec![0; u32::from_ne_bytes(header[8..].try_into().unwrap()) as usize];
    socket.read_exact(&mut payload).unwrap();
    payload
}
