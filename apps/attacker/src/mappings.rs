//! Mappings that must not be: others' frames, the kernel's, tables writable.

use exo_abi::boot::SELF;
use exo_abi::{Error, FrameKind, Handle, Level, Pfn, Protection, Rights, VirtAddr, Word};
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "map every frame of others to read", run: |a| map_foreign(a, Protection::Read) },
    Attack {
        name: "map every frame of others to write",
        run: |a| map_foreign(a, Protection::ReadWrite),
    },
    Attack {
        name: "map every frame of others to execute",
        run: |a| map_foreign(a, Protection::ReadExecute),
    },
    Attack {
        name: "map own kernel objects to read",
        run: |a| map_own_objects(a, Protection::Read),
    },
    Attack {
        name: "map own kernel objects to write",
        run: |a| map_own_objects(a, Protection::ReadWrite),
    },
    Attack { name: "map own page tables to write", run: own_tables },
    Attack { name: "map published pages to write", run: published },
    Attack { name: "map frames beyond the end of memory", run: beyond },
    Attack { name: "map at addresses of the kernel", run: kernel_addresses },
    Attack { name: "map the last page before the hole", run: last_page },
    Attack { name: "map over the end of user space", run: over_the_end },
    Attack { name: "map writable and executable", run: writable_executable },
    Attack { name: "map over a page that is there", run: occupied },
    Attack { name: "map into a space one may not touch", run: foreign_space },
    Attack { name: "have a child map a frame of a neighbour", run: by_child },
    Attack { name: "take out a table that is not empty", run: full_table },
    Attack { name: "install a table at level 0, 4 and 255", run: levels },
    Attack { name: "install tables at addresses of the kernel", run: kernel_tables },
    Attack { name: "put one table in twice", run: table_twice },
    Attack { name: "unmap addresses of the kernel", run: unmap_kernel },
];

/// Every environment may read published pages; those are left out then.
fn map_foreign(attacker: &mut Attacker, protection: Protection) -> Attempt {
    let at = attacker.window()?;
    let frames = attacker.frames;
    let shown = |pfn: &Pfn| {
        protection == Protection::Read && matches!(frames.look(*pfn), Some((FrameKind::Info, _)))
    };
    let maps = attacker
        .foreign()
        .filter(|pfn| !shown(pfn))
        .map(|pfn| sys::map(SELF, SELF, pfn, at, 1, protection));
    Ok(Verdict::every(maps, &[Error::NotOwned, Error::NoRight]))
}

fn map_own_objects(attacker: &mut Attacker, protection: Protection) -> Attempt {
    let at = attacker.window()?;
    let (frames, id) = (attacker.frames, attacker.id());
    let objects = frames.all().filter(move |pfn| {
        frames.look(*pfn).is_some_and(|(kind, owner)| {
            let object = matches!(
                kind,
                FrameKind::Env
                    | FrameKind::CapTable
                    | FrameKind::Binding
                    | FrameKind::Filter
                    | FrameKind::Code
            );
            owner == id && object
        })
    });
    let maps = objects.map(|pfn| sys::map(SELF, SELF, pfn, at, 1, protection));
    Ok(Verdict::every(maps, &[Error::NotOwned]))
}

fn own_tables(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let (frames, id) = (attacker.frames, attacker.id());
    let tables =
        frames.all().filter(move |pfn| frames.look(*pfn) == Some((FrameKind::PageTable, id)));
    let maps = tables.flat_map(|pfn| {
        [Protection::ReadWrite, Protection::ReadExecute]
            .map(|protection| sys::map(SELF, SELF, pfn, at, 1, protection))
    });
    Ok(Verdict::every(maps, &[Error::NoRight]))
}

fn published(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let frames = attacker.frames;
    let info = frames.all().filter(|pfn| matches!(frames.look(*pfn), Some((FrameKind::Info, _))));
    let maps = info.flat_map(|pfn| {
        [Protection::ReadWrite, Protection::ReadExecute]
            .map(|protection| sys::map(SELF, SELF, pfn, at, 1, protection))
    });
    Ok(Verdict::every(maps, &[Error::NoRight]))
}

fn beyond(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let end = attacker.frames.table.len() as u32;
    let maps = [end, end + 1, 0xfee00, 0xfec00, u32::MAX]
        .into_iter()
        .map(|pfn| sys::map(SELF, SELF, Pfn(pfn), at, 1, Protection::ReadWrite));
    Ok(Verdict::every(maps, &[Error::OutOfRange]))
}

/// Makes a call with words that no typed stub would pass.
pub(crate) fn raw(name: &str, words: [u64; 6]) -> Result<u64, Error> {
    sys::raw(exo_abi::call_number(name), words)
}

/// Addresses outside of user space, or not at the start of a page.
const BAD_ADDRESSES: [u64; 8] = [
    0x0000_7fff_ffff_f000,
    0x0000_8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8020_0000,
    0xffff_ffff_ffff_f000,
    1 << 48 | 0x40_0000,
    0x2200_0001,
    u64::MAX,
];

fn kernel_addresses(attacker: &mut Attacker) -> Attempt {
    let frame = attacker.frames.take(SELF, 1)?;
    let own = SELF.into_word();
    let maps =
        BAD_ADDRESSES.into_iter().map(|at| raw("map", [own, own, frame.into_word(), at, 1, 1]));
    let verdict = Verdict::every(maps, &[Error::BadAddress]);
    attacker.frames.give(frame, 1)?;
    Ok(verdict)
}

/// A `syscall` at the very end of the canonical addresses would return to an address
/// that is none, in ring 0 on some processors.
fn last_page(attacker: &mut Attacker) -> Attempt {
    let own = SELF.into_word();
    let frame = attacker.frames.take(SELF, 1)?;
    let at = 0x0000_7fff_ffff_f000;
    let verdict =
        Verdict::refused(raw("map", [own, own, frame.into_word(), at, 1, 2]), Error::BadAddress);
    attacker.frames.give(frame, 1)?;
    Ok(verdict)
}

fn over_the_end(attacker: &mut Attacker) -> Attempt {
    let last = VirtAddr::new(0x0000_7fff_ffff_e000).ok_or(Error::BadAddress)?;
    attacker.frames.cover(SELF, last)?;
    let frames = attacker.frames.take(SELF, 2)?;
    let map = sys::map(SELF, SELF, frames, last, 2, Protection::ReadWrite);
    attacker.frames.give(frames, 2)?;
    Ok(Verdict::refused(map, Error::BadAddress))
}

fn writable_executable(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let frame = attacker.frames.take(SELF, 1)?;
    let own = SELF.into_word();
    let maps = [3, 4, 7, 1 << 8, 1 << 63, u64::MAX]
        .into_iter()
        .map(|bits| raw("map", [own, own, frame.into_word(), at.get(), 1, bits]));
    let verdict = Verdict::every(maps, &[Error::BadArgument]);
    attacker.frames.give(frame, 1)?;
    Ok(verdict)
}

fn occupied(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let one = attacker.frames.page(at)?;
    let two = attacker.frames.take(SELF, 1)?;
    let map = sys::map(SELF, SELF, two, at, 1, Protection::ReadWrite);
    attacker.frames.give(two, 1)?;
    attacker.frames.drop_page(at, one)?;
    Ok(Verdict::refused(map, Error::Occupied))
}

fn foreign_space(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let child = attacker.maker.bare()?;
    let weak = Handle::from_word(sys::cap_derive(child.env, Rights::CONTROL, 0, 0)?)?;
    let frame = attacker.frames.take(SELF, 1)?;
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let tries = [
        sys::map(weak, SELF, frame, at, 1, Protection::Read),
        sys::map(SELF, weak, frame, at, 1, Protection::Read),
        sys::unmap(weak, at, 1),
        sys::table_install(weak, at, level, frame),
        sys::table_remove(weak, at, level),
        sys::frames_take(attacker.frames.capability, weak, frame, 1),
    ];
    sys::cap_drop(weak)?;
    attacker.frames.give(frame, 1)?;
    child.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn by_child(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let at = attacker.window()?;
    let maps = attacker
        .foreign()
        .filter(|pfn| attacker.frames.look(*pfn).is_some_and(|(_, owner)| owner != child.id))
        .filter(|pfn| !matches!(attacker.frames.look(*pfn), Some((FrameKind::Info, _))))
        .map(|pfn| sys::map(SELF, child.env, pfn, at, 1, Protection::Read));
    let verdict = Verdict::every(maps, &[Error::NotOwned]);
    child.destroy()?;
    Ok(verdict)
}

fn full_table(_: &mut Attacker) -> Attempt {
    let at = VirtAddr::new(exo_abi::boot::U_AREA).ok_or(Error::BadAddress)?;
    let removals = (1..=3).filter_map(Level::new).map(|level| sys::table_remove(SELF, at, level));
    Ok(Verdict::every(removals, &[Error::InUse]))
}

fn levels(attacker: &mut Attacker) -> Attempt {
    let frame = attacker.frames.take(SELF, 1)?;
    let (own, at) = (SELF.into_word(), 0x5000_0000_0000);
    let installs = [0, 4, 5, 255, 256, 1 << 32, u64::MAX].into_iter().flat_map(|level| {
        [
            raw("table_install", [own, at, level, frame.into_word(), 0, 0]),
            raw("table_remove", [own, at, level, 0, 0, 0]),
        ]
    });
    let verdict = Verdict::every(installs, &[Error::BadArgument]);
    attacker.frames.give(frame, 1)?;
    Ok(verdict)
}

fn kernel_tables(attacker: &mut Attacker) -> Attempt {
    let frame = attacker.frames.take(SELF, 1)?;
    let own = SELF.into_word();
    let installs = BAD_ADDRESSES.into_iter().flat_map(|at| {
        (1..=3).flat_map(move |level| {
            [
                raw("table_install", [own, at, level, frame.into_word(), 0, 0]),
                raw("table_remove", [own, at, level, 0, 0, 0]),
            ]
        })
    });
    let verdict = Verdict::every(installs, &[Error::BadAddress]);
    attacker.frames.give(frame, 1)?;
    Ok(verdict)
}

fn table_twice(attacker: &mut Attacker) -> Attempt {
    let far = |at| VirtAddr::new(at).ok_or(Error::BadAddress);
    let (one, two) = (far(0x5000_0000_0000)?, far(0x5080_0000_0000)?);
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let table = attacker.frames.take(SELF, 1)?;
    sys::table_install(SELF, one, level, table)?;
    let again = sys::table_install(SELF, two, level, table);
    sys::table_remove(SELF, one, level)?;
    attacker.frames.give(table, 1)?;
    Ok(Verdict::refused(again, Error::NotOwned))
}

fn unmap_kernel(_: &mut Attacker) -> Attempt {
    let own = SELF.into_word();
    let unmaps = BAD_ADDRESSES.into_iter().map(|at| raw("unmap", [own, at, 1, 0, 0, 0]));
    Ok(Verdict::every(unmaps, &[Error::BadAddress]))
}
