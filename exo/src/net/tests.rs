//! The packet path against a simulated device: the test reads the transmit
//! queue and writes the receive queue as the device would.

use dpf::{Atom, Filter, KEY_WIRE, Key, Shift, Step, encode_keys, packet};
use exo_abi::{EnvState, Error, FrameKind, Pfn, RingOrder, RingPage, SyncCounts, Word};
use std::sync::atomic::Ordering::Relaxed;

use crate::calls::Reply;
use crate::env::{self, Env};
use crate::kernel::Kernel;
use crate::memory;
use crate::net::{self, filter::FORKS};
use crate::testing::{
    ALL_FRAMES, NET, NIC_FIRST, OWN, STATION, call, child, destroy, explained, free_frames,
    machine, stint, tables,
};
use crate::work::BUDGET;

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
        self.finish_up_to(0);
    }

    /// The same, but for the last so many.
    fn finish_up_to(&mut self, left: u16) {
        while self.finished.wrapping_add(left) != self.sent {
            self.finish_as(self.finished);
        }
    }

    /// It has finished packet `number` of the last three, whether or not it was its turn.
    fn finish_one(&mut self, number: u16) {
        self.finish_as(self.sent.wrapping_sub(3).wrapping_add(number));
    }

    fn finish_as(&mut self, turn: u16) {
        let index = self.word16(3, 4 + 2 * usize::from(turn % 256));
        let at = 1024 + 4 + 8 * usize::from(self.finished % 256);
        self.put(3, at, u32::from(index));
        self.finished = self.finished.wrapping_add(1);
        self.put(3, 1024 + 2, self.finished);
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

/// Makes a scope of `keys` from root's capability `net`, in frame `object` and the one after it.
fn scope(
    kernel: &'static Kernel,
    root: &'static Env,
    net: u64,
    keys: &[Filter],
    object: u32,
) -> Result<u64, (Error, u64)> {
    let mut wire = [0; 1024];
    let length = encode_keys(keys, &mut wire).expect("keys");
    scope_of(kernel, root, net, &wire[..length], object)
}

/// The same of what is said to be encoded keys, which it writes to root's memory.
fn scope_of(
    kernel: &'static Kernel,
    root: &'static Env,
    net: u64,
    wire: &[u8],
    object: u32,
) -> Result<u64, (Error, u64)> {
    const TEXT: u32 = 1900;
    let at = 0x40_0000;
    if kernel.frames.kind(Pfn(TEXT)) == Some(FrameKind::Free) {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, TEXT.into(), 1]).expect("free");
        tables(kernel, root, OWN, at, TEXT + 1);
        call(kernel, root, "map", &[OWN, OWN, TEXT.into(), at, 1, 1]).expect("mapped");
    }
    // SAFETY: a frame of simulated memory that is root's.
    unsafe { memory::frame(Pfn(TEXT)).copy_from_nonoverlapping(wire.as_ptr(), wire.len()) };
    for frame in [object, object + 1] {
        if kernel.frames.kind(Pfn(frame)) == Some(FrameKind::Free) {
            call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, frame.into(), 1]).expect("free");
        }
    }
    let object = u64::from(object);
    explained(kernel, root, "net_scope", &[net, at, wire.len() as u64, object, object + 1])
}

/// All that concerns an address.
fn address_keys(address: [u8; 4]) -> [Filter; 2] {
    [packet::ipv4_all(address), packet::arp_for(address)]
}

/// Takes a scope away, however many steps it takes.
fn unscope(kernel: &Kernel, env: &'static Env, object: u64) -> Result<u64, Error> {
    loop {
        match call(kernel, env, "net_unscope", &[object]) {
            Err(Error::Again) => {}
            result => return result,
        }
    }
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
    /// At 600 the one at the address [`STORE`], elsewhere at [`OTHER`]. Its scope is in root's
    /// frame 70 behind `first`.
    fn new(kernel: &'static Kernel, root: &'static Env, first: u32) -> Self {
        let keys = address_keys(if first == 600 { STORE } else { OTHER });
        let net = scope(kernel, root, NET, &keys, first + 70).expect("within everything");
        Self::with_net(kernel, root, first, net)
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
        self.install_for(self.binding, filter, spare)
    }

    /// The same for another binding of this environment.
    fn install_for(&self, binding: u64, filter: &Filter, spare: u32) -> Result<u64, Error> {
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
        let arguments = [binding, at, length as u64, object, object + 20];
        call(self.kernel, self.env, "filter_install", &arguments)
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
    device.receive(&udp((CLIENT, PEER, 1), (STATION, STORE, 80), b"for no one"));
    other.sync();
    assert_eq!(store.received(), (0..5).map(|n| request(&[n; 30])).collect::<Vec<_>>());
    assert!(other.received().is_empty());
    assert_eq!(other.env.events.get(), events);
    assert_ne!(store.env.events.get(), 0);
    assert_eq!(kernel.info.unclaimed.load(Relaxed), 1);
}

/// Sends a packet, and says whether it was refused.
fn refuses(app: &mut App, packet: &[u8]) -> bool {
    app.send(packet);
    let counts = app.sync();
    assert_eq!(counts.taken, 1);
    counts.refused == 1
}

#[test]
fn only_what_is_of_ones_own_address_goes_out() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&STATION);
    arp.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend_from_slice(&STATION);
    arp.extend_from_slice(&STORE);
    arp.extend_from_slice(&[0; 6]);
    arp.extend_from_slice(&PEER);
    let changed = |at: usize| {
        let mut forged = arp.clone();
        forged[at] ^= 1;
        forged
    };
    let forgeries = [
        udp((STATION, OTHER, 11211), (CLIENT, PEER, 5000), b"another address"),
        udp((CLIENT, STORE, 11211), (CLIENT, PEER, 5000), b"another station"),
        reply(b"")[..33].to_vec(),
        arp[..41].to_vec(),
        vec![0; 13],
        vec![0; 1515],
        changed(11),
        changed(13),
        changed(15),
        changed(22),
        changed(31),
    ];
    for forgery in &forgeries {
        assert!(refuses(&mut store, forgery), "{forgery:02x?}");
    }
    assert_eq!(device.next_sent(), None);
    let mut fragment = reply(b"fragment");
    fragment[20] = 0x20;
    let mut honest = vec![arp, fragment, reply(b"")[..34].to_vec()];
    honest.extend([0, 100, 458, 459, 1000, 1472].map(|length| reply(&vec![length as u8; length])));
    for frame in honest {
        assert!(!refuses(&mut store, &frame));
        assert_eq!(device.next_sent(), Some(frame));
        device.finish();
    }
    // It listens as it speaks, and neither without a scope.
    assert_eq!(unscope(kernel, root, 670), Ok(0));
    store.send(&reply(b"no scope"));
    assert_eq!(store.sync(), SyncCounts { taken: 0, refused: 0 });
}

#[test]
fn two_environments_share_an_address_by_port() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let of_port = |port| [packet::udp_to(STORE, port)];
    let nets = [(53, 670), (11211, 870)]
        .map(|(port, object)| scope(kernel, root, NET, &of_port(port), object).expect("apart"));
    let [mut names, mut store] = [(nets[0], 600), (nets[1], 800)]
        .map(|(net, first)| App::with_net(kernel, root, first, net));
    assert_eq!(names.install(&packet::udp_to(STORE, 53), 0), Ok(0));
    assert_eq!(store.install(&packet::udp_to(STORE, 11211), 0), Ok(0));
    for (app, other) in [(&names, 11211), (&store, 53)] {
        for foreign in [packet::udp_to(STORE, other), packet::ipv4_all(STORE)] {
            assert_eq!(app.install(&foreign, 1), Err(Error::NoRight));
        }
    }
    let to_names = udp((CLIENT, PEER, 5000), (STATION, STORE, 53), b"?");
    device.receive(&to_names);
    device.receive(&request(b"get"));
    store.sync();
    assert_eq!(names.received(), [to_names]);
    assert_eq!(store.received(), [request(b"get")]);
    let from_names = udp((STATION, STORE, 53), (CLIENT, PEER, 5000), b"!");
    let altered = |at: usize, value: u8| {
        let mut frame = reply(b"forged");
        frame[at] = value;
        frame
    };
    assert!(!refuses(&mut store, &reply(b"own")) && !refuses(&mut names, &from_names));
    assert!(refuses(&mut names, &reply(b"the other's")) && refuses(&mut store, &from_names));
    // Fragments, options and other protocols have no ports there.
    for frame in [altered(20, 0x20), altered(21, 1), altered(14, 0x46), altered(23, 6)] {
        assert!(refuses(&mut store, &frame), "{frame:02x?}");
    }
    // A key that leaves these open can be listened by, but nothing is sent.
    let [port, address, ip] =
        [Atom::exact(36, 2, 80), Atom::exact(30, 4, 0x0a00_020f), Atom::exact(12, 2, 0x0800)];
    let open = Filter::new(&[port, address, ip]).unwrap();
    let net = scope(kernel, root, NET, &[open], 1070).expect("apart by port");
    let mut web = App::with_net(kernel, root, 1000, net);
    assert!(refuses(&mut web, &udp((STATION, STORE, 80), (CLIENT, PEER, 5000), b"!")));
}

#[test]
fn what_is_delegated_is_no_longer_received() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let net = scope(kernel, root, NET, &address_keys(STORE), 670).expect("within everything");
    let mut parent = App::with_net(kernel, root, 600, net);
    parent.install(&packet::udp_to(STORE, 11211), 0).expect("within");
    parent.install(&packet::udp_to(STORE, 53), 1).expect("within");
    let inner = scope(kernel, root, net, &[packet::udp_to(STORE, 11211)], 870).expect("within");
    let mut child = App::with_net(kernel, root, 800, inner);
    let to_names = udp((CLIENT, PEER, 5000), (STATION, STORE, 53), b"?");
    let arrive = |device: &mut Device| {
        device.receive(&request(b"get"));
        device.receive(&to_names);
        parent.sync();
        (parent.received(), child.received())
    };
    // It is dropped while the child has no filter.
    assert_eq!(arrive(&mut device), (vec![to_names.clone()], vec![]));
    assert_eq!(kernel.info.unclaimed.load(Relaxed), 1);
    child.install(&packet::udp_to(STORE, 11211), 0).expect("its own");
    assert_eq!(arrive(&mut device), (vec![to_names.clone()], vec![request(b"get")]));
    // A child does not speak as its parent.
    assert!(refuses(&mut child, &udp((STATION, STORE, 53), (CLIENT, PEER, 5000), b"!")));
    assert!(!refuses(&mut child, &reply(b"own")));
    assert_eq!(unscope(kernel, root, 870), Ok(0));
    device.receive(&request(b"back"));
    device.receive(&to_names);
    parent.sync();
    assert_eq!(parent.received(), [request(b"back"), to_names]);
    assert!(child.received().is_empty());
    assert_eq!(kernel.frames.kind(Pfn(child.first + 10)), Some(FrameKind::Memory), "its filter");
    assert_eq!(child.install(&packet::udp_to(STORE, 11211), 0), Err(Error::NoRight));
    parent.send(&reply(b"again"));
    assert_eq!(parent.sync().refused, 0);
}

#[test]
fn filters_sort_among_own_rings() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let store = App::new(kernel, root, 600);
    let net = OWN | 1;
    let run = u64::from(store.first) + 42;
    let second = call(kernel, store.env, "net_bind", &[net, run, 1, run + 3]).expect("a binding");
    let narrow = |source: u64| {
        let from = Step::Atom(Atom::exact(34, 2, source));
        let steps: Vec<Step> = packet::udp_to(STORE, 11211).steps().chain([from]).collect();
        Filter::of_steps(&steps).expect("consistent")
    };
    store.install(&packet::ipv4_all(STORE), 0).expect("within");
    let received = |device: &mut Device| {
        device.receive(&request(b"get"));
        store.sync();
        store.received().len()
    };
    assert_eq!(received(&mut device), 1);
    // As many bits: the older goes first. More bits: that does, whichever is older.
    let same_bits = Filter::new(&[
        Atom::exact(12, 2, 0x0800),
        Atom::exact(30, 4, u64::from(u32::from_be_bytes(STORE))),
        Atom::exact(36, 2, 11211),
    ])
    .unwrap();
    let others = Filter::new(&[
        Atom::exact(12, 2, 0x0800),
        Atom::exact(30, 4, u64::from(u32::from_be_bytes(STORE))),
        Atom::exact(34, 2, 5000),
    ])
    .unwrap();
    assert_eq!((same_bits.pinned(), others.pinned()), (64, 64));
    store.install_for(second, &same_bits, 1).expect("within");
    assert_eq!(received(&mut device), 0);
    store.install(&others, 2).expect("within");
    assert_eq!(received(&mut device), 0, "the older");
    store.install(&narrow(5000), 3).expect("within");
    assert_eq!(received(&mut device), 1, "the narrower");
    assert_eq!(store.install_for(second, &narrow(5000), 4), Err(Error::FilterConflict));
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
    // Before the device looks, the sender turns it into another sender's packet.
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

/// Under load the device always has one, so that no buffer came back.
#[test]
fn buffers_come_back_while_the_device_reads_others() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    let returned = |store: &App| store.page().tx_consumed.0.load(Relaxed);
    for round in 0..40 {
        // Two of which the device reads the rest, one that was copied; the last is not done yet.
        for length in [1400, 20, 1000] {
            store.send(&reply(&vec![1; length]));
        }
        assert_eq!(store.sync(), SyncCounts { taken: 3, refused: 0 });
        assert_eq!(returned(&store), 3 * round, "all that the device has finished");
        while device.next_sent().is_some() {}
        device.finish_up_to(1);
        store.sync();
        assert_eq!(returned(&store), 3 * round + 2, "the short one, too");
        device.finish();
        store.sync();
        assert_eq!(returned(&store), 3 * round + 3);
    }
    // Out of turn: none comes back before its time.
    (0..3).for_each(|_| store.send(&reply(&[1; 1400])));
    store.sync();
    while device.next_sent().is_some() {}
    for (of, wanted) in [(1, 120), (0, 122), (2, 123)] {
        device.finish_one(of);
        store.sync();
        assert_eq!(returned(&store), wanted);
    }
}

/// A buffer that is sent again while the device reads it would seem to be given back by the first
/// that is done, and could be freed under the device.
#[test]
fn no_buffer_is_with_the_device_twice() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    store.send(&reply(&[1; 1400]));
    assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 0 });
    // A liar goes once round its ring without waiting.
    (0..7).for_each(|_| store.send(&reply(b"short")));
    store.send(&reply(&[2; 1400]));
    assert_eq!(store.sync(), SyncCounts { taken: 7, refused: 0 });
    assert_eq!(call(kernel, store.env, "net_unbind", &[store.binding]), Err(Error::InUse));
    while device.next_sent().is_some() {}
    device.finish();
    assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 0 });
    assert_eq!(call(kernel, store.env, "net_unbind", &[store.binding]), Err(Error::InUse));
}

#[test]
fn lies_in_the_ring_page_hurt_only_the_liar() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let (liar, honest) = (App::new(kernel, root, 800), App::new(kernel, root, 600));
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
fn foreign_packets_cannot_be_claimed() {
    let (kernel, root) = machine();
    let (store, thief) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    assert_eq!(store.install(&packet::udp_to(STORE, 11211), 1), Err(Error::FilterConflict));
    let all_ip = Filter::new(&[Atom::exact(12, 2, 0x0800)]).unwrap();
    let shift = Step::Shift(Shift { offset: 14, mask: 0x0f, scale: 2 });
    let behind =
        Filter::of_steps(&[shift, Step::Atom(Atom::exact(16, 2, 11211))]).expect("consistent");
    for theft in [packet::udp_to(STORE, 11211), packet::arp_for(STORE), all_ip, behind] {
        assert_eq!(thief.install(&theft, 0), Err(Error::NoRight));
    }
    let own = u64::from(store.first) + 10;
    assert_eq!(call(kernel, thief.env, "filter_remove", &[thief.binding, own]), Err(Error::Vacant));
    assert_eq!(call(kernel, store.env, "filter_remove", &[store.binding, own]), Ok(0));
    assert_eq!(call(kernel, store.env, "filter_remove", &[store.binding, own]), Err(Error::Vacant));
    assert_eq!(thief.install(&packet::udp_to(STORE, 11211), 0), Err(Error::NoRight));
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
    assert_eq!(unscope(kernel, root, 670), Ok(0));
    // What is left is root's.
    assert_eq!(free_frames(kernel) + 6, before);
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
fn scopes_are_within_their_parent_and_apart() {
    let (kernel, root) = machine();
    let atom = |at, width, value| Filter::new(&[Atom::exact(at, width, value)]).unwrap();
    let [store, arp] = address_keys(STORE);
    let make = |net, keys: &[Filter], object| scope(kernel, root, net, keys, object);
    // No keys: what pins nothing, says more than it pins, or is cut off; and none at all.
    let key = Key::of(&store).expect("pins bits").encode();
    let mut stray = key;
    stray[KEY_WIRE / 2] ^= 1;
    for none in [&[0; KEY_WIRE][..], &stray, &key[1..], &[&key[..], &[0]].concat()] {
        let made = scope_of(kernel, root, NET, none, 1000);
        assert_eq!(made, Err((Error::BadFilter, 0)), "{none:?}");
    }
    assert_eq!(make(NET, &[], 1000), Err((Error::BadFilter, 0)));
    assert_eq!(make(NET, &[store, packet::udp_to(STORE, 1)], 1000), Err((Error::BadFilter, 0)));
    assert_eq!(make(NET, &[store, arp, atom(12, 2, 1)], 1000), Err((Error::TooMuch, 0)));
    assert_eq!(make(NET, &[atom(63, 1, 0)], 1000).map(|_| ()), Ok(()));
    assert_eq!(
        make(NET, &[store], 1002),
        Err((Error::FilterConflict, 1000)),
        "it says nothing of byte 63"
    );
    assert_eq!(unscope(kernel, root, 1000), Ok(0));
    let net = make(NET, &[store, arp], 1000).expect("alone");
    // Whatever shares a packet, more or less specific, is refused, and the scope is named.
    for taken in [store, arp, packet::udp_to(STORE, 1), atom(36, 2, 53), atom(12, 2, 0x0800)] {
        assert_eq!(make(NET, &[taken], 1002), Err((Error::FilterConflict, 1000)), "{taken:?}");
    }
    let other = make(NET, &address_keys(OTHER), 1002).expect("apart");
    // Within a scope, only what is within.
    for foreign in [packet::ipv4_all(OTHER), atom(12, 2, 0x0806), atom(36, 2, 53)] {
        assert_eq!(make(net, &[packet::udp_to(STORE, 1), foreign], 1004), Err((Error::NoRight, 0)));
    }
    let inner =
        make(net, &[packet::udp_to(STORE, 1), packet::icmp_to(STORE)], 1004).expect("within");
    let again = make(inner, &[packet::udp_to(STORE, 1)], 1006).expect("all of a key");
    assert_eq!(make(net, &[packet::udp_to(STORE, 1)], 1008), Err((Error::FilterConflict, 1004)));
    // Not for ever deeper.
    let mut deepest = again;
    for object in [1008, 1010, 1012, 1014] {
        deepest = make(deepest, &[packet::udp_to(STORE, 1)], object).expect("within");
    }
    assert_eq!(make(deepest, &[packet::udp_to(STORE, 1)], 1016), Err((Error::TooMuch, 0)));
    // All within a scope goes with it, and no other.
    let app = App::with_net(kernel, root, 600, deepest);
    app.install(&packet::udp_to(STORE, 1), 0).expect("within");
    assert_eq!(call(kernel, app.env, "net_unscope", &[1000]), Err(Error::NotOwned));
    assert_eq!(call(kernel, root, "net_unscope", &[1018]), Err(Error::NotOwned), "no scope");
    assert_eq!(call(kernel, root, "net_unscope", &[10]), Err(Error::NotOwned), "the kernel's");
    assert_eq!(call(kernel, root, "net_unscope", &[1000]), Err(Error::Again));
    assert_eq!(unscope(kernel, root, 1000), Ok(0));
    for object in [1000, 1004, 1006, 1008, 1014] {
        for frame in [object, object + 1] {
            assert_eq!(kernel.frames.kind(Pfn(frame)), Some(FrameKind::Memory));
        }
    }
    assert_eq!(kernel.frames.kind(Pfn(1002)), Some(FrameKind::Scope));
    assert_eq!(app.install(&packet::udp_to(STORE, 1), 0), Err(Error::NoRight));
    for stale in [net, inner, again, deepest] {
        assert_eq!(call(kernel, root, "cap_grant", &[stale, OWN]), Err(Error::BadHandle));
    }
    assert!(call(kernel, root, "cap_grant", &[other, OWN]).is_ok());
}

#[test]
fn the_scopes_of_an_environment_go_with_it() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let mut device = Device::default();
    let maker = App::new(kernel, root, 600);
    // It makes a scope for another, in its own frames, and goes.
    let at = 0x40_0000;
    maker.install(&packet::udp_to(STORE, 53), 0).expect("within");
    let mut wire = [0; KEY_WIRE];
    let length = encode_keys(&[packet::udp_to(STORE, 11211)], &mut wire).unwrap() as u64;
    // SAFETY: the page of texts in simulated memory.
    unsafe {
        memory::frame(Pfn(maker.first + 20)).copy_from_nonoverlapping(wire.as_ptr(), wire.len());
    }
    let object = u64::from(maker.first) + 40;
    let words = [OWN | 1, at, length, object, object + 1];
    let inner = call(kernel, maker.env, "net_scope", &words).expect("within");
    let (env, handle) = child(kernel, root, 800);
    call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 810, 48]).expect("free");
    let known = call(kernel, root, "cap_grant", &[handle, maker.handle]).expect("room");
    call(kernel, maker.env, "cap_grant", &[inner, known]).expect("room");
    let binding = call(kernel, env, "net_bind", &[OWN | 1, 810, 3, 819]).expect("a binding");
    let heir = App { kernel, env, root, handle, binding, first: 810, sent: 0 };
    heir.install(&packet::udp_to(STORE, 11211), 0).expect("within");
    device.receive(&request(b"get"));
    heir.sync();
    assert_eq!(heir.received().len(), 1);
    assert_eq!(destroy(kernel, root, maker.handle), Ok(()));
    device.receive(&request(b"get"));
    heir.sync();
    assert_eq!(heir.received().len(), 0);
    assert_eq!(kernel.frames.kind(Pfn(820)), Some(FrameKind::Memory), "its filter");
    assert_eq!(destroy(kernel, root, handle), Ok(()));
    assert_eq!(unscope(kernel, root, 670), Ok(0));
    for first in [670, 671, 1900, 1901, 1902, 1903] {
        assert!(kernel.frames.owner(Pfn(first)).is_some());
    }
    assert_eq!(free_frames(kernel) + 6, before);
}

/// Filters that each ask for other bits of a field make packets try them all.
fn odd(number: u64) -> Filter {
    let odd = Step::Atom(Atom::masked(0, 2, number + 1, 0));
    let steps: Vec<Step> = packet::udp_to(OTHER, 7).steps().chain([odd]).collect();
    Filter::of_steps(&steps).expect("consistent")
}

#[test]
fn work_on_odd_filters_is_bounded_and_is_its_owners() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let (store, neighbour) = (App::new(kernel, root, 600), App::new(kernel, root, 800));
    store.install(&packet::udp_to(STORE, 11211), 0).expect("within");
    // Its spare frames hold but a few; more come from root, as many as it likes.
    call(kernel, root, "frames_take", &[ALL_FRAMES, neighbour.handle, 1200, 64]).expect("free");
    call(kernel, root, "frames_take", &[ALL_FRAMES, neighbour.handle, 1264, 64]).expect("free");
    call(kernel, root, "frames_take", &[ALL_FRAMES, neighbour.handle, 1328, 64]).expect("free");
    let spare = |number: u64| 1200 + 40 * (number as u32 / 20) + number as u32 % 20 - 820;
    let mut installed = 0;
    let refused = (0..96).find_map(|number| {
        let answer = neighbour.install(&odd(number), spare(number)).err();
        installed += u32::from(answer.is_none());
        answer
    });
    assert_eq!((installed, refused), (FORKS + 1, Some(Error::TooMuch)));
    let more = spare(installed.into());
    assert_eq!(kernel.frames.kind(Pfn(neighbour.first + 10 + more)), Some(FrameKind::Memory));
    // The same shape, another value: nothing more to try.
    let same = Step::Atom(Atom::masked(0, 2, 1, 1));
    let steps: Vec<Step> = packet::udp_to(OTHER, 7).steps().chain([same]).collect();
    assert_eq!(neighbour.install(&Filter::of_steps(&steps).unwrap(), more), Ok(0));
    // A few of its packets are looked at, the rest are dropped; the store gets all of its own.
    let to_neighbour = udp((CLIENT, PEER, 1), ([0; 6], OTHER, 7), b"odd");
    for _ in 0..100 {
        device.receive(&to_neighbour);
    }
    for number in 0..4 {
        device.receive(&request(&[number]));
    }
    // What one entry has is spent after two of them.
    stint(8_000);
    store.sync();
    assert_eq!(kernel.info.received.load(Relaxed), 2);
    stint(BUDGET);
    (0..3).for_each(|_| _ = store.sync());
    assert_eq!(kernel.info.received.load(Relaxed), 104);
    assert_eq!(store.received().len(), 4);
    assert_eq!(neighbour.received().len(), 2);
    assert_eq!(kernel.info.overflowed.load(Relaxed), 98);
    // A while later it goes on.
    kernel.net.borrow_mut().set_time(1 << 20);
    device.receive(&to_neighbour);
    store.sync();
    assert_eq!(neighbour.received().len(), 1);
}

#[test]
fn frames_of_objects_come_back_clear() {
    let (kernel, root) = machine();
    let store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let filter = store.first + 10;
    call(kernel, store.env, "filter_remove", &[store.binding, filter.into()]).expect("installed");
    assert_eq!(unscope(kernel, root, 670), Ok(0));
    while call(kernel, store.env, "net_unbind", &[store.binding]) == Err(Error::Again) {}
    for frame in [670, filter, store.first + 9] {
        assert_eq!(kernel.frames.kind(Pfn(frame)), Some(FrameKind::Memory));
        // SAFETY: a frame of simulated memory.
        let bytes = unsafe { std::slice::from_raw_parts(memory::frame(Pfn(frame)), 4096) };
        assert!(bytes.iter().all(|byte| *byte == 0), "frame {frame}");
    }
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
        call(kernel, friend.env, "filter_install", &[lent, 0x40_0000, 40, object, object + 20]);
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
    let (mut flooder, mut store) = (App::new(kernel, root, 800), App::new(kernel, root, 600));
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

#[test]
fn slots_are_counted_for_the_authority_not_the_binding() {
    let (kernel, root) = machine();
    let mut flooder = App::new(kernel, root, 800);
    let mut store = App::new(kernel, root, 600);
    let flood = udp((STATION, OTHER, 7), (CLIENT, PEER, 5000), b"flood");
    let mut taken = 0;
    // Eight bindings, one after the other; and a narrower scope of its own would not help.
    for round in 0..8 {
        while taken < 64 * (round + 1) {
            flooder.send(&flood);
            let counts = flooder.sync();
            taken += counts.taken;
            if counts.taken == 0 {
                break;
            }
        }
        while call(kernel, flooder.env, "net_unbind", &[flooder.binding]) == Err(Error::Again) {}
        let (run, object) = (flooder.first.into(), u64::from(flooder.first) + 9);
        let again = call(kernel, flooder.env, "net_bind", &[OWN | 1, run, 3, object]);
        (flooder.binding, flooder.sent) = (again.expect("free again"), 0);
    }
    assert_eq!(taken, 64, "half of the slots");
    store.send(&reply(b"still there"));
    assert_eq!(store.sync(), SyncCounts { taken: 1, refused: 0 });
}

/// Sending and sleeping in one call, which sleeps only if nothing has come and all is sent.
#[test]
fn a_server_sends_and_sleeps_in_one_call() {
    let (kernel, root) = machine();
    let mut device = Device::default();
    let mut store = App::new(kernel, root, 600);
    store.install(&packet::udp_to(STORE, 11211), 0).expect("unclaimed");
    let waits = |store: &App, seen: u64| {
        crate::testing::reply(kernel, store.env, "net_wait", &[store.binding, seen, 0])
    };
    let seen = store.env.events.get();
    store.send(&reply(b"answer"));
    assert!(matches!(waits(&store, seen), Reply::Stop));
    assert_eq!(store.env.state(), EnvState::Waiting);
    assert_eq!(device.next_sent(), Some(reply(b"answer")));

    device.receive(&request(b"the next"));
    net::receive(kernel, &mut kernel.net.borrow_mut());
    assert_eq!(store.env.state(), EnvState::Ready);
    let events = store.env.events.get();
    assert_ne!(events, seen);
    assert!(matches!(waits(&store, seen), Reply::Done(Ok(count)) if count == events));
    device.receive(&request(b"comes while it is sent"));
    let woken = waits(&store, events);
    assert!(matches!(woken, Reply::Done(Ok(count)) if count == events + 1), "no sleep");

    // The device keeps what it is given, until no account may have more.
    let mut taken = 0;
    let events = events + 1;
    let left = loop {
        store.send(&reply(b"answer"));
        match waits(&store, events) {
            Reply::Refused(Error::Again, counts) => break SyncCounts::from_value(counts),
            Reply::Stop => taken += 1,
            _ => panic!("neither sleeps nor refuses"),
        }
        env::notify(kernel, store.env);
        store.env.events.set(events);
    };
    assert_eq!((taken, left.taken), (63, 0), "half of the slots, of which the first has one");
    assert_eq!(store.env.state(), EnvState::Ready, "what is left is sent soon");
    let handle = store.binding + 1;
    let stranger = crate::testing::reply(kernel, store.env, "net_wait", &[handle, events, 0]);
    assert!(matches!(stranger, Reply::Done(Err(Error::BadHandle))));
}
