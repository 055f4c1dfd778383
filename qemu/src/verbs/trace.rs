//! `cargo exo trace`: what kernel and applications do, in one timeline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;

use super::run::Console;
use crate::bench::conditions::Conditions;
use crate::guest;
use crate::machine::{Config, HostPorts, MAX_CPUS, Machine, Network};
use crate::manifest::{Choice, Chosen};
use crate::output::{note, say};
use crate::prerequisites::QEMU;
use crate::signals::Signals;
use crate::trace::{Labels, Recorder, Timeline, chrome, picture, text};

/// How often to look for signals and events.
const GLANCE: Duration = Duration::from_millis(5);

/// Record what kernel and applications do in one timeline, for Perfetto and as text
///
/// Boots a machine with a plugin in QEMU that tells which code the guest comes to: system calls,
/// upcalls, exceptions, slices, the steps of packets, revocations, ring 0. Nothing is added to the
/// guest. Its clock counts instructions (as with run --icount), and so does the timeline. Ends with
/// the machine, with Ctrl-C, or with as many events as are wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Where to save the timeline for Perfetto (https://ui.perfetto.dev), as JSON
    #[arg(long, short, value_name = "FILE", default_value = "trace.json")]
    output: PathBuf,
    /// Where to save the timeline as text, too
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Where to draw the timeline, too, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Begin when a line of the console contains this, instead of with the first instruction
    #[arg(long, value_name = "WORDS")]
    from: Option<String>,
    /// Changes of code to record at most: how large the files may become
    #[arg(long, default_value_t = 200_000, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=50_000_000))]
    events: usize,
    /// Processors of the machine, 1 to 4
    #[arg(long, default_value_t = 1,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_CPUS.into()))]
    cpus: u32,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    QEMU.require()?;
    let Chosen { manifest, package, .. } = args.choice.read("default")?;
    guest::build_with(&manifest, package.as_deref())?;
    note!("trace: reading the programs' debug information");
    let mut images: Vec<_> = manifest.apps.iter().map(|app| app.image.clone()).collect();
    images.push(guest::ROOT.to_owned());
    images.sort();
    images.dedup();
    let labels = Labels::of_programs(images.iter().map(String::as_str))?;

    let mut timeline = Timeline::new(&manifest);
    let mut config = Config::new(manifest);
    config.package = package;
    config.cpus = args.cpus;
    config.network = Network::User(HostPorts::Free);
    let recorder = Recorder::new(&labels, &mut config)?;
    recorder.want(args.from.is_none());
    let signals = Signals::register()?;
    let machine = Machine::boot(&config)?;
    for forward in machine.forwards() {
        note!("trace: {} to {} on 127.0.0.1:{}", forward.protocol(), forward.app, forward.host);
    }
    note!("trace: recording; Ctrl-C ends the machine");
    let count = record(args, &recorder, &machine, &labels, &mut timeline, &signals)?;
    timeline.finish(recorder.executed());
    drop(machine);

    let conditions = Conditions::now("TCG, microvm, -cpu max, -icount shift=0,sleep=off");
    write(&args.output, &serde_json::to_string(&chrome::json(&timeline, &conditions))?)?;
    say!(
        "{}: {} slices and {} moments, of {count} changes of code in {} instructions",
        args.output.display(),
        timeline.slices.len(),
        timeline.moments.len(),
        recorder.executed()
    )?;
    say!("  open it at https://ui.perfetto.dev, or in Chromium at chrome://tracing")?;
    if let Some(path) = &args.text {
        write(path, &text::text(&timeline))?;
        say!("{}: the same as text", path.display())?;
    }
    if let Some(path) = &args.plot {
        write(path, &picture::svg(&timeline)?)?;
        say!("drawn in {}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Records until it is over, and says how many events that were.
fn record(
    args: &Args,
    recorder: &Recorder,
    machine: &Machine,
    labels: &Labels,
    timeline: &mut Timeline,
    signals: &Signals,
) -> Result<usize> {
    let (mut count, mut seen, mut waits) = (0, 0, args.from.as_deref());
    let mut console = Console::new(machine, None);
    loop {
        let over = machine.console().ended();
        for event in recorder.take() {
            if count < args.events {
                timeline.add(&event, labels);
                count += 1;
            }
        }
        console.pass_on()?;
        while let Some(line) = machine.console().line(seen) {
            seen += 1;
            recorder.ensure_ready(machine)?;
            if waits.take_if(|words| line.contains(&**words)).is_some() {
                recorder.want(true);
            }
        }
        if over || count == args.events || signals.check().is_err() {
            return Ok(count);
        }
        let _ = machine.console().wait_for(seen, Instant::now() + GLANCE);
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
