//! The network's calls, with filters and scopes that are as much work as they may be: as many
//! ways as there may be beside each other, each as deep as it can get.
//!
//! What a packet costs that arrives for an environment that sleeps is not measured by a call:
//! the kernel looks for packets at the end of a slice. So the time-stamp counter is read over and
//! over while the test at the other end of the wire sends, and the longest gap counts, `receive`.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Relaxed, Release};

use dpf::packet::{ipv4_all, udp_to};
use dpf::{Atom, Filter, MAX_WIRE, Step, encode_keys};
use exo_abi::boot::SELF;
use exo_abi::{
    BATCH_MAX, BUFFER_BYTES, Error, EventCount, FRAME_BYTES, Handle, Pages, Pfn, Protection,
    RingOrder, RingPage, VirtAddr, Word,
};
use libos::println;
use libos::runtime::Environment;
use libos::sys;
use libos::time::timestamp;
use selftest::child::{Maker, until_done};

use super::{Words, batch_of, longest, raw, tell, timed};

/// Where the run of rings is mapped.
const RUN: u64 = 0x30_0000_0000;
const ORDER: RingOrder = RingOrder::new(8).expect("1 to 8");
/// Ways that the kernel lets a packet try at most.
const WAYS: u16 = 64;
/// Ports of the two bindings that packets come to by turns. No filter of the first is odd; all
/// of the second are beside odd ones.
const PORTS: [u16; 2] = [4001, 4002];
/// Scopes of one shape, with two keys each: more than there may be beside the others.
const SCOPES: u16 = 40;
/// Packets that are waited for, and for how long, in ticks.
const PACKETS: u64 = 2_000;
const PATIENCE: u64 = 20_000_000_000;

/// An encoded filter, or list of keys, that a call is shown.
struct Text {
    bytes: [u8; MAX_WIRE],
    length: u64,
}

impl Text {
    fn of(filter: &Filter) -> Result<Self, Error> {
        let mut bytes = [0; MAX_WIRE];
        let length = filter.encode(&mut bytes).ok_or(Error::TooMuch)?;
        Ok(Self { bytes, length: length as u64 })
    }

    fn of_keys(keys: &[Filter]) -> Result<Self, Error> {
        let mut bytes = [0; MAX_WIRE];
        let length = encode_keys(keys, &mut bytes).ok_or(Error::BadFilter)?;
        Ok(Self { bytes, length: length as u64 })
    }

    fn at(&self) -> u64 {
        self.bytes.as_ptr().expose_provenance() as u64
    }
}

fn filter(start: &Filter, more: &[Atom]) -> Result<Filter, Error> {
    let steps: Vec<Step> = start.steps().chain(more.iter().map(|atom| Step::Atom(*atom))).collect();
    Filter::of_steps(&steps).map_err(|_| Error::BadFilter)
}

/// Everything to the own address with first tests that no other `number` has, and then as
/// many bytes at places of their own as there may be; the last one tells `last` apart.
fn odd(address: [u8; 4], number: u16, last: u8) -> Result<Filter, Error> {
    let mut more = Vec::new();
    more.push(Atom::masked(0, 2, u64::from(number) + 1, 0));
    more.extend((0..8).map(|place| Atom::exact(42 + 9 * place, 1, 0)));
    more.push(Atom::exact(42 + 9 * 8, 1, last.into()));
    filter(&ipv4_all(address), &more[..])
}

/// A key of the own address, for `port`, that has bits in each window.
fn key(address: [u8; 4], port: u16, mask: u16) -> Result<Filter, Error> {
    let at = |place| Atom::exact(place, 1, 0);
    let odd = Atom::masked(0, 2, mask.into(), 0);
    filter(&udp_to(address, port), &[odd, at(6), at(46), at(55)])
}

/// A binding over the run, in `object`.
fn bind(net: Handle, run: Pfn, object: Pfn) -> Result<Handle, Error> {
    Handle::from_word(sys::net_bind(net, run, ORDER, object)?)
}

fn unbind(binding: Handle) -> Result<(), Error> {
    until_done(|| sys::net_unbind(binding))?;
    sys::cap_drop(binding).map(drop)
}

fn page() -> &'static RingPage {
    // SAFETY: `measure` maps the run there, and it stays; all of it is atomics.
    unsafe { &*core::ptr::with_exposed_provenance(RUN as usize) }
}

/// Puts packets of `length` bytes that begin with `head` into all transmit buffers.
fn fill_ring(head: &[u8], length: u16) {
    for slot in 0..ORDER.slots() {
        let at = RUN as usize + ORDER.tx_offset(slot);
        let buffer = core::ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: a transmit buffer of the mapped run; a head is shorter.
        unsafe { buffer.copy_from(head.as_ptr(), head.len().min(BUFFER_BYTES)) };
    }
    page().tx_length.iter().for_each(|field| field.store(length, Relaxed));
}

/// A datagram from the own address to the router.
fn datagram(environment: &Environment) -> Option<[u8; 42]> {
    let config = environment.net_config()?;
    let mut packet = [0; 42];
    packet[..6].copy_from_slice(&[0x52, 0x55, 10, 0, 2, 2]);
    packet[6..12].copy_from_slice(&config.mac);
    packet[12..24].copy_from_slice(&[8, 0, 0x45, 0, 1, 0xe0, 0, 0, 0, 0, 64, 17]);
    packet[26..30].copy_from_slice(&config.address);
    packet[30..34].copy_from_slice(&config.gateway);
    Some(packet)
}

/// All of it, if there is a network.
pub(super) fn measure(environment: &Environment, maker: &Maker) -> Result<(), Error> {
    let (Some(net), Some(address)) = (environment.start.net, environment.start.address) else {
        return Ok(());
    };
    let frames = maker.frames;
    let run = frames.take(SELF, ORDER.frames())?;
    let at = VirtAddr::new(RUN).ok_or(Error::BadAddress)?;
    frames.map((SELF, SELF), run, at, ORDER.frames(), Protection::ReadWrite)?;
    let world = World { net, address, run, maker };
    world.bindings()?;
    world.filters()?;
    world.scopes()?;
    world.transmit(&datagram(environment).ok_or(Error::NoDevice)?)?;
    world.receive(environment)?;
    sys::unmap(SELF, at, 64)?;
    Ok(())
}

struct World<'a> {
    net: Handle,
    address: [u8; 4],
    run: Pfn,
    maker: &'a Maker,
}

impl World<'_> {
    fn take(&self, count: Pages) -> Result<Pfn, Error> {
        self.maker.frames.take(SELF, count)
    }

    fn give(&self, first: Pfn, count: Pages) -> Result<(), Error> {
        self.maker.frames.give(first, count)
    }

    /// Thirty-two bindings over the same run.
    fn many(&self, objects: Pfn) -> Result<Vec<Handle>, Error> {
        (0..BATCH_MAX).map(|number| bind(self.net, self.run, objects.plus(number))).collect()
    }

    fn bindings(&self) -> Result<(), Error> {
        let objects = self.take(BATCH_MAX)?;
        let order = ORDER.into_word();
        let words = |number: Pages| {
            let (net, run) = (self.net.into_word(), self.run.into_word());
            [net, run, order, objects.plus(number).into_word(), 0, 0]
        };
        let (instructions, bound) = timed(|| raw("net_bind", words(0)));
        tell("net_bind", instructions);
        let bound = Handle::from_word(bound?)?;
        tell("net_unbind", longest(|| sys::net_unbind(bound))?);
        sys::cap_drop(bound)?;
        let rows: Vec<Words> = (0..BATCH_MAX).map(words).collect();
        let (instructions, made) = batch_of("net_bind", &rows)?;
        tell("batch of net_bind", instructions);
        for bound in made.into_iter().flatten() {
            Handle::from_word(bound).and_then(unbind)?;
        }
        let bound = self.many(objects)?;
        let rows: Vec<Words> =
            bound.iter().map(|bound| [bound.into_word(), 0, 0, 0, 0, 0]).collect();
        tell("batch of net_unbind", batch_of("net_unbind", &rows)?.0);
        for bound in bound {
            match unbind(bound) {
                Err(Error::BadHandle) => sys::cap_drop(bound).map(drop)?,
                result => result?,
            }
        }
        self.give(objects, BATCH_MAX)
    }

    /// Installs, beside as many odd ones as there may be.
    fn filters(&self) -> Result<(), Error> {
        let object = self.take(1)?;
        let binding = bind(self.net, self.run, object)?;
        let places = self.take(2 * (u32::from(WAYS) + 1))?;
        for number in 0..=WAYS {
            let text = Text::of(&odd(self.address, number, 0)?)?;
            let place = places.plus(2 * u32::from(number)).into_word();
            raw(
                "filter_install",
                [binding.into_word(), text.at(), text.length, place, place + 1, 0],
            )?;
        }
        // All of them go the longest way that there is, and part at its end. The one that came
        // first has what they share.
        let texts: Vec<Text> = (1..=BATCH_MAX as u8)
            .map(|last| Text::of(&odd(self.address, 0, last)?))
            .collect::<Result<_, _>>()?;
        let more = self.take(2 * BATCH_MAX)?;
        let install = |number: u32| {
            let place = more.plus(2 * number).into_word();
            let text = &texts[number as usize];
            [binding.into_word(), text.at(), text.length, place, place + 1, 0]
        };
        let remove = |place: Pfn| [binding.into_word(), place.into_word(), 0, 0, 0, 0];
        let mut most = 0;
        let mut removed = 0;
        for _ in 0..3 {
            let (instructions, made) = timed(|| raw("filter_install", install(0)));
            made?;
            most = most.max(instructions);
            // All of the second goes along its path.
            let (instructions, gone) = timed(|| raw("filter_remove", remove(places)));
            gone?;
            removed = removed.max(instructions);
            let text = Text::of(&odd(self.address, 0, 0)?)?;
            let place = places.into_word();
            raw(
                "filter_install",
                [binding.into_word(), text.at(), text.length, place, place + 1, 0],
            )?;
            let (instructions, gone) = timed(|| raw("filter_remove", remove(more)));
            gone?;
            removed = removed.max(instructions);
        }
        // One that has a way of its own, and one too many.
        let last = places.plus(2 * u32::from(WAYS));
        let (instructions, gone) = timed(|| raw("filter_remove", remove(last)));
        gone?;
        removed = removed.max(instructions);
        let text = Text::of(&odd(self.address, WAYS, 0)?)?;
        let words = [
            binding.into_word(),
            text.at(),
            text.length,
            last.into_word(),
            last.into_word() + 1,
            0,
        ];
        let (instructions, made) = timed(|| raw("filter_install", words));
        made?;
        most = most.max(instructions);
        let text = Text::of(&odd(self.address, WAYS + 1, 0)?)?;
        let (instructions, refused) = timed(|| {
            let place = more.into_word();
            raw(
                "filter_install",
                [binding.into_word(), text.at(), text.length, place, place + 1, 0],
            )
        });
        most = most.max(instructions);
        if refused != Err(Error::TooMuch) {
            return Err(Error::WrongState);
        }
        tell("filter_install", most);
        tell("filter_remove", removed);
        let rows: Vec<Words> = (0..BATCH_MAX).map(install).collect();
        tell("batch of filter_install", batch_of("filter_install", &rows)?.0);
        for number in 0..BATCH_MAX {
            let _ = raw("filter_install", install(number));
        }
        let rows: Vec<Words> = (0..BATCH_MAX).map(|number| remove(more.plus(2 * number))).collect();
        tell("batch of filter_remove", batch_of("filter_remove", &rows)?.0);
        let most = longest(|| sys::net_unbind(binding))?;
        tell("net_unbind with filters", most);
        sys::cap_drop(binding)?;
        self.give(more, 2 * BATCH_MAX)?;
        self.give(places, 2 * (u32::from(WAYS) + 1))?;
        self.give(object, 1)
    }

    /// Scopes, beside as many as there may be.
    fn scopes(&self) -> Result<(), Error> {
        let address = self.address;
        let places = self.take(2 * u32::from(SCOPES + WAYS))?;
        let make = |keys: &[Filter], place: Pfn| {
            let text = Text::of_keys(keys)?;
            let place = place.into_word();
            raw("net_scope", [self.net.into_word(), text.at(), text.length, place, place + 1, 0])
        };
        let mut made = 0;
        // Those of a shape of their own, and those of one shape.
        for number in 0..SCOPES + WAYS {
            let mask = if number <= WAYS { number + 1 } else { 1 };
            let keys = [key(address, 2 * number, mask)?, key(address, 2 * number + 1, mask)?];
            let keys = if number <= WAYS { &keys[..1] } else { &keys[..] };
            match make(keys, places.plus(2 * u32::from(number))) {
                Ok(handle) => sys::cap_drop(Handle::from_word(handle)?)?,
                Err(Error::TooMuch) => break,
                Err(error) => return Err(error),
            };
            made = u32::from(number) + 1;
        }
        println!("longest: {made} scopes");
        // The last is made over and over: the first of its keys has a way of its own.
        let again = places.plus(2 * (made - 1));
        until_done(|| sys::net_unscope(again))?;
        let last = [key(address, 5_000, 1)?, key(address, 5_001, 1)?];
        let mut most = 0;
        let (instructions, handle) = timed(|| make(&last, again));
        sys::cap_drop(Handle::from_word(handle?)?)?;
        most = most.max(instructions);
        let texts: Vec<Text> = (0..BATCH_MAX as u16)
            .map(|number| {
                let keys = [key(address, 6_000 + number, 1)?, key(address, 7_000 + number, 500)?];
                Text::of_keys(&keys)
            })
            .collect::<Result<_, _>>()?;
        until_done(|| sys::net_unscope(again))?;
        let rows: Vec<Words> = texts
            .iter()
            .map(|text| {
                [
                    self.net.into_word(),
                    text.at(),
                    text.length,
                    again.into_word(),
                    again.into_word() + 1,
                    0,
                ]
            })
            .collect();
        // Each is refused for its second key.
        let (instructions, refused) = timed(|| raw("net_scope", rows[0]));
        tell("net_scope", most.max(instructions));
        if refused != Err(Error::TooMuch) {
            return Err(Error::WrongState);
        }
        tell("batch of net_scope", batch_of("net_scope", &rows)?.0);
        let gone: Vec<Words> = (0..BATCH_MAX)
            .map(|number| [places.plus(2 * number).into_word(), 0, 0, 0, 0, 0])
            .collect();
        tell(
            "net_unscope",
            longest(|| raw("net_unscope", [places.plus(64).into_word(), 0, 0, 0, 0, 0]))?,
        );
        tell("batch of net_unscope", batch_of("net_unscope", &gone)?.0);
        for number in 0..made {
            let _ = until_done(|| sys::net_unscope(places.plus(2 * number)));
        }
        self.give(places, 2 * u32::from(SCOPES + WAYS))
    }

    fn transmit(&self, head: &[u8; 42]) -> Result<(), Error> {
        let objects = self.take(BATCH_MAX)?;
        let mut forged = *head;
        forged[29] ^= 1;
        let mut most = [0; 3];
        for (head, length) in [(head, 500), (head, 1514), (&forged, 500), (&forged, 1514)] {
            let bound = self.many(objects)?;
            fill_ring(head, length);
            // All of them see a full ring.
            page().tx_produced.0.store(ORDER.slots(), Release);
            let [first, second, rest @ ..] = &bound[..] else { return Err(Error::OutOfRange) };
            most[0] = most[0].max(timed(|| sys::net_sync(*first)).0);
            // It never sleeps: so many events there cannot be.
            let seen = EventCount(u64::MAX);
            most[2] = most[2].max(timed(|| sys::net_wait(*second, seen, 0)).0);
            let mut rows: Vec<Words> =
                rest.iter().map(|bound| [bound.into_word(), 0, 0, 0, 0, 0]).collect();
            rows.extend([rows[0]; 2]);
            most[1] = most[1].max(batch_of("net_sync", &rows)?.0);
            for bound in bound {
                // The device may still read what was sent.
                while unbind(bound) == Err(Error::InUse) {}
            }
        }
        tell("net_sync", most[0]);
        tell("net_wait", most[2]);
        tell("batch of net_sync", most[1]);
        self.give(objects, BATCH_MAX)
    }

    /// Two bindings, to which the test sends by turns.
    fn receive(&self, environment: &Environment) -> Result<(), Error> {
        let objects = self.take(2)?;
        let second = self.take(ORDER.frames())?;
        let bound = [bind(self.net, self.run, objects)?, bind(self.net, second, objects.plus(1))?];
        let places = self.take(2 * (u32::from(WAYS) + 2))?;
        for number in 0..WAYS + 2 {
            let (binding, filter) = match number {
                0 => (bound[0], udp_to(self.address, PORTS[0])),
                1 => (bound[1], udp_to(self.address, PORTS[1])),
                _ => (bound[1], odd(self.address, number, 0)?),
            };
            let text = Text::of(&filter)?;
            let place = places.plus(2 * u32::from(number)).into_word();
            match raw(
                "filter_install",
                [binding.into_word(), text.at(), text.length, place, place + 1, 0],
            ) {
                Err(Error::TooMuch) => break,
                result => drop(result?),
            }
        }
        let before = environment.system.received.load(Relaxed);
        println!("longest: listening");
        let start = timestamp();
        let (mut last, mut most, mut received) = (start, 0, 0);
        while received < PACKETS && last - start < PATIENCE {
            let now = timestamp();
            most = most.max(now - last);
            last = now;
            // The first ring stays empty, the second soon is full.
            page().rx_consumed.0.store(page().rx_produced.0.load(Relaxed), Relaxed);
            received = environment.system.received.load(Relaxed) - before;
        }
        tell("receive", most);
        println!("longest: {received} received");
        for bound in bound {
            unbind(bound)?;
        }
        self.give(places, 2 * (u32::from(WAYS) + 2))?;
        self.give(second, ORDER.frames())?;
        self.give(objects, 2)
    }
}

const _: () = assert!(FRAME_BYTES as usize == 2 * BUFFER_BYTES);
