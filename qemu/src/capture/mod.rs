//! Packets of a machine that runs, into one file that Wireshark reads: those on the wire, and, for
//! each environment on an interface of its name, those that it was given and those that it gave to
//! the kernel.
//!
//! What is on the wire QEMU tells (`filter-dump`). What an environment was given and gave lies in its
//! own rings, which are looked at from outside ([`crate::inspect`]) every millisecond: the guest
//! executes nothing for it. Of more packets than a ring has slots in that time, the oldest are not
//! seen; how many these are is noted with the next. What an environment gave and the wire did not
//! get, the kernel has refused; the packet is marked with why, as far as the packet shows it.
//!
//! | file | what it is |
//! |---|---|
//! | [`wire`] | packets of the file that QEMU writes |
//! | [`observer`] | packets of the environments' rings |
//! | [`refusal`] | why a packet is refused |
//! | [`writer`] | the file, in the format pcapng |

mod observer;
mod refusal;
mod wire;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tempfile::TempDir;

use crate::inspect::Memory;
use crate::machine::Config;
use observer::Observer;
use wire::Wire;
use writer::Writer;

/// How often to look.
const GLANCE: Duration = Duration::from_millis(1);
/// How long QEMU may take to begin.
const START: Duration = Duration::from_secs(10);

/// A capture that has not begun.
pub(crate) struct Capture {
    file: PathBuf,
    // What QEMU writes.
    dir: TempDir,
}

/// A capture that goes on until it is dropped, or ended.
pub(crate) struct Capturing {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
    _dir: TempDir,
}

impl Capture {
    /// One into `file`, of the machine that is to be booted with `config`.
    pub(crate) fn new(file: &Path, config: &mut Config) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("exo-capture-").tempdir()?;
        config.capture = Some(dir.path().join("wire.pcap"));
        config.shared_memory = true;
        Ok(Self { file: file.to_owned(), dir })
    }

    /// Captures what the QEMU with that process id does.
    ///
    /// # Errors
    /// If the file cannot be written, or the machine not be looked at.
    pub(crate) fn begin(self, process: u32) -> Result<Capturing> {
        let memory = memory_of(process)?;
        let mut writer = Writer::create(&self.file)?;
        let mut wire = Wire::new(&self.dir.path().join("wire.pcap"));
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut observer = Observer::default();
            loop {
                // What came before is looked at once more.
                let last = seen.load(Ordering::Acquire);
                wire.pass_on(&mut writer)?;
                observer.pass_on(&memory, &mut writer, last)?;
                if last {
                    return observer.finish(&memory, writer);
                }
                std::thread::sleep(GLANCE);
            }
        });
        Ok(Capturing { over, thread: Some(thread), _dir: self.dir })
    }
}

/// The memory of a machine whose process has only just begun: QEMU makes its memory some
/// milliseconds later.
fn memory_of(process: u32) -> Result<Memory> {
    let deadline = Instant::now() + START;
    loop {
        match Memory::of_process(process) {
            Err(_) if Instant::now() < deadline && is_running(process) => {
                std::thread::sleep(GLANCE);
            }
            found => return found,
        }
    }
}

fn is_running(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

impl Capturing {
    /// Ends it, and says how many packets are in the file.
    ///
    /// # Errors
    /// If not all could be written.
    pub(crate) fn end(mut self) -> Result<u64> {
        self.over.store(true, Ordering::Release);
        let thread = self.thread.take().map(JoinHandle::join);
        thread.unwrap_or(Ok(Ok(0))).map_err(|_| anyhow!("the capture failed"))?
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
