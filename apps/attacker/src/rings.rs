//! Lies in the ring page: indices and lengths.

use core::sync::atomic::Ordering::{Relaxed, Release};

use exo_abi::{Error, SyncCounts};
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::nic::Nic;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "send frames of impossible lengths", run: lengths },
    Attack { name: "claim to have produced more than the ring holds", run: produced },
    Attack { name: "turn the producer's index back", run: turned_back },
    Attack { name: "claim to have consumed what was not delivered", run: consumed },
    Attack { name: "write the kernel's own indices", run: kernels_indices },
    Attack { name: "fill the ring page with random words", run: random_page },
    Attack { name: "free the rings under the kernel", run: free_rings },
    Attack { name: "bind the same rings twice", run: bind_twice },
    Attack { name: "bind rings that reach into others' frames", run: bind_foreign },
    Attack { name: "bind rings of impossible sizes", run: bind_sizes },
    Attack { name: "dissolve a binding while it sends", run: unbind_sending },
];

fn nic(attacker: &mut Attacker) -> Result<&mut Nic, Error> {
    attacker.nic.as_mut().ok_or(Error::NoDevice)
}

/// Bounded by the ring, and the binding works afterwards.
fn survived(nic: &mut Nic, counts: &[SyncCounts]) -> Attempt {
    let most = counts.iter().map(|counts| counts.taken).max().unwrap_or(0);
    nic.resync()?;
    let works = nic.works()?;
    let bounded = most <= nic.order.slots();
    Ok(Verdict::harmless(bounded && works, alloc::format!("at most {most} taken at once")))
}

fn lengths(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let own = nic.datagram();
    for length in [0, 1, 13, 1515, 2047, 2048, 2049, 4096, 32768, 65535] {
        nic.write(&own);
        nic.commit(length);
        let counts = nic.sync()?;
        if counts != (SyncCounts { taken: 1, refused: 1 }) {
            return Ok(Verdict::breach(alloc::format!("yes to {length} bytes")));
        }
    }
    let works = nic.works()?;
    Ok(Verdict::harmless(works, "refused, 10 times"))
}

fn produced(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let now = nic.page().tx_produced.0.load(Relaxed);
    let mut counts = alloc::vec::Vec::new();
    for ahead in [17, 1 << 16, 1 << 31, u32::MAX - 1, u32::MAX] {
        nic.page().tx_length.iter().for_each(|length| length.store(0, Relaxed));
        nic.page().tx_produced.0.store(now.wrapping_add(ahead), Release);
        counts.push(nic.sync()?);
    }
    survived(nic, &counts)
}

fn turned_back(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let now = nic.page().tx_produced.0.load(Relaxed);
    nic.page().tx_length.iter().for_each(|length| length.store(0, Relaxed));
    nic.page().tx_produced.0.store(now.wrapping_sub(3), Release);
    let counts = nic.sync()?;
    survived(nic, &[counts])
}

fn consumed(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let mut counts = alloc::vec::Vec::new();
    for lie in [1, 1 << 31, u32::MAX, 0x8000_0001] {
        nic.page().rx_consumed.0.store(lie, Release);
        counts.push(nic.sync()?);
    }
    survived(nic, &counts)
}

fn kernels_indices(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let mut counts = alloc::vec::Vec::new();
    for lie in [0, 1 << 31, u32::MAX] {
        nic.page().rx_produced.0.store(lie, Release);
        nic.page().tx_consumed.0.store(lie, Release);
        counts.push(nic.sync()?);
        // Whatever was written, a frame still goes out once.
        let own = nic.datagram();
        counts.push(nic.send(&own)?);
    }
    survived(nic, &counts)
}

fn random_page(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    let nic = nic(attacker)?;
    let mut counts = alloc::vec::Vec::new();
    for _ in 0..500 {
        let page = nic.page();
        for index in [&page.rx_produced, &page.rx_consumed, &page.tx_produced, &page.tx_consumed] {
            index.0.store(random.word() as u32, Release);
        }
        for length in page.tx_length.iter().chain(&page.rx_length) {
            length.store(random.word() as u16, Relaxed);
        }
        counts.push(nic.sync()?);
    }
    survived(nic, &counts)
}

fn free_rings(attacker: &mut Attacker) -> Attempt {
    let nic = nic(attacker)?;
    let frees = (0..nic.order.frames()).map(|offset| sys::frames_free(nic.run.plus(offset), 1));
    Ok(Verdict::every(frees, &[Error::InUse]))
}

/// Allowed, and harmless: the second binding has indices of its own and sends what the first may.
fn bind_twice(attacker: &mut Attacker) -> Attempt {
    let object = attacker.frames.take(exo_abi::boot::SELF, 1)?;
    let nic = nic(attacker)?;
    let second = sys::net_bind(nic.net, nic.run, nic.order, object);
    let verdict = match second {
        Err(error) => Verdict::repelled(error),
        Ok(handle) => {
            let handle: exo_abi::Handle = exo_abi::Word::from_word(handle)?;
            let own = nic.datagram();
            nic.rewrite(0, &own);
            nic.page().tx_length[0].store(60, Relaxed);
            nic.page().tx_produced.0.store(1, Release);
            let counts = SyncCounts::from_value(sys::net_sync(handle)?);
            selftest::child::until_done(|| sys::net_unbind(handle))?;
            sys::cap_drop(handle)?;
            nic.resync()?;
            let works = nic.works()?;
            let own = counts == SyncCounts { taken: 1, refused: 0 };
            Verdict::harmless(own && works, "sent what is its own, once")
        }
    };
    attacker.frames.give(object, 1)?;
    Ok(verdict)
}

fn bind_foreign(attacker: &mut Attacker) -> Attempt {
    let own = exo_abi::boot::SELF;
    let object = attacker.frames.take(own, 1)?;
    let net = nic(attacker)?.net;
    let two = exo_abi::RingOrder::new(1).ok_or(Error::BadArgument)?;
    let binds = attacker.foreign().flat_map(|pfn| {
        // The frame as the run's first, and as its last.
        [pfn, exo_abi::Pfn(pfn.0.saturating_sub(2))]
            .map(|first| sys::net_bind(net, first, two, object))
    });
    let beyond = [u32::MAX, u32::MAX - 1, u32::MAX - 2]
        .map(|first| sys::net_bind(net, exo_abi::Pfn(first), two, object));
    let verdict = Verdict::every(binds.chain(beyond), &[Error::NotOwned, Error::BadArgument]);
    attacker.frames.give(object, 1)?;
    Ok(verdict)
}

fn bind_sizes(attacker: &mut Attacker) -> Attempt {
    use exo_abi::Word;
    let run = attacker.frames.take(exo_abi::boot::SELF, 4)?;
    let net = nic(attacker)?.net;
    let binds = [0, 9, 16, 31, 32, 63, 64, 255, 256, 1 << 32 | 1, u64::MAX].map(|order| {
        let words = [net.into_word(), run.into_word(), order, run.plus(3).into_word(), 0, 0];
        sys::raw(exo_abi::call_number("net_bind"), words)
    });
    attacker.frames.give(run, 4)?;
    Ok(Verdict::every(binds.into_iter(), &[Error::BadArgument]))
}

/// Long frames go out from the attacker's own memory; that must stay the attacker's
/// until the device is done.
fn unbind_sending(attacker: &mut Attacker) -> Attempt {
    let own = exo_abi::boot::SELF;
    let frames = attacker.frames;
    let order = exo_abi::RingOrder::new(1).ok_or(Error::BadArgument)?;
    let at = attacker.window()?;
    for _ in 0..2 {
        attacker.window()?;
    }
    let run = frames.take(own, order.frames())?;
    let objects = frames.take(own, 3)?;
    frames.map((own, own), run, at, order.frames(), exo_abi::Protection::ReadWrite)?;
    let nic = nic(attacker)?;
    let handle = sys::net_bind(nic.net, run, order, objects)?;
    let binding: exo_abi::Handle = exo_abi::Word::from_word(handle)?;
    let second = Nic::borrowed(nic, binding, run, order, at.get());
    second.install(&second.harmless_filter(4400), objects.plus(1))?;
    let mut frame = [0_u8; 1514];
    frame[..60].copy_from_slice(&nic.datagram());
    frame[16..18].copy_from_slice(&1500_u16.to_be_bytes());
    frame[34..36].copy_from_slice(&4400_u16.to_be_bytes());
    frame[38..40].copy_from_slice(&1480_u16.to_be_bytes());
    crate::nic::seal(&mut frame);
    let mut second = second;
    second.write(&frame);
    second.commit(1514);
    let sent = second.sync()?;
    let early = sys::frames_free(run, 1);
    let mut steps = 0_u32;
    let unbound = loop {
        match sys::net_unbind(binding) {
            Err(Error::Again | Error::InUse) if steps < 1_000_000 => steps += 1,
            answer => break answer,
        }
    };
    sys::cap_drop(binding)?;
    sys::unmap(own, at, order.frames())?;
    frames.give(run, order.frames())?;
    frames.give(objects, 3)?;
    let fine = sent == SyncCounts { taken: 1, refused: 0 }
        && early == Err(Error::InUse)
        && unbound.is_ok();
    Ok(Verdict::harmless(fine, "in use, then done"))
}
