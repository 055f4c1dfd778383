//! What is done in one entry: counted by what has changed, whatever it was said to cost.

use exo_abi::{Error, FrameKind, LARGE_PAGES, Pfn};

use crate::kernel::Kernel;
use crate::testing::{ALL_FRAMES, call, child, destroy, machine, stint, tables};

const AT: u64 = 0x4000_0000;
/// The frames of a large page: aligned as such.
const RUN: u32 = 1024;
/// Large pages of one directory.
const LARGE: u64 = 200;

/// A child with one large page mapped again and again.
fn directory() -> (&'static Kernel, &'static crate::env::Env, u64) {
    let (kernel, root) = machine();
    let (_, handle) = child(kernel, root, 600);
    tables(kernel, root, handle, AT, 610);
    call(kernel, root, "table_remove", &[handle, AT, 1]).expect("empty");
    for first in (RUN..RUN + 512).step_by(64) {
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, first.into(), 64]).expect("free");
    }
    for page in 0..LARGE {
        let at = AT + page * 0x20_0000;
        let words = [handle, handle, RUN.into(), at, LARGE_PAGES.into(), 1];
        call(kernel, root, "map", &words).expect("mappable");
    }
    (kernel, root, handle)
}

/// Large pages that are mapped.
fn mapped(kernel: &Kernel) -> u32 {
    kernel.frames.mappings(Pfn(RUN + 511))
}

#[test]
fn destroying_a_directory_of_large_pages_stops_in_the_middle_of_it() {
    let (kernel, root, handle) = directory();
    let mut before = mapped(kernel);
    assert_eq!(u64::from(before), LARGE);
    let mut calls = 0;
    while kernel.frames.kind(Pfn(RUN)) == Some(FrameKind::Memory) && before > 0 {
        assert_eq!(call(kernel, root, "env_destroy", &[handle]), Err(Error::Again));
        let after = mapped(kernel);
        assert!(before - after <= 8, "{} times 512 frames in one call", before - after);
        before = after;
        calls += 1;
        assert!(calls < 1000, "no end");
    }
    assert!(calls > 20, "{calls}");
    assert_eq!(destroy(kernel, root, handle), Ok(()));
}

#[test]
fn taking_a_frame_of_many_large_pages_stops_in_the_middle_of_a_table() {
    let (kernel, root, handle) = directory();
    let (mut before, mut calls) = (mapped(kernel), 0);
    let taken = loop {
        let result = call(kernel, root, "revoke_enforce", &[handle, RUN.into()]);
        let after = mapped(kernel);
        assert!(before - after <= 8, "{} times 512 frames in one call", before - after);
        before = after;
        calls += 1;
        match result {
            Err(Error::Again) => assert!(calls < 1000, "no end"),
            result => break result,
        }
    };
    assert_eq!((taken, mapped(kernel)), (Ok(0), 0));
    assert!(calls > 20, "{calls}");
}

/// As long as an entry may look at a whole page table, and a little more, what is called
/// again and again gets done.
#[test]
fn little_work_gets_everything_done() {
    let (kernel, root, handle) = directory();
    stint(12_000);
    let mut steps = 0;
    while call(kernel, root, "revoke_enforce", &[handle, RUN.into()]) == Err(Error::Again) {
        steps += 1;
        assert!(steps < 20_000, "no end of taking");
    }
    assert_eq!(destroy(kernel, root, handle), Ok(()));
}
