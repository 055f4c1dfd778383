//! Starting a store that holds many items: what it reads before it answers.
//!
//! The store as a Linux process fills a file, which then becomes the store's extent of a disk: the
//! log is the same. Exo boots with it, and with an empty one; the difference is what reading takes.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kvstore::durable::promise::Promise;
use root::extents::SECTOR;
use serde::Serialize;

use crate::bench::counter::Counter;
use crate::bench::get::store_of;
use crate::bench::load::{Verb, Workload};
use crate::bench::steps::Steps;
use crate::bench::table::Table;
use crate::disk::{Image, Place};
use crate::linux::Store;
use crate::machine::{Config, Machine, Network};
use crate::manifest::{self, DiskShare};
use crate::output::note;
use crate::signals::Signals;
use crate::{guest, workspace};

/// MiB of the store for a million items of 16 and 64 bytes, and what the machine has beside that.
const MIB_PER_MILLION: u32 = 192;
const FRAMES_BESIDE: u32 = 8192;
/// How long a start may take, every instruction counted.
const READY: Duration = Duration::from_secs(1200);

/// What starting takes.
#[derive(Debug, Serialize)]
pub(super) struct Start {
    pub(super) items: u32,
    /// Bytes of log that are read.
    pub(super) log_bytes: u64,
    /// Instructions more than with an empty extent.
    pub(super) instructions: f64,
    /// Seconds on this host, emulated, from the first line of the console to the one that says that
    /// it serves, less those of an empty extent.
    pub(super) seconds: f64,
    /// Seconds of the Linux process, from its start until it serves.
    pub(super) process_seconds: f64,
}

/// Measures a store of `items` items.
///
/// # Errors
/// It is not filled, or does not start.
pub(super) fn measure(items: u32, interrupt: &Signals) -> Result<Start> {
    let mib = (MIB_PER_MILLION * items.div_ceil(50_000) / 20).max(24);
    // As the store itself computes it, generously.
    let sectors = mib * 3 * 2048 + (16 << 11);
    let directory = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let log = directory.path().join("log");
    File::create(&log)?.set_len(u64::from(sectors) * SECTOR as u64)?;
    let store = Store { promise: Some(Promise::Group(1000)), ..Store::new(1, mib) };
    note!("bench: {items} items into a store as a Linux process");
    let (child, address, _) = start(&store, &log)?;
    fill(address, items, interrupt)?;
    drop(child);
    let (child, _, process_seconds) = start(&store, &log)?;
    drop(child);

    let mut counts = [0.0; 2];
    let mut times = [0.0; 2];
    for (index, full) in [false, true].into_iter().enumerate() {
        let disk = directory.path().join("disk");
        let image = Image::create(&disk, sectors + (1 << 11))?;
        let (mut table, _) = image.table()?;
        let extent = table.claim("store", sectors).context("the disk is too short")?.extent;
        image.write(&mut table)?;
        if full {
            copy(&log, &disk, u64::from(extent.first) * SECTOR as u64)?;
        }
        let wanted = if full { items } else { 0 };
        let config = config(mib, sectors, &disk)?;
        note!("bench: Exo with {wanted} items");
        times[index] = seconds(&config, interrupt)?;
        counts[index] = instructions(config, wanted, interrupt)?;
        std::fs::remove_file(&disk)?;
    }
    Ok(Start {
        items,
        log_bytes: written(&log)?,
        instructions: counts[1] - counts[0],
        seconds: times[1] - times[0],
        process_seconds,
    })
}

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the process on a file: where it serves, and after how many seconds.
fn start(store: &Store, log: &Path) -> Result<(Killed, SocketAddr, f64)> {
    let mut command = store.on_this_host(0)?;
    command.arg("--durable").arg(log).stdout(Stdio::piped());
    let begin = Instant::now();
    let mut child = Killed(command.spawn().context("cannot start the store")?);
    let output = child.0.stdout.take().context("it has no output")?;
    for line in BufReader::new(output).lines() {
        if let Some(address) = line?.strip_prefix("kvstore: serving ") {
            return Ok((child, address.parse()?, begin.elapsed().as_secs_f64()));
        }
    }
    anyhow::bail!("the store does not serve")
}

fn fill(address: SocketAddr, items: u32, interrupt: &Signals) -> Result<()> {
    const AT_ONCE: u32 = 500;
    let mut stream = TcpStream::connect(address)?;
    let workload = Workload { verb: Verb::Set, ..Workload::gets(16, 64) };
    let mut number = 0;
    while number < items {
        interrupt.check()?;
        let batch = number..items.min(number + AT_ONCE);
        let (mut requests, mut wanted) = (Vec::new(), Vec::new());
        for number in batch.clone() {
            requests.extend(workload.request(number));
            wanted.extend(workload.answer(number));
        }
        stream.write_all(&requests)?;
        let mut came = vec![0; wanted.len()];
        stream.read_exact(&mut came)?;
        ensure!(came == wanted, "the store gave a wrong answer, at item {}", batch.start);
        number = batch.end;
    }
    Ok(())
}

/// Copies what is not zero.
fn copy(from: &Path, to: &Path, at: u64) -> Result<()> {
    let mut from = File::open(from)?;
    let to = OpenOptions::new().write(true).open(to)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = at;
    loop {
        let count = from.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        if piece[..count].iter().any(|&byte| byte != 0) {
            to.write_all_at(&piece[..count], at)?;
        }
        at += count as u64;
    }
}

/// Bytes up to the last that is not zero, of the half that is in use.
fn written(log: &Path) -> Result<u64> {
    let mut file = File::open(log)?;
    let (mut piece, mut bytes) = (vec![0; 1 << 20], 0);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(bytes);
        }
        if piece[..count].iter().any(|&byte| byte != 0) {
            bytes += count as u64;
        }
    }
}

fn config(mib: u32, sectors: u32, disk: &Path) -> Result<Config> {
    let mut config = Config::new(manifest::read(&workspace::manifest("bench"))?);
    let name = store_of(&config.manifest)?.name.clone();
    for app in config.manifest.apps.iter_mut().filter(|app| app.name == name) {
        app.frames = mib * 256 + FRAMES_BESIDE;
        app.args.push(format!("memory-mib={mib}"));
        app.disk = Some(DiskShare { name: "store".into(), sectors });
    }
    config.memory = mib + 128;
    config.disk = Some(Place { path: disk.to_owned(), sectors: None });
    config.network = Network::Frames;
    Ok(config)
}

/// Seconds from the first line to the one that says that it serves.
fn seconds(config: &Config, interrupt: &Signals) -> Result<f64> {
    let machine = Machine::boot(config)?;
    machine.wait_for_line("", READY)?;
    let begin = Instant::now();
    wait(&machine, ": serving", interrupt)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Instructions from the start until the store sleeps.
fn instructions(mut config: Config, items: u32, interrupt: &Signals) -> Result<f64> {
    let store = store_of(&config.manifest)?.image.clone();
    let table = Table::of_programs(
        [guest::KERNEL, guest::ROOT, &store],
        &Steps::of_workspace()?,
        interrupt,
    )?;
    let counter = Counter::new(&table)?;
    config.count_instructions();
    config.extra = counter.arguments();
    let machine = Machine::boot(&config)?;
    wait(&machine, &format!("durable; {items} items"), interrupt)?;
    wait(&machine, ": serving", interrupt)?;
    counter.wait_until_at_rest(&machine, interrupt)?;
    Ok(counter.total() as f64)
}

fn wait(machine: &Machine, line: &str, interrupt: &Signals) -> Result<()> {
    let start = Instant::now();
    while let Err(error) = machine.wait_for_line(line, Duration::from_millis(50)) {
        interrupt.check()?;
        if !machine.running() || start.elapsed() > READY {
            return Err(error);
        }
    }
    Ok(())
}
