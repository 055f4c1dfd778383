//! The plugin in QEMU, and the events that come from it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::mem::offset_of;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use anyhow::{Context, Result, ensure};
use exo_abi::UpcallArea;
use memmap2::MmapMut;
use tempfile::TempDir;

use super::journal::{BYTES, CAPACITY, EVENT_WORDS, Event, word};
use super::labels::Labels;
use crate::bench::counter;
use crate::machine::{Config, Machine, option_value};

/// Takes the events of one machine.
pub(crate) struct Recorder {
    plugin: PathBuf,
    map: MmapMut,
    // Table and journal.
    dir: TempDir,
}

impl Recorder {
    /// One for the machine of `config`, which it gives the arguments that are needed. Builds the
    /// plugin.
    pub(crate) fn new(labels: &Labels, config: &mut Config) -> Result<Self> {
        let plugin = counter::build()?;
        let dir = tempfile::Builder::new().prefix("exo-trace-").tempdir()?;
        std::fs::write(dir.path().join("table"), labels.encode())
            .context("cannot write the table of instructions")?;
        let path = dir.path().join("journal");
        let file: File = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
        file.set_len(BYTES)?;
        // SAFETY: the file was made just now in a directory of our own, and no other process
        // cuts it; both sides use it through atomics only.
        let map = unsafe { MmapMut::map_mut(&file) }.context("cannot map the journal")?;
        let recorder = Self { plugin, map, dir };
        let cores = labels.cores();
        for (index, value) in [
            (word::KERNEL_BASE, exo_boot::layout::KERNEL_BASE),
            (word::DIRECT_MAP, exo_boot::layout::DIRECT_MAP),
            (word::MEMORY, u64::from(config.memory) << 20),
            (word::CORES, cores.address),
            (word::STRIDE, cores.stride),
            (word::UPCALLS, cores.upcalls),
            (word::REASON, offset_of!(UpcallArea, reason) as u64),
            (word::VECTOR, offset_of!(UpcallArea, vector) as u64),
        ] {
            recorder.word(index).store(value, Relaxed);
        }
        // All processors take turns in one thread of QEMU's then.
        config.count_instructions();
        config.extra.extend(recorder.arguments());
        Ok(recorder)
    }

    /// Arguments for QEMU.
    fn arguments(&self) -> [OsString; 2] {
        let mut plugin = OsString::from("file=");
        plugin.push(option_value(&self.plugin));
        for (argument, name) in [("table", "table"), ("trace", "journal")] {
            plugin.push(format!(",{argument}="));
            plugin.push(option_value(&self.dir.path().join(name)));
        }
        ["-plugin".into(), plugin]
    }

    /// Whether events are wanted from now on.
    pub(crate) fn want(&self, wanted: bool) {
        self.word(word::WANTED).store(wanted.into(), Release);
    }

    /// Instructions executed so far.
    pub(crate) fn executed(&self) -> u64 {
        self.word(word::EXECUTED).load(Relaxed)
    }

    /// Fails if QEMU runs without the plugin. To be called when the guest has spoken.
    pub(crate) fn ensure_ready(&self, machine: &Machine) -> Result<()> {
        ensure!(
            self.word(word::READY).load(Acquire) != 0,
            "QEMU did not load the plugin; it must be built with plugins, as Debian's is\n{}",
            machine.report()
        );
        Ok(())
    }

    /// The events that have come since the last time, at most as many as there is room for.
    pub(crate) fn take(&self) -> Vec<Event> {
        let consumed = self.word(word::CONSUMED).load(Relaxed);
        let produced = self.word(word::PRODUCED).load(Acquire);
        let events = (consumed..produced).map(|number| {
            let first = word::EVENTS + number as usize % CAPACITY * EVENT_WORDS;
            Event::of_words([0, 1, 2].map(|index| self.word(first + index).load(Relaxed)))
        });
        let events = events.collect();
        self.word(word::CONSUMED).store(produced, Release);
        events
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: the map begins on a page and any bytes are valid atomics, which may
        // be shared with another process.
        let (_, words, _) = unsafe { self.map.align_to::<AtomicU64>() };
        &words[index]
    }
}
