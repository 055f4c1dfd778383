//! `cargo exo top`: a machine that runs, live.

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::builder::RangedU64ValueParser;

use crate::inspect::{Memory, Published, find};
use crate::output;
use crate::signals::{Interrupted, Signals};
use crate::top::{Sample, Screen, View};

/// How often to look for signals, and whether the machine has booted.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a machine may take to boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show what a running machine's kernel publishes: slots, environments, frames, packets
///
/// Looks into the memory of a machine that `cargo exo run` has started, from outside: the guest
/// executes nothing for it. On a terminal it is a screen that `q` or Ctrl-C ends; into a pipe go
/// lines. It ends with the machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine, if several run: the process id of its QEMU
    #[arg(long, value_name = "PID")]
    process: Option<u32>,
    /// Milliseconds from one look to the next
    #[arg(long, default_value_t = 1000, value_name = "MS",
          value_parser = RangedU64ValueParser::<u64>::new().range(10..=60_000))]
    interval: u64,
    /// How many looks; until it is ended, unless said otherwise
    #[arg(long, value_name = "N")]
    samples: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let signals = Signals::register()?;
    match watch(args, &signals) {
        // The usual way out, not worth a word.
        Err(error) => error.downcast::<Interrupted>().map(Interrupted::exit_code),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn watch(args: &Args, signals: &Signals) -> Result<()> {
    let machine = find::one(args.process)?;
    let memory = Memory::of_process(machine.process)?;
    let published = published(&memory, machine.process, signals)?;
    let title = format!("machine {}", machine.process);
    let mut screen = stdout().is_terminal().then(Screen::open).transpose()?;
    let mut before: Option<Sample> = None;
    let mut left = args.samples.unwrap_or(u64::MAX);
    while left > 0 && runs(machine.process) {
        let now = Sample::take(&memory, &published);
        let view = View::new(before.as_ref(), &now);
        match &mut screen {
            Some(screen) => screen.show(&title, &view)?,
            None => output::print(view.lines())?,
        }
        let deadline = now.at + Duration::from_millis(args.interval);
        before = Some(now);
        left -= 1;
        while left > 0 && Instant::now() < deadline {
            signals.check()?;
            match &screen {
                Some(screen) if screen.is_enough(deadline)? => return Ok(()),
                Some(_) => {}
                None => std::thread::sleep(
                    GLANCE.min(deadline.saturating_duration_since(Instant::now())),
                ),
            }
        }
    }
    Ok(())
}

/// **Blocking** until the kernel has published its pages.
fn published<'m>(memory: &'m Memory, process: u32, signals: &Signals) -> Result<Published<'m>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Published::find(memory) {
            Ok(published) => return Ok(published),
            Err(_) if !runs(process) => bail!("the machine has ended"),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => {
                signals.check()?;
                std::thread::sleep(GLANCE);
            }
        }
    }
}

/// Whether that machine still runs.
fn runs(process: u32) -> bool {
    find::all().iter().any(|machine| machine.process == process)
}
