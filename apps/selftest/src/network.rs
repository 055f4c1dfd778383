//! Bindings and filters. Needs the network; without it, there is nothing to check.

use dpf::packet::{arp_for, udp_to};
use dpf::{Filter, KEY_WIRE, MAX_WIRE, encode_keys};
use exo_abi::boot::SELF;
use exo_abi::{
    BATCH_WORDS, Error, FrameKind, Handle, Pfn, Protection, RingOrder, SyncCounts, UserPtr, Word,
    call_number,
};
use libos::sys;
use selftest::check::{Outcome, holds, refused, same};
use selftest::child::until_done;
use selftest::frames;

use crate::bench::{Bench, Check};

pub(crate) const CHECKS: &[Check] = &[
    ("a binding pins its run", binds),
    ("a binding refuses what it must", bind_refusals),
    ("filters come and go", filters),
    ("filters refuse what they must", filter_refusals),
    ("scopes refuse what they must, and go", scopes),
    ("only an environment that may send a packet sends it", sends),
    ("a binding goes with its filters, in steps", unbinds),
];

/// A binding and what it is made of.
struct Bound {
    handle: Handle,
    run: Pfn,
    object: Pfn,
    order: RingOrder,
}

fn order(order: u8) -> Result<RingOrder, Error> {
    RingOrder::new(order).ok_or(Error::BadArgument)
}

fn net(bench: &Bench) -> Option<Handle> {
    bench.environment.start.net
}

fn bind(bench: &Bench, net: Handle) -> Result<Bound, Error> {
    let order = order(2)?;
    let run = bench.frames.take(SELF, order.frames())?;
    let object = bench.frames.take(SELF, 1)?;
    let handle = Handle::from_word(sys::net_bind(net, run, order, object)?)?;
    Ok(Bound { handle, run, object, order })
}

fn unbind(bench: &Bench, bound: &Bound) -> Result<(), Error> {
    until_done(|| sys::net_unbind(bound.handle))?;
    sys::cap_drop(bound.handle)?;
    bench.frames.give(bound.run, bound.order.frames())?;
    bench.frames.give(bound.object, 1)
}

/// Installs `filter` in `object` and the frame after it.
fn install(binding: Handle, filter: &Filter, object: Pfn) -> Result<u64, Error> {
    let mut wire = [0; MAX_WIRE];
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    sys::filter_install(binding, at, length as u64, object, object.plus(1))
}

fn address(bench: &Bench) -> [u8; 4] {
    bench.environment.start.address.unwrap_or_default()
}

fn binds(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let bound = bind(bench, net)?;
    same("object", bench.kind(bound.object), Some(FrameKind::Binding))?;
    refused(sys::frames_free(bound.run, 1), Error::InUse)?;
    refused(sys::frames_free(bound.run.plus(4), 1), Error::InUse)?;
    refused(sys::cap_grow(bound.run.plus(1)), Error::InUse)?;
    let counts = SyncCounts::from_value(sys::net_sync(bound.handle)?);
    same("moved", counts, SyncCounts { taken: 0, refused: 0 })?;
    unbind(bench, &bound)?;
    refused(sys::net_sync(bound.handle), Error::BadHandle)
}

fn bind_refusals(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let run = bench.frames.take(SELF, 4)?;
    let two = order(1)?;
    refused(sys::net_bind(net, run, two, run), Error::BadArgument)?;
    refused(sys::net_bind(net, run.plus(1), two, run.plus(3)), Error::BadArgument)?;
    let beyond = sys::net_bind(net, run.plus(2), two, run);
    holds("a run that is not all own", beyond.is_err())?;
    refused(sys::net_bind(SELF, run, two, run.plus(3)), Error::NoRight)?;
    for order in [0, 9, 255, 1 << 40] {
        let words = [net.into_word(), run.into_word(), order, run.plus(3).into_word(), 0, 0];
        refused(sys::raw(21, words), Error::BadArgument)?;
    }
    let memory = |i| bench.kind(run.plus(i)) == Some(FrameKind::Memory);
    holds("a refusal keeps a frame", (0..4).all(memory))?;
    bench.frames.give(run, 4)?;
    Ok(())
}

fn filters(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let bound = bind(bench, net)?;
    let objects = bench.frames.take(SELF, 4)?;
    let (one, two) = (objects, objects.plus(2));
    let filter = udp_to(address(bench), 4000);
    for _ in 0..3 {
        install(bound.handle, &filter, one)?;
        same("kind", bench.kind(one), Some(FrameKind::Filter))?;
        same("kind", bench.kind(one.plus(1)), Some(FrameKind::Code))?;
        refused(sys::frames_free(one, 1), Error::NotOwned)?;
        refused(sys::frames_free(one.plus(1), 1), Error::NotOwned)?;
        let at = bench.window();
        refused(sys::map(SELF, SELF, one.plus(1), at, 1, Protection::Read), Error::NotOwned)?;
        refused(install(bound.handle, &filter, two), Error::FilterConflict)?;
        same("kind", bench.kind(two), Some(FrameKind::Memory))?;
        install(bound.handle, &arp_for(address(bench)), two)?;
        sys::filter_remove(bound.handle, one)?;
        same("kind", bench.kind(one), Some(FrameKind::Memory))?;
        same("kind", bench.kind(one.plus(1)), Some(FrameKind::Memory))?;
        refused(sys::filter_remove(bound.handle, one), Error::Vacant)?;
        sys::filter_remove(bound.handle, two)?;
    }
    unbind(bench, &bound)?;
    bench.frames.give(objects, 4)?;
    Ok(())
}

fn filter_refusals(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let bound = bind(bench, net)?;
    let object = bench.frames.take(SELF, 2)?;
    let bytes = [1_u8; MAX_WIRE + 1];
    let at = bytes.as_ptr().expose_provenance() as u64;
    let install_raw =
        |at, length| sys::filter_install(bound.handle, UserPtr(at), length, object, object.plus(1));
    refused(install_raw(at, 0), Error::BadFilter)?;
    refused(install_raw(at, 3), Error::BadFilter)?;
    refused(install_raw(at, MAX_WIRE as u64 + 1), Error::TooMuch)?;
    refused(install_raw(at, u64::MAX), Error::TooMuch)?;
    refused(install_raw(0, 21), Error::BadPointer)?;
    let filter = udp_to(address(bench), 4000);
    refused(install(net, &filter, object), Error::BadHandle)?;
    refused(install(bound.handle, &filter, bound.run), Error::InUse)?;
    refused(install(bound.handle, &filter, bound.object), Error::NotOwned)?;
    refused(install(bound.handle, &filter, Pfn(0)), Error::NotOwned)?;
    let install_in = |object, code| {
        let mut wire = [0; MAX_WIRE];
        let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
        let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
        sys::filter_install(bound.handle, at, length as u64, object, code)
    };
    refused(install_in(object, object), Error::BadArgument)?;
    refused(install_in(object, bound.run), Error::InUse)?;
    refused(install_in(object, bound.object), Error::NotOwned)?;
    refused(install_in(object, Pfn(0)), Error::NotOwned)?;
    bench.frames.give(object, 2)?;
    unbind(bench, &bound)?;
    Ok(())
}

/// The scope of one UDP port of this address, in `object` and the frame after it.
fn scope(net: Handle, key: &Filter, object: Pfn) -> Result<u64, (Error, u64)> {
    let mut wire = [0; KEY_WIRE];
    let length = encode_keys(&[*key], &mut wire).ok_or((Error::BadFilter, 0))?;
    let at = wire.as_ptr().expose_provenance() as u64;
    let [object, code] = [object, object.plus(1)].map(Word::into_word);
    let words = [net.into_word(), at, length as u64, object, code, 0];
    sys::explained(call_number("net_scope"), words)
}

fn scopes(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let objects = bench.frames.take(SELF, 4)?;
    let (one, two) = (objects, objects.plus(2));
    let key = udp_to(address(bench), 4000);
    let made = scope(net, &key, one).map_err(|(error, _)| error)?;
    let made = Handle::from_word(made)?;
    same("kind", bench.kind(one), Some(FrameKind::Scope))?;
    same("kind", bench.kind(one.plus(1)), Some(FrameKind::Code))?;
    same("in the way", scope(net, &key, two), Err((Error::FilterConflict, one.into_word())))?;
    same("another refusal", scope(net, &key, one), Err((Error::NotOwned, 0)))?;
    let foreign = udp_to([10, 9, 8, 7], 4000);
    same("outside", scope(net, &foreign, two), Err((Error::NoRight, 0)))?;
    same(
        "no room for code",
        scope(net, &udp_to(address(bench), 4001), one),
        Err((Error::NotOwned, 0)),
    )?;
    // The same in a batch.
    let mut wire = [0; KEY_WIRE];
    let length = encode_keys(&[key], &mut wire).ok_or(Error::BadFilter)? as u64;
    let at = wire.as_ptr().expose_provenance() as u64;
    let [object, code] = [two, two.plus(1)].map(Word::into_word);
    let mut call = [0_u64; BATCH_WORDS];
    call[0] = call_number("net_scope");
    call[1..7].copy_from_slice(&[net.into_word(), at, length, object, code, 0]);
    let page = bench.window();
    let frame = bench.frames.page(page)?;
    for (place, word) in call.into_iter().enumerate() {
        frames::write(page, 8 * place, word);
    }
    same("made", sys::batch(UserPtr(page.get()), 1), Ok(1))?;
    same("code", frames::read(page, 56), Error::FilterConflict.code())?;
    same("value", frames::read(page, 64), one.into_word())?;
    bench.frames.drop_page(page, frame)?;
    // A binding by it takes what is within.
    let bound = bind(bench, made)?;
    refused(install(bound.handle, &udp_to(address(bench), 4001), two), Error::NoRight)?;
    install(bound.handle, &key, two)?;
    until_done(|| sys::net_unscope(one))?;
    same("its filter", bench.kind(two), Some(FrameKind::Memory))?;
    refused(install(bound.handle, &key, two), Error::NoRight)?;
    refused(sys::net_unscope(one), Error::NotOwned)?;
    refused(sys::net_bind(made, two, order(1)?, one), Error::BadHandle)?;
    unbind(bench, &bound)?;
    sys::cap_drop(made)?;
    bench.frames.give(objects, 4)?;
    Ok(())
}

/// A frame from `address`, port 4000, to the router's discard port.
fn datagram(bench: &Bench, from: [u8; 4]) -> [u8; 60] {
    let mut frame = [0; 60];
    let mac =
        bench.environment.system.mac.load(core::sync::atomic::Ordering::Relaxed).to_le_bytes();
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac[..6]);
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17]);
    frame[26..30].copy_from_slice(&from);
    frame[30..34].copy_from_slice(&bench.environment.start.gateway);
    frame[34..40].copy_from_slice(&[0x0f, 0xa0, 0, 9, 0, 26]);
    frame
}

fn sends(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let bound = bind(bench, net)?;
    let ring = bench.window();
    let buffers = [bench.window(), bench.window(), bench.window(), bench.window()];
    let rw = Protection::ReadWrite;
    bench.frames.map((SELF, SELF), bound.run, ring, 5, rw)?;
    let transmit = bound.order.tx_offset(0);
    let at = ring.get() as usize;
    let put = |index: u32, frame: &[u8]| {
        // SAFETY: ring page and buffers were just mapped here one behind the other;
        // the buffer of the slot is not with the kernel, which has consumed all
        // earlier ones; everything shared is atomic.
        unsafe {
            let page = &*core::ptr::with_exposed_provenance::<exo_abi::RingPage>(at);
            let slot = index % 4;
            let target = core::ptr::with_exposed_provenance_mut::<u8>(
                at + transmit + slot as usize * exo_abi::BUFFER_BYTES,
            );
            target.copy_from_nonoverlapping(frame.as_ptr(), frame.len());
            page.tx_length[slot as usize]
                .store(frame.len() as u16, core::sync::atomic::Ordering::Relaxed);
            page.tx_produced.0.store(index + 1, core::sync::atomic::Ordering::Release);
        }
    };
    let own = datagram(bench, address(bench));
    let sync = || sys::net_sync(bound.handle).map(SyncCounts::from_value);
    put(0, &own);
    same("its own", sync()?, SyncCounts { taken: 1, refused: 0 })?;
    put(1, &datagram(bench, [10, 0, 2, 99]));
    same("from another address", sync()?, SyncCounts { taken: 1, refused: 1 })?;
    sys::unmap(SELF, ring, 1 + buffers.len() as u32)?;
    unbind(bench, &bound)?;
    Ok(())
}

fn unbinds(bench: &mut Bench) -> Outcome {
    let Some(net) = net(bench) else { return Ok(()) };
    let bound = bind(bench, net)?;
    let objects = bench.frames.take(SELF, 6)?;
    for (offset, port) in [(0, 4000), (2, 4001), (4, 4002)] {
        install(bound.handle, &udp_to(address(bench), port), objects.plus(offset))?;
    }
    refused(sys::net_unbind(bound.handle), Error::Again)?;
    until_done(|| sys::net_unbind(bound.handle))?;
    refused(sys::net_unbind(bound.handle), Error::BadHandle)?;
    let memory = |pfn| bench.kind(pfn) == Some(FrameKind::Memory);
    holds("a filter was left", (0..6).all(|i| memory(objects.plus(i))))?;
    holds("the object was left", memory(bound.object))?;
    sys::cap_drop(bound.handle)?;
    bench.frames.give(bound.run, bound.order.frames())?;
    bench.frames.give(bound.object, 1)?;
    bench.frames.give(objects, 6)?;
    Ok(())
}
