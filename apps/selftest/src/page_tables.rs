//! Page tables: installed from own frames, readable, taken out again.

use exo_abi::boot::SELF;
use exo_abi::{Error, FrameKind, Level, Pfn, Protection, VirtAddr};
use libos::sys;
use selftest::check::{Outcome, holds, refused, same};
use selftest::frames::read;

use crate::bench::{Bench, Check};

pub(crate) const CHECKS: &[Check] = &[
    ("tables go in from the top and come out from the bottom", in_and_out),
    ("a table can be read by its owner and not written", readable),
    ("a table needs a frame that is quiet", donations),
];

/// Far from everything else, under no table.
const EMPTY: u64 = 0x5000_0000_0000;

fn level(level: u8) -> Result<Level, Error> {
    Level::new(level).ok_or(Error::BadArgument)
}

fn at() -> Result<VirtAddr, Error> {
    VirtAddr::new(EMPTY).ok_or(Error::BadAddress)
}

fn in_and_out(bench: &mut Bench) -> Outcome {
    let at = at()?;
    let tables = bench.frames.take(SELF, 4)?;
    refused(sys::table_install(SELF, at, level(1)?, tables), Error::NoTable)?;
    refused(sys::table_install(SELF, at, level(2)?, tables), Error::NoTable)?;
    for (number, frame) in [(3, tables), (2, tables.plus(1)), (1, tables.plus(2))] {
        refused(sys::table_remove(SELF, at, level(number)?), Error::Vacant)?;
        sys::table_install(SELF, at, level(number)?, frame)?;
        same("kind", bench.kind(frame), Some(FrameKind::PageTable))?;
        same("table", bench.maker.tables.table(at, u32::from(number))?, Some(frame))?;
        let again = sys::table_install(SELF, at, level(number)?, tables.plus(3));
        refused(again, Error::Occupied)?;
    }
    sys::map(SELF, SELF, tables.plus(3), at, 1, Protection::Read)?;
    same("the page", read(at, 0), 0)?;
    for number in [1, 2, 3] {
        refused(sys::table_remove(SELF, at, level(number)?), Error::InUse)?;
    }
    sys::unmap(SELF, at, 1)?;
    for number in [1, 2, 3] {
        for above in number + 1..=3 {
            refused(sys::table_remove(SELF, at, level(above)?), Error::InUse)?;
        }
        sys::table_remove(SELF, at, level(number)?)?;
    }
    let memory = |i| bench.kind(tables.plus(i)) == Some(FrameKind::Memory);
    holds("a table that was taken out is memory", (0..4).all(memory))?;
    sys::frames_free(tables, 4)?;
    Ok(())
}

fn readable(bench: &mut Bench) -> Outcome {
    let (at, glass) = (at()?, bench.window());
    let table = bench.frames.take(SELF, 1)?;
    sys::table_install(SELF, at, level(3)?, table)?;
    bench.frames.cover(SELF, glass)?;
    for protection in [Protection::ReadWrite, Protection::ReadExecute] {
        refused(sys::map(SELF, SELF, table, glass, 1, protection), Error::NoRight)?;
    }
    sys::map(SELF, SELF, table, glass, 1, Protection::Read)?;
    same("the empty table", read(glass, 0), 0)?;
    // While it can be read it must stay a table: its next use may be private.
    refused(sys::table_remove(SELF, at, level(3)?), Error::InUse)?;
    sys::unmap(SELF, glass, 1)?;
    sys::table_remove(SELF, at, level(3)?)?;
    bench.frames.give(table, 1)?;
    Ok(())
}

fn donations(bench: &mut Bench) -> Outcome {
    let (at, window) = (at()?, bench.window());
    let mapped = bench.frames.page(window)?;
    let third = level(3)?;
    refused(sys::table_install(SELF, at, third, mapped), Error::InUse)?;
    bench.frames.drop_page(window, mapped)?;
    refused(sys::table_install(SELF, at, third, mapped), Error::NotOwned)?;
    refused(sys::table_install(SELF, at, third, Pfn(u32::MAX)), Error::NotOwned)?;
    let root = bench.maker.tables.root;
    refused(sys::table_install(SELF, at, third, root), Error::NotOwned)
}
