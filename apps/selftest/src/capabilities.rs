//! Capabilities: derived with less, granted, dropped, stale.

use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{Error, FrameKind, Handle, Pfn, Rights, Word};
use libos::sys;
use selftest::check::{Outcome, holds, refused, same};
use selftest::child::exit;

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("rights only shrink", rights),
    ("ranges only shrink", ranges),
    ("a dropped handle names nothing", dropped),
    ("a full table grows by a donated frame", growth),
    ("a granted capability works for its receiver", granted),
    ("a handle is worth nothing elsewhere", elsewhere),
];

/// Derives a capability for the whole of `source`'s kind, or a range of it.
pub(crate) fn derive(
    source: Handle,
    rights: Rights,
    first: u64,
    count: u64,
) -> Result<Handle, Error> {
    Handle::from_word(sys::cap_derive(source, rights, first, count)?)
}

fn rights(bench: &mut Bench) -> Outcome {
    let frames = bench.frames;
    let (first, count) = (frames.range.first.into_word(), u64::from(frames.range.count));
    let all = Rights::TAKE.with(Rights::GRANT);
    for more in [Rights::ALL, all.with(Rights::CONTROL), all.with(Rights::ASSIGN)] {
        refused(sys::cap_derive(frames.capability, more, first, count), Error::NoRight)?;
    }
    let take = derive(frames.capability, Rights::TAKE, first, count)?;
    refused(sys::cap_derive(take, Rights::NONE, first, count), Error::NoRight)?;
    refused(sys::cap_grant(take, SELF), Error::NoRight)?;
    let grant = derive(frames.capability, Rights::GRANT, first, count)?;
    let frame = frames.find(1).ok_or(Error::NotFree)?;
    refused(sys::frames_take(grant, SELF, frame, 1), Error::NoRight)?;
    refused(sys::cap_derive(grant, Rights::TAKE, first, count), Error::NoRight)?;
    sys::frames_take(take, SELF, frame, 1)?;
    frames.give(frame, 1)?;
    // Without the right to its memory, an environment's handle maps nothing.
    let inspect = derive(SELF, Rights::INSPECT, 0, 0)?;
    let to_it = sys::frames_take(frames.capability, inspect, frame, 1);
    refused(to_it, Error::NoRight)?;
    refused(sys::unmap(inspect, bench.window(), 1), Error::NoRight)?;
    refused(sys::cap_grant(frames.capability, inspect), Error::NoRight)?;
    refused(sys::env_destroy(inspect), Error::NoRight)?;
    for handle in [take, grant, inspect] {
        sys::cap_drop(handle)?;
    }
    Ok(())
}

fn ranges(bench: &mut Bench) -> Outcome {
    let frames = bench.frames;
    let (first, count) = (frames.range.first.into_word(), u64::from(frames.range.count));
    let take = Rights::TAKE.with(Rights::GRANT);
    for (low, length) in [
        (first - 1, 2),
        (first, count + 1),
        (first + count, 1),
        (first, 0),
        (0, u64::from(u32::MAX)),
    ] {
        refused(sys::cap_derive(frames.capability, take, low, length), Error::OutOfRange)?;
    }
    refused(sys::cap_derive(frames.capability, take, 1 << 40, 1), Error::BadArgument)?;
    refused(sys::cap_derive(SELF, Rights::NONE, 0, 1), Error::BadArgument)?;
    let pair = frames.find(3).ok_or(Error::NotFree)?;
    let narrow = derive(frames.capability, take, pair.into_word(), 2)?;
    refused(sys::frames_take(narrow, SELF, pair, 3), Error::OutOfRange)?;
    refused(sys::frames_take(narrow, SELF, pair.plus(2), 1), Error::OutOfRange)?;
    refused(sys::cap_derive(narrow, take, pair.into_word(), 3), Error::OutOfRange)?;
    sys::frames_take(narrow, SELF, pair, 2)?;
    frames.give(pair, 2)?;
    sys::cap_drop(narrow)?;
    Ok(())
}

fn dropped(_: &mut Bench) -> Outcome {
    let first = derive(SELF, Rights::INSPECT, 0, 0)?;
    sys::cap_drop(first)?;
    refused(sys::cap_drop(first), Error::BadHandle)?;
    let second = derive(SELF, Rights::INSPECT, 0, 0)?;
    same("slot is used again", second.index(), first.index())?;
    holds("with another generation", second.generation() != first.generation())?;
    refused(sys::cap_revoke(first), Error::BadHandle)?;
    sys::cap_revoke(second)?;
    sys::cap_drop(second)?;
    Ok(())
}

/// Fills the table; returns the handles that fitted.
fn fill() -> Result<Vec<Handle>, Error> {
    let mut handles = Vec::new();
    loop {
        match derive(SELF, Rights::NONE, 0, 0) {
            Ok(handle) => handles.push(handle),
            Err(Error::TableFull) => return Ok(handles),
            Err(error) => return Err(error),
        }
    }
}

fn growth(bench: &mut Bench) -> Outcome {
    let mut handles = fill()?;
    refused(sys::env_create(Pfn(0), Pfn(0), Pfn(0), Pfn(0)), Error::TableFull)?;
    let frame = bench.frames.take(SELF, 1)?;
    sys::cap_grow(frame)?;
    same("kind", bench.kind(frame), Some(FrameKind::CapTable))?;
    refused(sys::cap_grow(frame), Error::NotOwned)?;
    refused(sys::frames_free(frame, 1), Error::NotOwned)?;
    let more = fill()?;
    same("slots gained", more.len(), 64)?;
    handles.extend(more);
    for (place, handle) in handles.iter().enumerate() {
        holds("a handle twice", !handles[..place].contains(handle))?;
    }
    for handle in handles {
        sys::cap_drop(handle)?;
    }
    Ok(())
}

/// Takes the frame `argument & 0xffff_ffff` by the handle in slot `argument >> 32`.
extern "C" fn takes(argument: u64) -> ! {
    let handle = Handle::first((argument >> 32) as u32);
    match sys::frames_take(handle, SELF, Pfn(argument as u32), 1) {
        Ok(_) => exit(0),
        Err(error) => exit(error.code()),
    }
}

fn granted(bench: &mut Bench) -> Outcome {
    let frames = bench.frames;
    for (offset, wanted) in [(0, 0), (1, Error::OutOfRange.code())] {
        let child = bench.maker.child()?;
        let frame = frames.find(1).ok_or(Error::NotFree)?;
        let rights = Rights::TAKE.with(Rights::GRANT);
        let narrow = derive(frames.capability, rights, frame.into_word(), 1)?;
        let handle = Handle::from_word(sys::cap_grant(narrow, child.env)?)?;
        same("generation of a first handle", handle.generation(), 1)?;
        let argument = u64::from(handle.index()) << 32 | (frame.into_word() + offset);
        child.start(takes, argument)?;
        let status = child.wait(PATIENCE)?;
        same("the child's answer", status.map(|status| status.code), Some(wanted))?;
        if wanted == 0 {
            same("owner", frames.look(frame), Some((FrameKind::Memory, child.id)))?;
        }
        child.destroy()?;
        same("kind afterwards", bench.kind(frame), Some(FrameKind::Free))?;
        sys::cap_drop(narrow)?;
    }
    Ok(())
}

fn elsewhere(bench: &mut Bench) -> Outcome {
    // The child tries the very number that works here.
    let frame = bench.frames.find(1).ok_or(Error::NotFree)?;
    let index = u64::from(bench.frames.capability.index());
    let argument = index << 32 | frame.into_word();
    let status = bench.maker.try_out(takes, argument, PATIENCE)?;
    let wanted = Error::BadHandle.code();
    same("the child's answer", status.map(|status| status.code), Some(wanted))
}
