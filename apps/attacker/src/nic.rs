//! A binding handled without any of the library's care.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use dpf::packet::{arp_for, icmp_to, udp_to};
use dpf::{Atom, Filter, MAX_WIRE, Step};
use exo_abi::boot::SELF;
use exo_abi::{
    BUFFER_BYTES, Error, Handle, Pfn, Protection, RingOrder, RingPage, SyncCounts, UserPtr,
    VirtAddr, Word,
};
use libos::sys;

use crate::attack::Attacker;

/// Where the run is mapped: in the window for networks, of which the attacker makes
/// no other use.
const RUN: u64 = 0x4000_0000;
/// The port that the attacker has claimed.
pub(crate) const PORT: u16 = 4242;
/// In every forged packet, so that it is recognised on the wire.
pub(crate) const MARK: &[u8; 12] = b"FORGED FRAME";

/// The attacker's network.
pub(crate) struct Nic {
    pub(crate) net: Handle,
    pub(crate) binding: Handle,
    pub(crate) run: Pfn,
    pub(crate) order: RingOrder,
    pub(crate) address: [u8; 4],
    pub(crate) gateway: [u8; 4],
    pub(crate) mac: [u8; 6],
    at: u64,
    next: u32,
}

impl Nic {
    /// Binds, and claims the attacker's own address, if it has one.
    pub(crate) fn new(attacker: &Attacker) -> Result<Option<Self>, Error> {
        let Some(net) = attacker.environment.start.net else { return Ok(None) };
        let Some(config) = attacker.environment.net_config() else { return Ok(None) };
        let order = RingOrder::new(4).ok_or(Error::BadArgument)?;
        let run = attacker.frames.take(SELF, order.frames())?;
        let at = VirtAddr::new(RUN).ok_or(Error::BadAddress)?;
        attacker.frames.map((SELF, SELF), run, at, order.frames(), Protection::ReadWrite)?;
        let object = attacker.frames.take(SELF, 1)?;
        let binding = Handle::from_word(sys::net_bind(net, run, order, object)?)?;
        let nic = Self {
            net,
            binding,
            run,
            order,
            address: config.address,
            gateway: config.gateway,
            mac: config.mac,
            at: RUN,
            next: 0,
        };
        for filter in [arp_for(nic.address), icmp_to(nic.address), udp_to(nic.address, PORT)] {
            nic.install(&filter, attacker.frames.take(SELF, 2)?)?;
        }
        Ok(Some(nic))
    }

    /// Another binding of the same environment; its run is mapped at `at`.
    pub(crate) fn borrowed(
        nic: &Self,
        binding: Handle,
        run: Pfn,
        order: RingOrder,
        at: u64,
    ) -> Self {
        Self { binding, run, order, at, next: 0, ..*nic }
    }

    /// Installs a filter in the frame `object` and the one after it.
    pub(crate) fn install(&self, filter: &Filter, object: Pfn) -> Result<u64, Error> {
        let mut wire = [0; MAX_WIRE];
        let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
        self.install_bytes(wire.get(..length).unwrap_or_default(), object)
    }

    /// Installs what claims to be a filter.
    pub(crate) fn install_bytes(&self, wire: &[u8], object: Pfn) -> Result<u64, Error> {
        let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
        sys::filter_install(self.binding, at, wire.len() as u64, object, object.plus(1))
    }

    /// A filter for the attacker's own address that harms no environment.
    pub(crate) fn harmless_filter(&self, port: u16) -> Filter {
        udp_to(self.address, port)
    }

    /// Another one, that shares no first test with any of another port: it masks the sender's
    /// station in its own way.
    pub(crate) fn odd_filter(&self, port: u16) -> Filter {
        let mask = Step::Atom(Atom::masked(7, 2, u64::from(port), 0));
        let steps: Vec<_> = self.harmless_filter(port).steps().chain([mask]).collect();
        Filter::of_steps(&steps).unwrap_or(self.harmless_filter(port))
    }

    /// The ring page.
    pub(crate) fn page(&self) -> &'static RingPage {
        // SAFETY: the maker of this value mapped it, for as long as it is used; all of it is
        // atomics.
        unsafe { &*core::ptr::with_exposed_provenance(self.at as usize) }
    }

    /// Writes a frame into the next transmit buffer, as far as there is room.
    pub(crate) fn write(&mut self, frame: &[u8]) {
        self.rewrite(self.next, frame);
    }

    /// Writes a frame into the transmit buffer of the index `index`.
    pub(crate) fn rewrite(&mut self, index: u32, frame: &[u8]) {
        let slot = index & (self.order.slots() - 1);
        let at = self.at as usize + self.order.tx_offset(slot);
        let target = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: a transmit buffer of the run, mapped read and write, at least this
        // long. The kernel may still read it; what it makes of that is the question.
        unsafe { target.copy_from(frame.as_ptr(), frame.len().min(BUFFER_BYTES)) };
    }

    /// Commits what was written as a frame of `length` bytes.
    pub(crate) fn commit(&mut self, length: u16) {
        let slot = self.next & (self.order.slots() - 1);
        if let Some(field) = self.page().tx_length.get(slot as usize) {
            field.store(length, Relaxed);
        }
        self.next = self.next.wrapping_add(1);
        self.page().tx_produced.0.store(self.next, Release);
    }

    /// Commits every buffer as it is.
    pub(crate) fn commit_ring(&mut self) {
        self.next = self.page().tx_consumed.0.load(Acquire).wrapping_add(self.order.slots());
        self.page().tx_produced.0.store(self.next, Release);
    }

    /// Crosses.
    pub(crate) fn sync(&self) -> Result<SyncCounts, Error> {
        sys::net_sync(self.binding).map(SyncCounts::from_value)
    }

    /// Writes, commits, crosses.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<SyncCounts, Error> {
        self.write(frame);
        self.commit(frame.len() as u16);
        self.sync()
    }

    /// The next frame that has arrived, and no longer waits then.
    pub(crate) fn next(&self) -> Option<Vec<u8>> {
        let page = self.page();
        let next = page.rx_consumed.0.load(Relaxed);
        if next == page.rx_produced.0.load(Acquire) {
            return None;
        }
        let slot = next & (self.order.slots() - 1);
        let length = page.rx_length.get(slot as usize).map_or(0, |length| length.load(Relaxed));
        let at = self.at as usize + self.order.rx_offset(slot);
        let start = core::ptr::with_exposed_provenance::<u8>(at);
        // SAFETY: a receive buffer of the run, mapped, at least this long; it is delivered
        // and not consumed, so the kernel does not write to it.
        let frame =
            unsafe { core::slice::from_raw_parts(start, usize::from(length).min(BUFFER_BYTES)) }
                .to_vec();
        page.rx_consumed.0.store(next.wrapping_add(1), Release);
        Some(frame)
    }

    /// Throws away what has arrived.
    pub(crate) fn drain(&self) {
        self.page().rx_consumed.0.store(self.page().rx_produced.0.load(Acquire), Release);
    }

    /// Goes on where the kernel thinks the ring is, after lies.
    pub(crate) fn resync(&mut self) -> Result<(), Error> {
        const LIE: u32 = 0x5555_5555;
        let page = self.page();
        // Frames without a length are refused and counted, and the kernel shows how far it
        // and the device are. If that is all it takes, more often than there are slots, the
        // device has nothing left of this binding's.
        page.tx_length.iter().for_each(|length| length.store(0, Relaxed));
        page.tx_consumed.0.store(LIE, Release);
        let mut steady = 0;
        while steady < 2 * self.order.slots() {
            let before = page.tx_consumed.0.load(Acquire);
            page.tx_produced.0.store(before.wrapping_add(1), Release);
            let taken = self.sync()?.taken;
            let all = before.wrapping_add(taken) == page.tx_consumed.0.load(Acquire);
            steady = if all && taken == 1 { steady + 1 } else { 0 };
        }
        self.next = page.tx_consumed.0.load(Acquire);
        page.tx_produced.0.store(self.next, Release);
        self.page().rx_consumed.0.store(self.page().rx_produced.0.load(Acquire), Release);
        Ok(())
    }

    /// Whether a frame the attacker may send still goes out.
    pub(crate) fn works(&mut self) -> Result<bool, Error> {
        let own = self.datagram();
        Ok(self.send(&own)? == SyncCounts { taken: 1, refused: 0 })
    }

    /// A datagram the attacker may send: from its own address and port to the
    /// router's discard port.
    pub(crate) fn datagram(&self) -> [u8; 60] {
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&[0x52, 0x55, 10, 0, 2, 2]);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
        frame[26..30].copy_from_slice(&self.address);
        frame[30..34].copy_from_slice(&self.gateway);
        frame[34..36].copy_from_slice(&PORT.to_be_bytes());
        frame[36..40].copy_from_slice(&[0, 9, 0, 26]);
        frame[42..47].copy_from_slice(b"legal");
        seal(&mut frame);
        frame
    }

    /// An ARP reply that says where `address` is.
    pub(crate) fn arp_reply(&self, address: [u8; 4]) -> [u8; 60] {
        let mut frame = [0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame[22..28].copy_from_slice(&self.mac);
        frame[28..32].copy_from_slice(&address);
        frame[32..38].fill(0xff);
        frame[38..42].copy_from_slice(&self.gateway);
        frame
    }
}

/// Writes the checksums of an IPv4 header and of an ICMP message behind it, so that a test
/// that watches the wire finds nothing wrong with legal packets.
pub(crate) fn seal(frame: &mut [u8]) {
    const ICMP: u8 = 1;
    put_checksum(frame, 14..34, 24);
    let total = u16::from_be_bytes([frame[16], frame[17]]);
    if frame[23] == ICMP {
        put_checksum(frame, 34..14 + usize::from(total), 36);
    }
}

fn put_checksum(frame: &mut [u8], range: core::ops::Range<usize>, at: usize) {
    frame[at..at + 2].fill(0);
    let words = frame[range].chunks(2);
    let words =
        words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[at..at + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
}
