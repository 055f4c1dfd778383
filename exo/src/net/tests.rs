//! The packet path against a simulated device: the test reads the transmit
//! queue and writes the receive queue as the device would.

use dpf::{Atom, Filter, Step, packet};
use exo_abi::{Error, FrameKind, Pfn, Rights, RingOrder, RingPage, SyncCounts, Word};
use std::sync::atomic::Ordering::Relaxed;

use crate::env::Env;
use crate::kernel::Kernel;
use crate::memory;
use crate::net::storage::{Installed, Side};
use crate::object;
use crate::testing::{
    ALL_FRAMES, NET, NIC_FIRST, OWN, STATION, call, child, destroy, explained, free_frames,
    machine, tables,
};

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 9];
const STORE: [u8; 4] = [10, 0, 2, 15];
const OTHER: [u8; 4] = [10, 0, 2, 16];
const PEER: [u8; 4] = [10, 0, 2, 2];

/// The device's side of the queues.
#[derive(Default)]
struct Device {
    received: u16,
    sent: u16,
    finished: u16,
}

impl Device {
    fn word16(&self, frame: u32, offset: usize) -> u16 {
        // SAFETY: the queues' frames of simulated memory.
        unsafe { memory::frame(NIC_FIRST.plus(frame)).add(offset).cast::<u16>().read() }
    }

    fn put<T>(&self, frame: u32, offset: usize, value: T) {
        // SAFETY: as above.
        unsafe { memory::frame(NIC_FIRST.plus(frame)).add(offset).cast::<T>().write(value) };
    }

    fn descriptor(&self, queue: u32, index: u16) -> (u64, u32, u16, u16) {
        let at = usize::from(index) * 16;
        // SAFETY: as above.
        unsafe {
            let base = memory::frame(NIC_FIRST.plus(2 * queue)).add(at);
            (
                base.cast::<u64>().read(),
                base.add(8).cast::<u32>().read(),
                base.add(12).cast::<u16>().read(),
                base.add(14).cast::<u16>().read(),
            )
        }
    }

    /// A frame arrives.
    fn receive(&mut self, frame: &[u8]) {
        let available = self.word16(1, 2);
        assert_ne!(available, self.received, "the driver left a buffer");
        let index = self.word16(1, 4 + 2 * usize::from(self.received % 256));
        let (address, length, _, _) = self.descriptor(0, index);
        assert!(frame.len() + 12 <= length as usize);
        // SAFETY: the descriptor names a receive buffer of simulated memory.
        unsafe {
            memory::physical(address + 12).copy_from_nonoverlapping(frame.as_ptr(), frame.len());
        }
        let at = 1024 + 4 + 8 * usize::from(self.received % 256);
        self.put(1, at, u32::from(index));
        self.put(1, at + 4, frame.len() as u32 + 12);
        self.received = self.received.wrapping_add(1);
        self.put(1, 1024 + 2, self.received);
    }

    /// The next frame the driver sent.
    fn next_sent(&mut self) -> Option<Vec<u8>> {
        if self.word16(3, 2) == self.sent {
            return None;
        }
        let mut index = self.word16(3, 4 + 2 * usize::from(self.sent % 256));
        self.sent = self.sent.wrapping_add(1);
        let mut frame = Vec::new();
        loop {
            let (address, length, flags, next) = self.descriptor(1, index);
            // SAFETY: the descriptor names simulated memory.
            frame.extend_from_slice(unsafe {
                std::slice::from_raw_parts(memory::physical(address), length as usize)
            });
            if flags & 1 == 0 {
                break;
            }
            index = next;
        }
        assert_eq!(frame[..12], [0; 12], "no offloads are asked for");
        Some(frame.split_off(12))
    }

    /// The device has finished sending everything it was given.
    fn finish(&mut self) {
        while self.finished != self.sent {
            let index = self.word16(3, 4 + 2 * usize::from(self.finished % 256));
            let at = 1024 + 4 + 8 * usize::from(self.finished % 256);
            self.put(3, at, u32::from(index));
            self.finished = self.finished.wrapping_add(1);
            self.put(3, 1024 + 2, self.finished);
        }
    }
}

fn udp(from: ([u8; 6], [u8; 4], u16), to: ([u8; 6], [u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&[8, 0, 0x45, 0]);
    frame.extend_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend_from_slice(&from.1);
    frame.extend_from_slice(&to.1);
    for word in [from.2, to.2, 8 + payload.len() as u16, 0] {
        frame.extend_from_slice(&word.to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

fn request(payload: &[u8]) -> Vec<u8> {
    udp((CLIENT, PEER, 5000), (STATION, STORE, 11211), payload)
}

fn reply(payload: &[u8]) -> Vec<u8> {
    udp((STATION, STORE, 11211), (CLIENT, PEER, 5000), payload)
}

/// An environment with a binding of 8 slots.
struct App {
    kernel: &'static Kernel,
    env: &'static Env,
    root: &'static Env,
    handle: u64,
    binding: u64,
    first: u32,
    sent: u32,
}

impl App {
    fn new(kernel: &'static Kernel, root: &'static Env, first: u32) -> Self {
        Self::with_net(kernel, root, first, NET)
    }

    fn with_net(kernel: &'static Kernel, root: &'static Env, first: u32, net: u64) -> Self {
        let (env, handle) = child(kernel, root, first);
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, u64::from(first) + 10, 48])
            .unwrap();
        let net = call(kernel, root, "cap_grant", &[net, handle]).expect("room");
        let run = first + 10;
        let binding = call(kernel, env, "net_bind", &[net, run.into(), 3, u64::from(run) + 9]);
        let binding = binding.expect("a binding");
        Self { kernel, env, root, handle, binding, first: run, sent: 0 }
    }

    fn page(&self) -> &RingPage {
        // SAFETY: the ring page in simulated memory; all atomics.
        unsafe { &*memory::frame(Pfn(self.first)).cast() }
    }

    /// Installs `filter` in the spare frame `spare`, going through user memory.
    fn install(&self, filter: &Filter, spare: u32) -> Result<u64, Error> {
        self.install_over(filter, spare, 0)
    }

    /// The same, though it takes packets that the binding `shadows` claims.
    fn install_over(&self, filter: &Filter, spare: u32, shadows: u64) -> Result<u64, Error> {
        self.try_install(filter, spare, shadows).map_err(|(error, _)| error)
    }

    /// The same, with what comes with an error.
    fn try_install(&self, filter: &Filter, spare: u32, shadows: u64) -> Result<u64, (Error, u64)> {
        let mut wire = [0; dpf::MAX_WIRE];
        let length = filter.encode(&mut wire).expect("fits");
        let text = self.first + 20;
        // SAFETY: a spare frame of the environment's.
        unsafe { memory::frame(Pfn(text)).copy_from_nonoverlapping(wire.as_ptr(), length) };
        let at = 0x40_0000;
        if self.kernel.frames.mappings(Pfn(text)) == 0 {
            tables(self.kernel, self.root, self.handle, at, self.first + 50);
            call(self.kernel, self.env, "map", &[OWN, OWN, text.into(), at, 1, 1]).expect("mapped");
        }
        let object = u64::from(self.first + 10 + spare);
        let arguments = [self.binding, at, length as u64, object, object + 20, shadows];
        explained(self.kernel, self.env, "filter_install", &arguments)
    }

    /// Reads the filter in `object` to the front of the page where filters are installed
    /// from, as far as it fits `length` bytes there. The page, and what the kernel says.
    fn read(&self, object: u64, length: u64) -> (Vec<u8>, Result<u64, Error>) {
        let text = memory::frame(Pfn(self.first + 20));
        // SAFETY: a spare frame of the environment's, mapped when the first was installed.
        unsafe { text.write_bytes(0xaa, 4096) };
        let words = [self.binding, object, 0x40_0000, length];
        let result = call(self.kernel, self.env, "filter_read", &words);
        // SAFETY: as above.
        (unsafe { std::slice::from_raw_parts(text, 4096) }.to_vec(), result)
    }

    fn buffer(&self, offset: usize) -> *mut u8 {
        memory::frame(Pfn(self.first)).wrapping_add(offset)
    }

    fn sync(&self) -> SyncCounts {
        SyncCounts::from_value(
            call(self.kernel, self.env, "net_sync", &[self.binding]).expect("bound"),
        )
    }

    fn send(&mut self, frame: &[u8]) {
        let order = RingOrder::new(3).unwrap();
        let slot = self.sent % order.slots();
        // SAFETY: a transmit buffer of the run.
        unsafe {
            self.buffer(order.tx_offset(slot))
                .copy_from_nonoverlapping(frame.as_ptr(), frame.len().min(2048));
        }
        self.page().tx_length[slot as usize].store(frame.len() as u16, Relaxed);
        self.sent = self.sent.wrapping_add(1);
        self.page().tx_produced.0.store(self.sent, Relaxed);
    }

    fn received(&self) -> Vec<Vec<u8>> {
        let order = RingOrder::new(3).unwrap();
        let (from, to) =
            (self.page().rx_consumed.0.load(Relaxed), self.page().rx_produced.0.load(Relaxed));
        let frames = (from..to)
            .map(|index| {
                let slot = index % order.slots();
                let length = self.page().rx_length[slot as usize].load(Relaxed);
                let start = self.buffer(order.rx_offset(slot));
                // SAFETY: a receive buffer of the run.
                unsafe { std::slice::from_raw_parts(start, length.into()) }.to_vec()
            })
            .collect();
        self.page().rx_consumed.0.store(to, Relaxed);
        frames
    }
}

#[test]
fn packets_reach_their_owner_and_nobody_else() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let (store, other) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    other.install(&packet::udp_to(OTHER, 7), 0).expect("unclaimed");
    let events = other.env.events.get();
    for number in 0..5 {
        device.receive(&request(&[number; 30]));
    }
    device.receive(&udp((CLIENT, PEER, 1), (STATION, STORE, 80), b"nobody's"));
    other.sync();
    assert_eq!(store.received(), (0..5).map(|n| request(&[n; 30])).collect::<Vec<_>>());
    assert!(other.received().is_empty());
    assert_eq!(other.env.events.get(), events);
    assert_ne!(store.env.events.get(), 0);
    assert_eq!(kernel.info.unclaimed.load(Relaxed), 1);
}

#[test]
fn only_replies_of_ones_own_go_out() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    store.send(&reply(b"before any filter"));
    assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 1 });
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let mut forgeries = vec![
        udp((STATION, OTHER, 11211), (CLIENT, PEER, 5000), b"another address"),
        udp((STATION, STORE, 7), (CLIENT, PEER, 5000), b"another port"),
        udp((CLIENT, STORE, 11211), (CLIENT, PEER, 5000), b"another station"),
        reply(b"")[..30].to_vec(),
        vec![0; 13],
        vec![0; 1515],
    ];
    let mut fragment = reply(b"fragment");
    fragment[20] = 0x20;
    forgeries.push(fragment);
    let mut options = reply(b"options");
    options[14] = 0x46;
    forgeries.push(options);
    for forgery in &forgeries {
        store.send(forgery);
        assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 1 }, "{forgery:02x?}");
    }
    assert_eq!(device.next_sent(), None);
    for length in [0, 100, 458, 459, 1000, 1472] {
        let frame = reply(&vec![length as u8; length]);
        store.send(&frame);
        assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 0 });
        assert_eq!(device.next_sent(), Some(frame));
        device.finish();
    }
}

#[test]
fn what_decides_cannot_change_after_the_check() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let honest = reply(&[7; 1400]);
    store.send(&honest);
    assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 0 });
    assert_eq!(store.page().tx_consumed.0.load(Relaxed), 0, "the device still reads the buffer");
    // Before the device looks, the sender turns it into somebody else's.
    let order = RingOrder::new(3).unwrap();
    let forged = udp((CLIENT, OTHER, 7), (CLIENT, PEER, 5000), &[8; 1400]);
    // SAFETY: a transmit buffer of the run.
    unsafe {
        store.buffer(order.tx_offset(0)).copy_from_nonoverlapping(forged.as_ptr(), forged.len());
    }
    let sent = device.next_sent().expect("one frame");
    assert_eq!(sent[..super::nic::HEAD], honest[..super::nic::HEAD]);
    device.finish();
    store.sync();
    assert_eq!(store.page().tx_consumed.0.load(Relaxed), 1);
}

#[test]
fn lies_in_the_ring_page_hurt_only_the_liar() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let (liar, honest) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    liar.install(&packet::udp_to(OTHER, 7), 0).expect("unclaimed");
    honest.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    for lie in [1, 7, 9, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for index in [
            &liar.page().rx_produced,
            &liar.page().rx_consumed,
            &liar.page().tx_produced,
            &liar.page().tx_consumed,
        ] {
            index.0.store(lie, Relaxed);
        }
        for length in &liar.page().tx_length {
            length.store(lie as u16, Relaxed);
        }
        let counts = liar.sync();
        assert!(counts.taken <= 8, "one round at most: {counts:?}");
        assert_eq!(counts.taken, counts.refused);
        device.receive(&udp((CLIENT, PEER, 1), (STATION, OTHER, 7), b"to the liar"));
        device.receive(&request(b"to the honest"));
        liar.sync();
        assert_eq!(honest.received(), [request(b"to the honest")]);
    }
    assert_eq!(device.next_sent(), None);
}

#[test]
fn a_full_ring_drops_and_counts() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    for number in 0..12 {
        device.receive(&request(&[number]));
    }
    store.sync();
    assert_eq!(store.received().len(), 8);
    assert_eq!(kernel.info.overflowed.load(Relaxed), 4);
    device.receive(&request(b"there is room again"));
    store.sync();
    assert_eq!(store.received().len(), 1);
}

#[test]
fn claimed_packets_cannot_be_claimed_again() {
    let (kernel, root) = machine();
    let (store, thief) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    assert_eq!(store.install(&packet::udp_to(STORE, 11211), 1), Err(Error::FilterConflict));
    let all_ip = Filter::new(&[dpf::Atom::exact(12, 2, 0x0800)]).unwrap();
    let narrow = Filter::new(&[
        dpf::Atom::exact(12, 2, 0x0800),
        dpf::Atom::exact(14, 1, 0x45),
        dpf::Atom::exact(23, 1, 17),
        dpf::Atom::exact(30, 4, u64::from(u32::from_be_bytes(STORE))),
        dpf::Atom::exact(36, 2, 11211),
        dpf::Atom::exact(42, 1, b'g'.into()),
    ])
    .unwrap();
    for theft in [packet::udp_to(STORE, 11211), all_ip, narrow] {
        assert_eq!(thief.install(&theft, 0), Err(Error::FilterConflict));
    }
    let own = u64::from(store.first) + 10;
    assert_eq!(call(kernel, thief.env, "filter_remove", &[thief.binding, own]), Err(Error::Vacant));
    assert_eq!(call(kernel, store.env, "filter_remove", &[store.binding, own]), Ok(0));
    assert_eq!(call(kernel, store.env, "filter_remove", &[store.binding, own]), Err(Error::Vacant));
    assert_eq!(thief.install(&packet::udp_to(STORE, 11211), 0), Ok(0), "nobody claims it now");
}

#[test]
fn a_conflict_names_a_filter_that_can_be_read() {
    let (kernel, root) = machine();
    let (store, other) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    let taken = [packet::udp_to(STORE, 11211), packet::arp_for(STORE), packet::icmp_to(STORE)];
    for (filter, spare) in taken.iter().zip(0..) {
        assert_eq!(store.try_install(filter, spare, 0), Ok(0));
    }
    other.install(&packet::udp_to(OTHER, 7), 0).expect("unclaimed");
    for (filter, spare) in taken.iter().zip(0..) {
        let name = u64::from(store.first + 10 + spare);
        for who in [&store, &other] {
            let refusal = who.try_install(filter, 3, 0);
            assert_eq!(refusal, Err((Error::FilterConflict, name)), "{filter:?}");
        }
        let mut wire = [0; dpf::MAX_WIRE];
        let whole = filter.encode(&mut wire).expect("fits");
        // What does not fit is left out, and nothing is written behind.
        for length in [0, 1, whole - 1, whole, whole + 1, usize::MAX] {
            let (page, result) = other.read(name, length as u64);
            assert_eq!(result, Ok(whole as u64));
            let end = length.min(whole);
            assert_eq!(page[..end], wire[..end]);
            assert!(page[end..].iter().all(|byte| *byte == 0xaa), "{length}");
        }
    }
    // Other refusals come with nothing.
    let used = other.try_install(&packet::udp_to(OTHER, 8), 0, 0);
    assert_eq!(used, Err((Error::NotOwned, 0)));
    // The middle one goes, and its frame has no filter any more.
    let name = u64::from(store.first + 11);
    call(kernel, store.env, "filter_remove", &[store.binding, name]).expect("installed");
    for vacant in [name, store.first.into(), u64::from(store.first) + 9, 0, u64::from(u32::MAX)] {
        let (page, result) = other.read(vacant, 4096);
        assert_eq!(result, Err(Error::Vacant));
        assert!(page.iter().all(|byte| *byte == 0xaa), "{vacant}");
    }
}

#[test]
fn filters_are_read_within_a_scope_and_into_own_memory() {
    let (kernel, root) = machine();
    let store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    store.install(&packet::udp_to(OTHER, 7), 1).expect("unclaimed");
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 1000, 2]).expect("free");
    tables(kernel, root, OWN, 0x40_0000, 1010);
    call(kernel, root, "map", &[OWN, OWN, 1000, 0x40_0000, 1, 1]).expect("mapped");
    let mut wire = [0; dpf::MAX_WIRE];
    let length = packet::ipv4_all(OTHER).encode(&mut wire).unwrap();
    // SAFETY: a frame of simulated memory that is root's.
    unsafe { memory::frame(Pfn(1000)).copy_from_nonoverlapping(wire.as_ptr(), length) };
    let narrow = call(kernel, root, "net_scope", &[NET, 0x40_0000, length as u64, 1001]);
    let other = App::with_net(kernel, root, 800, narrow.expect("within everything"));
    other.install(&packet::udp_to(OTHER, 8), 0).expect("within the scope");
    let [hidden, visible] = [10, 11].map(|spare| u64::from(store.first) + spare);
    assert_eq!(other.read(hidden, 4096).1, Err(Error::NoRight));
    assert!(other.read(visible, 4096).1.is_ok(), "it may be in the way");
    assert!(store.read(hidden, 4096).1.is_ok(), "everything is within everything");
    // Into what is not mapped, is read only, or ends too soon; nothing fits no bytes.
    let read = |at: u64, length| {
        call(kernel, other.env, "filter_read", &[other.binding, visible, at, length])
    };
    for at in [0, 8, 0x40_1000, 0x40_0000 + 4090, 1 << 47, u64::MAX - 3] {
        assert_eq!(read(at, 4096), Err(Error::BadPointer), "{at:#x}");
    }
    assert!(read(u64::MAX, 0).is_ok());
    call(kernel, other.env, "unmap", &[OWN, 0x40_0000, 1]).expect("mapped");
    let text = u64::from(other.first) + 20;
    call(kernel, other.env, "map", &[OWN, OWN, text, 0x40_0000, 1, 0]).expect("unmapped");
    assert_eq!(read(0x40_0000, 4096), Err(Error::BadPointer), "read only");
    // A right is needed, and a binding.
    let weak = [other.binding, Rights::SYNC.into_word(), 0, 0];
    let weak = call(kernel, other.env, "cap_derive", &weak).expect("room");
    let by = |handle| call(kernel, other.env, "filter_read", &[handle, visible, 0, 0]);
    assert_eq!(by(weak), Err(Error::NoRight));
    assert_eq!(by(OWN), Err(Error::BadHandle));
    // Where the scope is gone, nothing is in it.
    call(kernel, root, "net_unscope", &[1001]).expect("root's");
    assert_eq!(by(other.binding), Err(Error::NoRight));
}

#[test]
fn filters_of_one_owner_must_be_plainly_more_or_less_specific() {
    let (kernel, root) = machine();
    let (store, other) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    let ports = |lo, hi| {
        let udp = [
            dpf::Atom::exact(12, 2, 0x0800),
            dpf::Atom::exact(30, 4, u64::from(u32::from_be_bytes(STORE))),
        ];
        let header = dpf::Shift { offset: 14, mask: 0x0f, scale: 2 };
        let [udp, address] = udp.map(dpf::Step::Atom);
        let ports = dpf::Step::Atom(dpf::Atom::range(16, 2, lo, hi));
        Filter::of_steps(&[udp, address, dpf::Step::Shift(header), ports]).unwrap()
    };
    assert_eq!(store.install(&ports(100, 200), 0), Ok(0));
    assert_eq!(store.install(&ports(150, 250), 1), Err(Error::FilterConflict), "as many");
    assert_eq!(store.install(&ports(150, 160), 1), Ok(0), "within");
    assert_eq!(store.install(&ports(201, 301), 2), Ok(0), "apart");
    for port in [100, 155, 200, 201, 301] {
        assert_eq!(other.install(&packet::udp_to(STORE, port), 0), Err(Error::FilterConflict));
    }
    let own = u64::from(store.first) + 12;
    assert_eq!(call(kernel, store.env, "filter_remove", &[store.binding, own]), Ok(0));
    assert_eq!(other.install(&packet::udp_to(STORE, 301), 0), Ok(0));
}

#[test]
fn unbinding_gives_everything_back() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    store.install(&packet::arp_for(STORE), 1).expect("unclaimed");
    store.install(&packet::icmp_to(STORE), 2).expect("unclaimed");
    let run = u64::from(store.first);
    assert_eq!(call(kernel, store.env, "frames_free", &[run, 9]), Err(Error::InUse));
    assert_eq!(
        call(kernel, store.env, "env_create", &[run, run + 1, run + 2, run + 3]),
        Err(Error::InUse)
    );
    store.send(&reply(&[1; 1400]));
    store.sync();
    assert_eq!(destroy(kernel, root, store.handle), Err(Error::InUse), "the device reads it");
    assert!(device.next_sent().is_some());
    device.finish();
    assert_eq!(destroy(kernel, root, store.handle), Ok(()));
    assert_eq!(free_frames(kernel), before);
    device.receive(&request(b"to the dead"));
    let heir = App::new(kernel, root, 600);
    heir.sync();
    assert_eq!(kernel.info.unclaimed.load(Relaxed), 1);
    assert_eq!(heir.install(&packet::udp_to(STORE, 11211), 0), Ok(0));
}

#[test]
fn a_stale_binding_names_nothing_even_when_its_frame_is_bound_again() {
    let (kernel, root) = machine();
    let store = App::new(kernel, root, 600);
    while call(kernel, store.env, "net_unbind", &[store.binding]) == Err(Error::Again) {}
    assert_eq!(call(kernel, store.env, "net_sync", &[store.binding]), Err(Error::BadHandle));
    let object = u64::from(store.first) + 9;
    assert_eq!(kernel.frames.kind(Pfn(object as u32)), Some(FrameKind::Memory));
    let net = OWN | 1;
    let order = RingOrder::new(3).unwrap().into_word();
    let again = call(kernel, store.env, "net_bind", &[net, store.first.into(), order, object]);
    assert!(again.is_ok(), "{again:?}");
    assert_eq!(call(kernel, store.env, "net_sync", &[store.binding]), Err(Error::BadHandle));
}

#[test]
fn a_scope_bounds_what_can_be_claimed() {
    let (kernel, root) = machine();
    // Root's own list of filters lies in its memory, and so does the scope.
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 1000, 2]).expect("free");
    tables(kernel, root, OWN, 0x40_0000, 1010);
    call(kernel, root, "map", &[OWN, OWN, 1000, 0x40_0000, 1, 1]).expect("mapped");
    let mut wire = [0; 2 * dpf::MAX_WIRE];
    let mut used = packet::ipv4_all(STORE).encode(&mut wire).unwrap();
    used += packet::arp_for(STORE).encode(&mut wire[used..]).unwrap();
    // SAFETY: a frame of simulated memory that is root's.
    unsafe { memory::frame(Pfn(1000)).copy_from_nonoverlapping(wire.as_ptr(), used) };
    let scope = |net, length| call(kernel, root, "net_scope", &[net, 0x40_0000, length, 1001]);
    assert_eq!(scope(NET, used as u64 - 1), Err(Error::BadFilter));
    assert_eq!(scope(NET, 1 << 40), Err(Error::TooMuch));
    let narrow = scope(NET, used as u64).expect("within everything");
    let store = App::with_net(kernel, root, 600, narrow);
    for allowed in [packet::udp_to(STORE, 11211), packet::arp_for(STORE), packet::icmp_to(STORE)] {
        assert_eq!(store.install(&allowed, 0), Ok(0));
        let object = u64::from(store.first) + 10;
        // It lies behind what the scope pins.
        let installed = object::get::<Installed>(&kernel.frames, Pfn(object as u32)).unwrap();
        // SAFETY: installed, so it is written.
        let claim = unsafe { installed.filter(Side::Claim) };
        let outer = [packet::ipv4_all(STORE), packet::arp_for(STORE)];
        let outer = outer.iter().find(|outer| dpf::implies(&allowed, outer)).unwrap();
        assert_eq!(*claim, allowed.under(outer).unwrap());
        call(kernel, store.env, "filter_remove", &[store.binding, object]).expect("installed");
    }
    let all_arp = Filter::new(&[dpf::Atom::exact(12, 2, 0x0806)]).unwrap();
    for foreign in [packet::udp_to(OTHER, 11211), packet::arp_for(OTHER), all_arp] {
        assert_eq!(store.install(&foreign, 0), Err(Error::NoRight));
    }
    // A scope cannot be widened by scoping again, and goes when it is taken away.
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 1002, 1]).expect("free");
    let other = packet::arp_for(OTHER).encode(&mut wire).unwrap();
    // SAFETY: as above.
    unsafe { memory::frame(Pfn(1000)).copy_from_nonoverlapping(wire.as_ptr(), other) };
    let wider = call(kernel, root, "net_scope", &[narrow, 0x40_0000, other as u64, 1002]);
    assert_eq!(wider, Err(Error::NoRight));
    assert_eq!(call(kernel, store.env, "net_unscope", &[1001]), Err(Error::NotOwned));
    assert_eq!(call(kernel, root, "net_unscope", &[1001]), Ok(0));
    assert_eq!(store.install(&packet::udp_to(STORE, 11211), 0), Err(Error::NoRight));
    assert_eq!(call(kernel, root, "cap_grant", &[narrow, OWN]), Err(Error::BadHandle));
}

#[test]
fn frames_of_objects_come_back_clear() {
    let (kernel, root) = machine();
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 1000, 2]).expect("free");
    tables(kernel, root, OWN, 0x40_0000, 1010);
    call(kernel, root, "map", &[OWN, OWN, 1000, 0x40_0000, 1, 1]).expect("mapped");
    let mut wire = [0; dpf::MAX_WIRE];
    let length = packet::arp_for(STORE).encode(&mut wire).unwrap();
    // SAFETY: a frame of simulated memory that is root's.
    unsafe { memory::frame(Pfn(1000)).copy_from_nonoverlapping(wire.as_ptr(), length) };
    let store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let filter = store.first + 10;
    call(kernel, store.env, "filter_remove", &[store.binding, filter.into()]).expect("installed");
    call(kernel, root, "net_scope", &[NET, 0x40_0000, length as u64, 1001]).expect("a scope");
    call(kernel, root, "net_unscope", &[1001]).expect("root's");
    while call(kernel, store.env, "net_unbind", &[store.binding]) == Err(Error::Again) {}
    for frame in [1001, filter, store.first + 9] {
        assert_eq!(kernel.frames.kind(Pfn(frame)), Some(FrameKind::Memory));
        // SAFETY: a frame of simulated memory.
        let bytes = unsafe { std::slice::from_raw_parts(memory::frame(Pfn(frame)), 4096) };
        assert!(bytes.iter().all(|byte| *byte == 0), "frame {frame}");
    }
}

/// Who holds the capability for a binding may take packets out of its claim, by a filter
/// that is more specific; nobody else may, and nobody by one that is not.
#[test]
fn a_claim_is_shadowed_by_leave() {
    let (kernel, root) = machine();
    let (store, friend) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let known = call(kernel, root, "cap_grant", &[friend.handle, store.handle]).expect("room");
    let lent = call(kernel, store.env, "cap_grant", &[store.binding, known]).expect("lent");
    let narrower = |source: u64| {
        let from = Step::Atom(Atom::exact(34, 2, source));
        let steps: Vec<Step> = packet::udp_to(STORE, 11211).steps().chain([from]).collect();
        Filter::of_steps(&steps).expect("consistent")
    };
    let narrow = narrower(53);
    assert_eq!(friend.install(&narrow, 0), Err(Error::FilterConflict), "without leave");
    let shadow = |filter: &Filter, spare| friend.install_over(filter, spare, lent);
    let wide = packet::udp_to(STORE, 11211);
    assert_eq!(shadow(&wide, 0), Err(Error::FilterConflict), "not more specific");
    assert_eq!(shadow(&narrow, 0), Ok(0));
    let weak = call(kernel, friend.env, "cap_derive", &[lent, Rights::SYNC.into_word(), 0, 0]);
    let weak = weak.expect("room");
    let over = friend.install_over(&narrower(54), 1, weak);
    assert_eq!(over, Err(Error::NoRight), "leave to move packets is none");
    assert_eq!(friend.install_over(&narrower(54), 1, friend.handle), Err(Error::BadHandle));
}

#[test]
fn a_friend_cannot_keep_a_dying_binding_alive() {
    let (kernel, root) = machine();
    let (store, friend) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    let known = call(kernel, root, "cap_grant", &[friend.handle, store.handle]).expect("room");
    let lent = call(kernel, store.env, "cap_grant", &[store.binding, known]).expect("lent");
    assert!(friend.install(&packet::udp_to(OTHER, 7), 0).is_ok());
    let object = u64::from(store.first) + 10;
    let install =
        call(kernel, friend.env, "filter_install", &[lent, 0x40_0000, 40, object, object + 1]);
    assert_eq!(install, Err(Error::NotOwned));
    assert!(call(kernel, friend.env, "net_sync", &[lent]).is_ok(), "that much is lent");
    assert_eq!(call(kernel, root, "env_destroy", &[store.handle]), Err(Error::Again));
    assert_eq!(call(kernel, friend.env, "net_sync", &[lent]), Err(Error::WrongState));
    assert_eq!(destroy(kernel, root, store.handle), Ok(()));
}

#[test]
fn nobody_can_take_all_of_the_device() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let (mut flooder, mut store) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    flooder.install(&packet::udp_to(OTHER, 7), 0).expect("unclaimed");
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let flood = udp((STATION, OTHER, 7), (CLIENT, PEER, 5000), b"flood");
    let mut taken = 0;
    for _ in 0..100 {
        for _ in 0..8 {
            if flooder.sent.wrapping_sub(taken) < 8 {
                flooder.send(&flood);
            }
        }
        taken += flooder.sync().taken;
    }
    assert_eq!(taken, 64, "half of the slots");
    store.send(&reply(b"still there"));
    assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 0 });
    while device.next_sent().is_some() {}
    device.finish();
    assert_eq!(flooder.sync().taken, 8, "as soon as the device has caught up");
}
