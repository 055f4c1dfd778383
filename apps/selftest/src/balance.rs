//! Every frame comes back: free frames of the grant before and after. Nothing here
//! takes frames from anywhere else, and others may do so meanwhile.

use exo_abi::boot::SELF;
use exo_abi::{Protection, Rights, Word};
use libos::sys;
use selftest::check::{Outcome, same};
use selftest::child::{Code, SHARED, exit};
use selftest::frames::write;

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("frames come back from children", children),
    ("frames come back from a child that took all it could", greedy),
];

extern "C" fn ends(code: u64) -> ! {
    exit(code)
}

extern "C" fn faults(_: u64) -> ! {
    write(SHARED, 0, 1);
    exit(1)
}

fn children(bench: &mut Bench) -> Outcome {
    let before = bench.frames.free();
    for code in [ends as Code, faults] {
        for _ in 0..3 {
            bench.maker.try_out(code, 0, PATIENCE)?;
            same("free frames", bench.frames.free(), before)?;
        }
    }
    Ok(())
}

/// Takes frames, page tables and capability slots as long as it can.
extern "C" fn takes_all(range: u64) -> ! {
    let frames = exo_abi::Handle::first(1);
    let (first, count) = (exo_abi::Pfn(range as u32), (range >> 32) as u32);
    for offset in 0..count {
        let frame = first.plus(offset);
        if sys::frames_take(frames, SELF, frame, 1).is_err() {
            exit(1);
        }
        let Some(at) = exo_abi::VirtAddr::new(0x30_0000_0000 + u64::from(offset) * 4096) else {
            exit(2)
        };
        let taken = match offset % 3 {
            0 => sys::cap_grow(frame),
            1 => exo_abi::Level::new(3).map_or(Ok(0), |level| {
                let far = exo_abi::VirtAddr::new(u64::from(offset) << 39).unwrap_or(at);
                sys::table_install(SELF, far, level, frame)
            }),
            _ => sys::map(SELF, SELF, frame, SHARED, 1, Protection::Read),
        };
        // Refusals are fine; the frame is taken all the same.
        let _ = taken;
    }
    exit(0)
}

fn greedy(bench: &mut Bench) -> Outcome {
    let before = bench.frames.free();
    let child = bench.maker.child()?;
    let count = 120;
    let first = bench.frames.find(count).ok_or(exo_abi::Error::NotFree)?;
    let rights = Rights::TAKE.with(Rights::GRANT);
    let capability = bench.frames.capability;
    let narrow = sys::cap_derive(capability, rights, first.into_word(), u64::from(count))?;
    let narrow = exo_abi::Handle::from_word(narrow)?;
    let handle = exo_abi::Handle::from_word(sys::cap_grant(narrow, child.env)?)?;
    same("slot", handle, exo_abi::Handle::first(1))?;
    child.start(takes_all, u64::from(count) << 32 | first.into_word())?;
    let status = child.wait(PATIENCE)?;
    same("exit code", status.map(|status| status.code), Some(0))?;
    child.destroy()?;
    sys::cap_drop(narrow)?;
    same("free frames", bench.frames.free(), before)
}
