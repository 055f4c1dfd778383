//! Page frames that belong to others, or that have no owner yet.

use exo_abi::boot::SELF;
use exo_abi::{Error, FrameKind, Level, Pfn, VirtAddr};
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "take every frame outside the grant", run: take_outside },
    Attack { name: "take frames beyond the end of memory", run: take_beyond },
    Attack { name: "take a frame that is taken", run: take_twice },
    Attack { name: "take a run with one taken frame in it", run: take_run },
    Attack { name: "take more than a batch", run: take_many },
    Attack { name: "free every frame of others", run: free_foreign },
    Attack { name: "free frames beyond the end of memory", run: free_beyond },
    Attack { name: "free a mapped frame", run: free_mapped },
    Attack { name: "free its own root table", run: free_root },
    Attack { name: "free a frame twice", run: free_twice },
    Attack { name: "donate every frame of others", run: donate_foreign },
    Attack { name: "make every frame of others a page table", run: tables_of_foreign },
    Attack { name: "make environments of others' frames", run: environments_of_foreign },
    Attack { name: "donate a mapped frame", run: donate_mapped },
    Attack { name: "donate a frame twice", run: donate_twice },
    Attack { name: "read what a frame held before", run: remnants },
];

fn take_outside(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let outside = frames.all().filter(|pfn| !frames.grants(*pfn));
    let takes = outside.map(|pfn| sys::frames_take(frames.capability, SELF, pfn, 1));
    Ok(Verdict::every(takes, &[Error::OutOfRange]))
}

fn take_beyond(attacker: &mut Attacker) -> Attempt {
    let (frames, end) = (attacker.frames, attacker.frames.table.len() as u32);
    let tries = [(end, 1), (end, 64), (u32::MAX, 1), (u32::MAX, 64), (u32::MAX - 63, 64)];
    let takes = tries
        .into_iter()
        .map(|(first, count)| sys::frames_take(frames.capability, SELF, Pfn(first), count));
    Ok(Verdict::every(takes, &[Error::OutOfRange]))
}

fn take_twice(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let frame = frames.take(SELF, 1)?;
    let again = sys::frames_take(frames.capability, SELF, frame, 1);
    frames.give(frame, 1)?;
    Ok(Verdict::refused(again, Error::NotFree))
}

fn take_run(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let run = frames.find(8).ok_or(Error::NotFree)?;
    sys::frames_take(frames.capability, SELF, run.plus(7), 1)?;
    let before = frames.free();
    let verdict =
        Verdict::refused(sys::frames_take(frames.capability, SELF, run, 8), Error::NotFree);
    let unharmed = frames.free() == before;
    frames.give(run.plus(7), 1)?;
    Ok(if unharmed { verdict } else { Verdict::breach("no, but took some") })
}

fn take_many(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let first = frames.range.first;
    let counts = [65, frames.range.count, u32::MAX];
    let takes =
        counts.into_iter().map(|count| sys::frames_take(frames.capability, SELF, first, count));
    Ok(Verdict::every(takes, &[Error::TooMuch, Error::OutOfRange]))
}

fn free_foreign(attacker: &mut Attacker) -> Attempt {
    let frees = attacker.foreign().map(|pfn| sys::frames_free(pfn, 1));
    Ok(Verdict::every(frees, &[Error::NotOwned]))
}

fn free_beyond(attacker: &mut Attacker) -> Attempt {
    let end = attacker.frames.table.len() as u32;
    let tries = [(end, 1), (end - 1, 2), (u32::MAX, 1), (u32::MAX, 64)];
    let frees = tries.into_iter().map(|(first, count)| sys::frames_free(Pfn(first), count));
    Ok(Verdict::every(frees, &[Error::OutOfRange]))
}

fn free_mapped(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let frame = attacker.frames.page(at)?;
    let free = sys::frames_free(frame, 1);
    attacker.frames.drop_page(at, frame)?;
    Ok(Verdict::refused(free, Error::InUse))
}

fn free_root(attacker: &mut Attacker) -> Attempt {
    Ok(Verdict::refused(sys::frames_free(attacker.maker.tables.root, 1), Error::NotOwned))
}

fn free_twice(attacker: &mut Attacker) -> Attempt {
    let frame = attacker.frames.take(SELF, 1)?;
    attacker.frames.give(frame, 1)?;
    Ok(Verdict::refused(sys::frames_free(frame, 1), Error::NotOwned))
}

fn donate_foreign(attacker: &mut Attacker) -> Attempt {
    let donations = attacker.foreign().map(sys::cap_grow);
    Ok(Verdict::every(donations, &[Error::NotOwned]))
}

fn tables_of_foreign(attacker: &mut Attacker) -> Attempt {
    let at = VirtAddr::new(0x5000_0000_0000).ok_or(Error::BadAddress)?;
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let installs = attacker.foreign().map(|pfn| sys::table_install(SELF, at, level, pfn));
    Ok(Verdict::every(installs, &[Error::NotOwned]))
}

fn environments_of_foreign(attacker: &mut Attacker) -> Attempt {
    let own = attacker.frames.take(SELF, 3)?;
    let [a, b, c] = [own, own.plus(1), own.plus(2)];
    let creations = attacker.foreign().flat_map(|pfn| {
        [
            sys::env_create(pfn, a, b, c),
            sys::env_create(a, pfn, b, c),
            sys::env_create(a, b, pfn, c),
            sys::env_create(a, b, c, pfn),
        ]
    });
    let verdict = Verdict::every(creations, &[Error::NotOwned]);
    let kept = (0..3).all(|offset| {
        attacker.frames.look(own.plus(offset)) == Some((FrameKind::Memory, attacker.id()))
    });
    attacker.frames.give(own, 3)?;
    Ok(if kept { verdict } else { Verdict::breach("no, but kept some") })
}

fn donate_mapped(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let mapped = attacker.frames.page(at)?;
    let own = attacker.frames.take(SELF, 3)?;
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let far = VirtAddr::new(0x5000_0000_0000).ok_or(Error::BadAddress)?;
    let [a, b, c] = [own, own.plus(1), own.plus(2)];
    let mut tries = alloc::vec![
        sys::cap_grow(mapped),
        sys::table_install(SELF, far, level, mapped),
        sys::env_create(mapped, a, b, c),
        sys::env_create(a, mapped, b, c),
        sys::env_create(a, b, mapped, c),
        sys::env_create(a, b, c, mapped),
    ];
    if let Some(nic) = &attacker.nic {
        let two = exo_abi::RingOrder::new(1).ok_or(Error::BadArgument)?;
        tries.push(sys::net_bind(nic.net, own, two, mapped));
        tries.push(nic.install(&nic.harmless_filter(4999), mapped));
    }
    attacker.frames.drop_page(at, mapped)?;
    attacker.frames.give(own, 3)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::InUse]))
}

fn donate_twice(attacker: &mut Attacker) -> Attempt {
    let frame = attacker.frames.take(SELF, 1)?;
    let own = attacker.frames.take(SELF, 3)?;
    // It stays a capability table as long as the attacker lives.
    sys::cap_grow(frame)?;
    let [a, b, c] = [own, own.plus(1), own.plus(2)];
    let tries = [
        sys::cap_grow(frame),
        sys::frames_free(frame, 1),
        sys::env_create(frame, a, b, c),
        sys::env_create(a, b, c, frame),
    ];
    attacker.frames.give(own, 3)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NotOwned]))
}

/// Takes every free frame of the grant and looks for anything but zeros.
fn remnants(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let frames = attacker.frames;
    let mut looked = 0;
    for number in frames.range.first.0..frames.range.first.0 + frames.range.count {
        let frame = Pfn(number);
        if sys::frames_take(frames.capability, SELF, frame, 1).is_err() {
            continue;
        }
        sys::map(SELF, SELF, frame, at, 1, exo_abi::Protection::ReadWrite)?;
        let found = (0..4096).step_by(8).any(|offset| selftest::frames::read(at, offset) != 0);
        // A mark for the next one to find.
        selftest::frames::write(at, 8, u64::from(number) | 1 << 40);
        frames.drop_page(at, frame)?;
        if found {
            return Ok(Verdict::breach(alloc::format!("frame {number} as it was")));
        }
        looked += 1;
    }
    Ok(Verdict::harmless(looked > 0, alloc::format!("zeros, {looked} frames")))
}
