//! Which processor of the host executes what.

use std::fs;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// What was pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The processor of the host on which the guest's run.
    pub guest: usize,
    /// Threads that execute the guest.
    pub threads: usize,
}

/// Pins QEMU's threads, which have names only with `debug-threads=on`, and the caller's.
pub(super) fn pin(qemu: u32) -> Result<Option<Pinned>> {
    // Not the caller's: it may have been pinned with another machine already, which this one
    // is to share the processor with.
    let allowed = sched_getaffinity(Pid::from_raw(qemu as i32));
    let allowed = allowed.context("cannot ask which processors QEMU may use")?;
    let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    let Some(guest) = processors.next() else { return Ok(None) };
    let mut others = CpuSet::new();
    processors.for_each(|processor| others.set(processor));
    if others.count() == 0 {
        return Ok(None);
    }
    let mut own = CpuSet::new();
    own.set(guest);

    let mut threads = 0;
    let tasks = format!("/proc/{qemu}/task");
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let task = task?.path();
        // A thread may end meanwhile.
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let id = task.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else { continue };
        let executes = name.starts_with("CPU ");
        threads += usize::from(executes);
        let _ = sched_setaffinity(Some(id), if executes { &own } else { &others });
    }
    sched_setaffinity(None, &others).context("cannot pin this thread")?;
    Ok(Some(Pinned { guest, threads }))
}
