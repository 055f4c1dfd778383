//! What may be mapped, and what the counts say.

use exo_abi::{Error, FrameKind, LARGE_PAGES, Pfn, UserPtr};

use super::translate;
use crate::testing::{
    ALL_FRAMES, FIRST_FREE, NET, OWN, call, child, destroy, free_frames, machine, page, root_of,
    tables,
};
use crate::user::UserSlice;

const AT: u64 = 0x40_0000;
/// As a call's argument.
const LARGE_RUN: u64 = LARGE_PAGES as u64;

#[test]
fn only_own_memory_can_be_mapped_and_only_sensibly() {
    let (kernel, root) = machine();
    let (env, handle) = child(kernel, root, 600);
    tables(kernel, root, handle, AT, 610);
    call(kernel, root, "frames_take", &[ALL_FRAMES, handle, 620, 2]).expect("free");
    let map =
        |frame: u64, protection| call(kernel, env, "map", &[OWN, OWN, frame, AT, 1, protection]);
    for frame in 0..u64::from(kernel.frames.count()) + 10 {
        let owned = (620..622).contains(&frame) || frame == 603;
        let table = (610..613).contains(&frame) || frame == 601;
        let info = frame == 9;
        let writable = map(frame, 1);
        assert_eq!(writable.is_ok(), owned, "frame {frame}, writable: {writable:?}");
        if owned {
            call(kernel, env, "unmap", &[OWN, AT, 1]).expect("mapped");
        }
        let readable = map(frame, 0);
        assert_eq!(readable.is_ok(), owned || table || info, "frame {frame}: {readable:?}");
        call(kernel, env, "unmap", &[OWN, AT, 1]).expect("harmless");
        assert_eq!(map(frame, 2).is_ok(), owned, "frame {frame}, executable");
        call(kernel, env, "unmap", &[OWN, AT, 1]).expect("harmless");
    }
    assert_eq!(map(620, 3), Err(Error::BadArgument), "writable and executable");
    assert_eq!(kernel.frames.mappings(Pfn(620)), 0);
    assert_eq!(kernel.frames.mappings(Pfn(612)), 0, "the table is empty again");
}

#[test]
fn mapping_is_all_or_none() {
    let (kernel, root) = machine();
    tables(kernel, root, OWN, AT, 610);
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 620, 3]).expect("free");
    let map = |first: u64, at: u64, count: u64| {
        call(kernel, root, "map", &[OWN, OWN, first, at, count, 1])
    };
    assert_eq!(map(620, AT, 4), Err(Error::NotOwned), "the fourth is not ours");
    assert_eq!(map(620, AT + 0x1f_e000, 3), Err(Error::NoTable), "the third has no table");
    assert_eq!(map(620, AT + 8, 1), Err(Error::BadAddress));
    assert_eq!(map(620, 0xffff_8000_0000_0000, 1), Err(Error::BadAddress));
    assert_eq!(map(620, 0x7fff_ffff_f000, 1), Err(Error::BadAddress));
    assert_eq!(map(620, AT, 65), Err(Error::TooMuch));
    assert_eq!(map(u64::from(u32::MAX), AT, 2), Err(Error::OutOfRange));
    assert_eq!(kernel.frames.mappings(Pfn(612)), 0);
    assert_eq!(map(620, AT, 3), Ok(0));
    assert_eq!(map(620, AT + 0x2000, 1), Err(Error::Occupied));
    assert_eq!(kernel.frames.mappings(Pfn(612)), 3);
    assert_eq!(call(kernel, root, "frames_free", &[620, 3]), Err(Error::InUse));
    call(kernel, root, "unmap", &[OWN, AT, 64]).expect("gaps are skipped");
    assert_eq!(call(kernel, root, "frames_free", &[620, 3]), Ok(0));
}

#[test]
fn tables_come_out_only_empty_and_unseen() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    tables(kernel, root, OWN, AT, 610);
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 620, 1]).expect("free");
    call(kernel, root, "map", &[OWN, OWN, 620, AT, 1, 1]).expect("mappable");
    let remove = |level| call(kernel, root, "table_remove", &[OWN, AT, level]);
    assert_eq!(remove(1), Err(Error::InUse), "not empty");
    assert_eq!(remove(2), Err(Error::InUse), "holds a table");
    call(kernel, root, "unmap", &[OWN, AT, 1]).expect("mapped");
    call(kernel, root, "map", &[OWN, OWN, 612, AT + 0x1000, 1, 0]).expect("own table, read-only");
    assert_eq!(remove(1), Err(Error::InUse));
    call(kernel, root, "unmap", &[OWN, AT + 0x1000, 1]).expect("mapped");
    for level in 1..=3 {
        assert_eq!(remove(level), Ok(0));
    }
    assert_eq!(remove(1), Err(Error::Vacant));
    assert_eq!(call(kernel, root, "table_remove", &[OWN, AT, 4]), Err(Error::BadArgument));
    call(kernel, root, "frames_free", &[610, 3]).expect("plain memory again");
    call(kernel, root, "frames_free", &[620, 1]).expect("unmapped");
    assert_eq!(free_frames(kernel), before);
}

#[test]
fn the_kernels_half_is_the_same_everywhere() {
    let (kernel, root) = machine();
    // SAFETY: the kernel's root table is a frame of simulated memory.
    let kernels = unsafe { &mut *crate::memory::frame(kernel.root_table).cast::<[u64; 512]>() };
    kernels[511] = 0x1234_5003;
    let (env, _) = child(kernel, root, 600);
    let mine = root_of(kernel, env);
    assert_eq!(mine.0[511].load(std::sync::atomic::Ordering::Relaxed), 0x1234_5003);
    assert_eq!(mine.0[0].load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn user_pointers_are_checked_page_by_page() {
    let (kernel, root) = machine();
    tables(kernel, root, OWN, AT, 610);
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 620, 2]).expect("free");
    call(kernel, root, "map", &[OWN, OWN, 620, AT, 1, 1]).expect("writable");
    call(kernel, root, "map", &[OWN, OWN, 621, AT + 0x1000, 1, 0]).expect("read-only");
    let frames = &kernel.frames;
    let slice = |at| UserSlice::new(root.root_table.get(), UserPtr(at));
    let text: Vec<u8> = (0..64).collect();
    assert_eq!(slice(AT + 100).copy_out(frames, &text), Ok(()));
    let mut back = [0; 64];
    assert_eq!(slice(AT + 100).copy_in(frames, &mut back), Ok(()));
    assert_eq!(back[..], text);
    // As long as the buffer, whatever else is there.
    let mut part = [0; 8];
    assert_eq!(slice(AT + 101).copy_in(frames, &mut part), Ok(()));
    assert_eq!(part[..], text[1..9]);
    assert_eq!(slice(AT + 0xfe0).copy_in(frames, &mut []), Ok(()), "nothing");
    assert_eq!(slice(AT + 0xfe0).copy_in(frames, &mut back), Ok(()), "two pages");
    assert_eq!(slice(AT + 0xfe0).copy_out(frames, &text), Err(Error::BadPointer));
    for wild in
        [0, 0xfff, AT - 1, AT + 0x1fe0, u64::MAX, u64::MAX - 40, 1 << 47, 0xffff_8000_0000_0000]
    {
        assert_eq!(slice(wild).copy_in(frames, &mut back), Err(Error::BadPointer), "{wild:#x}");
    }
    assert_eq!(translate(frames, root.root_table.get(), page(AT / 4096), true), Some(Pfn(620)));
    assert_eq!(translate(frames, root.root_table.get(), page(AT / 4096 + 1), true), None);
}

#[test]
fn frames_are_taken_and_freed_by_name() {
    let (kernel, root) = machine();
    let take = |first: u64, count: u64| {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, first, count])
    };
    assert_eq!(take(0, 1), Err(Error::NotFree), "the kernel's");
    assert_eq!(take(u64::from(FIRST_FREE), 1), Err(Error::NotFree), "root's own object");
    assert_eq!(take(2040, 9), Err(Error::OutOfRange));
    assert_eq!(take(700, 65), Err(Error::TooMuch));
    assert_eq!(take(700, u64::MAX), Err(Error::BadArgument));
    assert_eq!(take(700, 8), Ok(0));
    assert_eq!(take(707, 2), Err(Error::NotFree));
    assert_eq!(kernel.frames.kind(Pfn(708)), Some(FrameKind::Free), "all or none");
    assert_eq!(call(kernel, root, "frames_free", &[707, 2]), Err(Error::NotOwned));
    assert_eq!(call(kernel, root, "frames_free", &[700, 8]), Ok(0));
    assert_eq!(call(kernel, root, "frames_take", &[NET, OWN, 700, 1]), Err(Error::BadHandle));
}

#[test]
fn large_pages_count_every_frame_and_take_no_less() {
    const LARGE: u64 = 0x4000_0000;
    let (kernel, root) = machine();
    // Two tables are enough: the third would be in the way.
    for (level, frame) in [(3, 600), (2, 601)] {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, frame, 1]).expect("free");
        call(kernel, root, "table_install", &[OWN, LARGE, level, frame]).expect("a table");
    }
    for first in (1024..1536).step_by(64) {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, first, 64]).expect("free");
    }
    let map = |first, at| call(kernel, root, "map", &[OWN, OWN, first, at, LARGE_RUN, 1]);
    assert_eq!(map(1024, LARGE + 0x1000), Err(Error::BadAddress));
    assert_eq!(map(1025, LARGE), Err(Error::BadArgument));
    assert_eq!(map(1536, LARGE), Err(Error::NotOwned), "free frames");
    assert_eq!(map(512, LARGE), Err(Error::NotOwned), "frames of which some are objects");
    assert_eq!(map(1 << 31, LARGE), Err(Error::NotOwned), "no frames");
    assert_eq!(map(1024, 0x80_0000_0000), Err(Error::NoTable));
    assert_eq!(map(1024, LARGE), Ok(0));
    assert_eq!(map(1024, LARGE), Err(Error::Occupied));
    let frames = &kernel.frames;
    let found =
        |page: u64| translate(frames, root.root_table.get(), crate::testing::page(page), true);
    assert_eq!(found(LARGE / 4096 + 511), Some(Pfn(1535)));
    assert_eq!(found(LARGE / 4096 + 512), None);
    assert!((1024..1536).all(|frame| frames.mappings(Pfn(frame)) == 1));
    assert_eq!(frames.mappings(Pfn(1536)), 0);
    // Nothing can be put where it is, and nothing below it taken out.
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 602, 1]).expect("free");
    let install = call(kernel, root, "table_install", &[OWN, LARGE, 1, 602]);
    assert_eq!(install, Err(Error::Occupied));
    assert_eq!(call(kernel, root, "table_remove", &[OWN, LARGE, 1]), Err(Error::Vacant));
    assert_eq!(call(kernel, root, "map", &[OWN, OWN, 602, LARGE, 1, 1]), Err(Error::NoTable));
    assert_eq!(call(kernel, root, "unmap", &[OWN, LARGE, 1]), Ok(0), "no small page");
    assert_eq!(call(kernel, root, "frames_free", &[1500, 1]), Err(Error::InUse));
    assert_eq!(call(kernel, root, "table_remove", &[OWN, LARGE, 2]), Err(Error::InUse));
    assert_eq!(call(kernel, root, "unmap", &[OWN, LARGE, LARGE_RUN]), Ok(0));
    assert_eq!(call(kernel, root, "unmap", &[OWN, LARGE, LARGE_RUN]), Err(Error::Vacant));
    assert!((1024..1536).all(|frame| frames.mappings(Pfn(frame)) == 0));
    assert_eq!(call(kernel, root, "table_remove", &[OWN, LARGE, 2]), Ok(0));
}

#[test]
fn destruction_undoes_large_pages() {
    let (kernel, root) = machine();
    let before = free_frames(kernel);
    let (_, handle) = child(kernel, root, 600);
    for (level, frame) in [(3, 610), (2, 611)] {
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, frame, 1]).expect("free");
        call(kernel, root, "table_install", &[handle, 0x4000_0000, level, frame]).expect("a table");
    }
    for first in (1024..1536).step_by(64) {
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, first, 64]).expect("free");
    }
    call(kernel, root, "map", &[handle, handle, 1024, 0x4000_0000, LARGE_RUN, 1])
        .expect("mappable");
    assert_eq!(destroy(kernel, root, handle), Ok(()));
    assert_eq!(free_frames(kernel), before);
}

#[test]
fn the_last_page_of_user_space_is_not_mapped_by_a_large_one() {
    let (kernel, root) = machine();
    let last = exo_abi::USER_TOP / (2 << 20) * (2 << 20);
    for (level, frame) in [(3, 600), (2, 601)] {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, frame, 1]).expect("free");
        call(kernel, root, "table_install", &[OWN, last, level, frame]).expect("a table");
    }
    for first in (1024..1536).step_by(64) {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, first, 64]).expect("free");
    }
    let map = |at| call(kernel, root, "map", &[OWN, OWN, 1024, at, LARGE_RUN, 1]);
    assert_eq!(map(last), Err(Error::BadAddress));
    assert_eq!(kernel.frames.mappings(Pfn(1024)), 0);
    assert_eq!(map(last - (2 << 20)), Ok(0));
}

#[test]
fn a_run_that_leaves_user_space_is_left_alone() {
    let (kernel, root) = machine();
    let last = exo_abi::USER_TOP - 4096;
    tables(kernel, root, OWN, last, 610);
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 620, 1]).expect("free");
    call(kernel, root, "map", &[OWN, OWN, 620, last, 1, 1]).expect("mappable");
    assert_eq!(call(kernel, root, "unmap", &[OWN, last, 2]), Err(Error::BadAddress));
    assert_eq!(kernel.frames.mappings(Pfn(620)), 1);
    assert_eq!(call(kernel, root, "unmap", &[OWN, last, 1]), Ok(0));
    assert_eq!(kernel.frames.mappings(Pfn(620)), 0);
}
