//! Root's part of the boot image: the page that the kernel reads, and the pages that it maps.

use anyhow::{Context, Result, ensure};
use exo_abi::{Protection, boot};
use exo_boot::launch::{MAGIC, RUNS, Run};
use exo_bundle::{EXEC, PAGE, READ, WRITE};

use super::{Image, Segment, write_bundle};

/// The first page and those of `root`, its stack behind them.
pub(super) fn pages(root: &Image) -> Result<Vec<u8>> {
    // The rules of an image in a bundle are root's, too.
    write_bundle(core::slice::from_ref(root), &[])?;
    let stack = Segment {
        va: boot::STACK_TOP - u64::from(boot::STACK_PAGES) * PAGE,
        mem_len: u64::from(boot::STACK_PAGES) * PAGE,
        flags: READ | WRITE,
        data: Vec::new(),
    };
    let segments: Vec<_> = root.segments.iter().chain([&stack]).collect();
    for segment in &root.segments {
        let end = (segment.va + segment.mem_len).next_multiple_of(PAGE);
        let meets = |from, to| segment.va < to && from < end;
        ensure!(
            !meets(stack.va, boot::STACK_TOP) && !meets(boot::U_AREA, boot::U_AREA + PAGE),
            "root lies where its stack or U-area goes"
        );
    }
    let mut runs = segments.iter().map(|segment| run(segment)).collect::<Result<Vec<_>>>()?;
    ensure!(runs.len() <= RUNS, "root has more than {} segments", RUNS - 1);
    runs.resize(RUNS, Run::default());

    let mut bytes = MAGIC.to_le_bytes().to_vec();
    bytes.extend(root.entry.to_le_bytes());
    for run in &runs {
        bytes.extend(run.at.to_le_bytes());
        bytes.extend(run.pages.to_le_bytes());
        bytes.extend(run.protection.to_le_bytes());
    }
    bytes.resize(PAGE as usize, 0);
    for (segment, run) in segments.iter().zip(&runs) {
        let end = bytes.len() + run.pages as usize * PAGE as usize;
        bytes.extend(&segment.data);
        bytes.resize(end, 0);
    }
    Ok(bytes)
}

/// How a segment is to be mapped.
fn run(segment: &Segment) -> Result<Run> {
    let protection = match (segment.flags & WRITE != 0, segment.flags & EXEC != 0) {
        (true, _) => Protection::ReadWrite,
        (false, true) => Protection::ReadExecute,
        (false, false) => Protection::Read,
    };
    let pages = u32::try_from(segment.mem_len.div_ceil(PAGE)).context("root is too long")?;
    Ok(Run { at: segment.va, pages, protection: protection as u32 })
}
