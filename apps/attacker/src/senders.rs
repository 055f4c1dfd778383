//! Sending what another would send: forged addresses, ports and protocols.
//!
//! The attacker's scope is an address, so it may send anything from there. Attacks that forge
//! ports use a binding of a scope within that, which is one UDP port: it must not send as its
//! parent.
//!
//! Every forged frame bears a mark, so that a test that watches the wire recognises it.

use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, Pfn, Protection, RingOrder, SyncCounts, VirtAddr, Word};
use libos::sys;
use selftest::child::until_done;

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::claims::{STORE, STORE_PORT};
use crate::comparisons::narrowed;
use crate::nic::{MARK, Nic, PORT, seal};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "send from the store's address",
        run: |a| forge(a, |f| f[26..30].copy_from_slice(&STORE)),
    },
    Attack { name: "send from the store's address and port", run: |a| forge(a, as_store) },
    Attack {
        name: "send from the store's port",
        run: |a| within(a, |f| f[34..36].copy_from_slice(&STORE_PORT.to_be_bytes())),
    },
    Attack { name: "send as its parent, from another port", run: |a| within(a, |f| f[35] ^= 1) },
    Attack {
        name: "send from another network's address",
        run: |a| forge(a, |f| f[26..30].copy_from_slice(&[192, 0, 2, 1])),
    },
    Attack { name: "send from the broadcast address", run: |a| forge(a, |f| f[26..30].fill(0xff)) },
    Attack {
        name: "send from another station",
        run: |a| forge(a, |f| f[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1])),
    },
    Attack { name: "send TCP", run: |a| within(a, |f| f[23] = 6) },
    Attack { name: "send another IP protocol", run: |a| within(a, |f| f[23] = 47) },
    Attack { name: "send a first fragment", run: |a| within(a, |f| f[20] = 0x20) },
    Attack { name: "send a later fragment", run: |a| within(a, |f| f[21] = 1) },
    Attack { name: "send IP options", run: |a| within(a, |f| f[14] = 0x46) },
    Attack { name: "send IP version 6 in version 4", run: |a| within(a, |f| f[14] = 0x65) },
    Attack { name: "send IPv6", run: |a| forge(a, |f| f[12..14].copy_from_slice(&[0x86, 0xdd])) },
    Attack {
        name: "send with a VLAN tag",
        run: |a| forge(a, |f| f[12..14].copy_from_slice(&[0x81, 0])),
    },
    Attack {
        name: "send another Ethernet protocol",
        run: |a| forge(a, |f| f[12..14].copy_from_slice(&[0x88, 0xb5])),
    },
    Attack { name: "send every Ethernet protocol", run: every_ethertype },
    Attack { name: "say that the store is here", run: |a| arp(a, STORE, |_| ()) },
    Attack { name: "say that the router is here", run: |a| arp(a, [10, 0, 2, 2], |_| ()) },
    Attack {
        name: "say that it is at another station",
        run: |a| arp(a, [10, 0, 2, 17], |f| f[22] ^= 2),
    },
    Attack { name: "ask in the store's name", run: |a| arp(a, STORE, |f| f[21] = 1) },
    Attack { name: "answer ping in the store's name", run: ping_as_store },
    Attack { name: "send a long frame forged behind the copied part", run: long_frame },
    Attack { name: "change a frame after committing it", run: changed_after_commit },
    Attack { name: "send on a child's handle", run: foreign_binding },
    Attack { name: "speak for a scope that was taken away", run: removed_scope },
];

const REFUSED: SyncCounts = SyncCounts { taken: 1, refused: 1 };

fn verdict(counts: SyncCounts) -> Verdict {
    Verdict::harmless(
        counts == REFUSED,
        alloc::format!("{} of {} refused", counts.refused, counts.taken),
    )
}

fn nic(attacker: &mut Attacker) -> Result<&mut Nic, Error> {
    attacker.nic.as_mut().ok_or(Error::NoDevice)
}

fn mark(frame: &mut [u8]) {
    if let Some(place) = frame.last_chunk_mut::<12>() {
        *place = *MARK;
    }
}

/// Sends the attacker's own datagram with a change. The unchanged one must go out
/// first: a binding that sends nothing refuses everything.
fn forge(attacker: &mut Attacker, change: fn(&mut [u8; 60])) -> Attempt {
    let nic = nic(attacker)?;
    if !nic.works()? {
        return Ok(Verdict::breach("no to a legal frame: nothing was tested"));
    }
    let mut frame = nic.datagram();
    change(&mut frame);
    mark(&mut frame);
    Ok(verdict(nic.send(&frame)?))
}

fn as_store(frame: &mut [u8; 60]) {
    frame[26..30].copy_from_slice(&STORE);
    frame[34..36].copy_from_slice(&STORE_PORT.to_be_bytes());
}

fn every_ethertype(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let mut frame = nic.datagram();
    mark(&mut frame);
    let mut tried = 0;
    for number in 0..=u16::MAX {
        if number == 0x0800 {
            continue;
        }
        frame[12..14].copy_from_slice(&number.to_be_bytes());
        let counts = nic.send(&frame)?;
        if counts != REFUSED {
            return Ok(Verdict::breach(alloc::format!("yes to {number:#x}")));
        }
        tried += 1;
    }
    Ok(Verdict::repelled(alloc::format!("refused, {tried} times")))
}

fn arp(attacker: &mut Attacker, address: [u8; 4], change: fn(&mut [u8; 60])) -> Attempt {
    let nic = nic(attacker)?;
    let own = nic.arp_reply(nic.address);
    if nic.send(&own)? != (SyncCounts { taken: 1, refused: 0 }) {
        return Ok(Verdict::breach("no to its own ARP: nothing was tested"));
    }
    let mut frame = nic.arp_reply(address);
    change(&mut frame);
    mark(&mut frame);
    Ok(verdict(nic.send(&frame)?))
}

fn ping_as_store(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let mut frame = nic.datagram();
    frame[23] = 1;
    frame[34..38].fill(0);
    seal(&mut frame);
    if nic.send(&frame)? != (SyncCounts { taken: 1, refused: 0 }) {
        return Ok(Verdict::breach("no to its own ping: nothing was tested"));
    }
    frame[26..30].copy_from_slice(&STORE);
    mark(&mut frame);
    Ok(verdict(nic.send(&frame)?))
}

/// Only the head of a long frame is copied before it is checked. What decides is in
/// it, so a second header behind it must not help.
fn long_frame(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let mut frame = [0_u8; 1514];
    frame[..60].copy_from_slice(&nic.datagram());
    frame[16..18].copy_from_slice(&1500_u16.to_be_bytes());
    as_store_in(&mut frame);
    let mut head = [0; 60];
    head.copy_from_slice(&frame[..60]);
    frame[128..188].copy_from_slice(&head);
    mark(&mut frame);
    let counts = nic.send(&frame)?;
    nic.resync()?;
    Ok(verdict(counts))
}

fn as_store_in(frame: &mut [u8]) {
    if let Some(head) = frame.first_chunk_mut::<60>() {
        as_store(head);
    }
}

/// What counts is what is there when the kernel takes it.
fn changed_after_commit(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let own = nic.datagram();
    nic.write(&own);
    let mut forged = own;
    as_store(&mut forged);
    mark(&mut forged);
    let before = nic.page().tx_produced.0.load(core::sync::atomic::Ordering::Relaxed);
    nic.commit(60);
    // The same slot again: commit moved on, the buffer is the previous one.
    nic.rewrite(before, &forged);
    let counts = nic.sync()?;
    Ok(verdict(counts))
}

fn foreign_binding(attacker: &mut Attacker) -> Attempt {
    let known: alloc::vec::Vec<_> = attacker.handles().collect();
    let guesses = (0..512_u32)
        .flat_map(|index| (1..4).map(move |life| exo_abi::Handle::new(index, life)))
        .filter(|handle| !known.contains(handle));
    Ok(Verdict::every(guesses.map(libos::sys::net_sync), &[Error::BadHandle]))
}

/// A binding of a scope of one port, within the attacker's.
struct Port {
    nic: Nic,
    scope: Pfn,
    net: Handle,
    object: Pfn,
}

/// Where its run is mapped.
const RUN: u64 = 0x4800_0000;
/// Its port: that of [`Nic::datagram`].
const ORDER: RingOrder = RingOrder::new(4).expect("1 to 8");

impl Port {
    fn new(attacker: &Attacker) -> Result<Self, Error> {
        let frames = attacker.frames;
        let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
        let scope = frames.take(SELF, 2)?;
        let net = narrowed(nic.net, &[nic.harmless_filter(PORT)], scope)?;
        let run = frames.take(SELF, ORDER.frames())?;
        let at = VirtAddr::new(RUN).ok_or(Error::BadAddress)?;
        frames.map((SELF, SELF), run, at, ORDER.frames(), Protection::ReadWrite)?;
        let object = frames.take(SELF, 1)?;
        let binding = Handle::from_word(sys::net_bind(net, run, ORDER, object)?)?;
        Ok(Self { nic: Nic::borrowed(nic, binding, run, ORDER, RUN), scope, net, object })
    }

    /// Gives everything back; the scope may be gone already.
    fn close(self, attacker: &Attacker) -> Result<(), Error> {
        let frames = attacker.frames;
        until_done(|| sys::net_unbind(self.nic.binding))?;
        sys::cap_drop(self.nic.binding)?;
        let at = VirtAddr::new(RUN).ok_or(Error::BadAddress)?;
        sys::unmap(SELF, at, ORDER.frames())?;
        frames.give(self.nic.run, ORDER.frames())?;
        frames.give(self.object, 1)?;
        match until_done(|| sys::net_unscope(self.scope)) {
            Ok(_) | Err(Error::NotOwned) => {}
            Err(error) => return Err(error),
        }
        frames.give(self.scope, 2)?;
        sys::cap_drop(self.net).map(|_| ())
    }
}

/// As [`forge`], by a binding of one port.
fn within(attacker: &mut Attacker, change: fn(&mut [u8; 60])) -> Attempt {
    let mut port = Port::new(attacker)?;
    let mut frame = port.nic.datagram();
    let own = port.nic.send(&frame)?;
    change(&mut frame);
    mark(&mut frame);
    let counts = port.nic.send(&frame)?;
    port.close(attacker)?;
    if own != (SyncCounts { taken: 1, refused: 0 }) {
        return Ok(Verdict::breach("no to a legal frame: nothing was tested"));
    }
    Ok(verdict(counts))
}

fn removed_scope(attacker: &mut Attacker) -> Attempt {
    let mut port = Port::new(attacker)?;
    let mut frame = port.nic.datagram();
    let with = port.nic.send(&frame)?;
    until_done(|| sys::net_unscope(port.scope))?;
    mark(&mut frame);
    let without = port.nic.send(&frame)?;
    port.close(attacker)?;
    if with != (SyncCounts { taken: 1, refused: 0 }) {
        return Ok(Verdict::breach("no to a legal frame: nothing was tested"));
    }
    let nothing = without == SyncCounts { taken: 0, refused: 0 };
    Ok(Verdict::harmless(nothing, alloc::format!("{} taken", without.taken)))
}
