//! An application's own operations in instructions, beside those of another variant of it.
//!
//! The application measures itself (`libos::measure`) in a machine whose time-stamp counter counts
//! instructions; here it is booted, read and laid beside the other, which is another application or
//! the same with other arguments. Both are booted one after the other, built from one tree.
//!
//! | file | what it is |
//! |---|---|
//! | [`lines`] | what the application prints, as figures |
//! | [`report`] | the table, and JSON |
//! | [`plot`] | the picture |

mod lines;
mod plot;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::conditions::Conditions;
use crate::machine::{Config, HostPorts, Machine, Network};
use crate::manifest::{Choice, Chosen};
use crate::output::{self, note, say};
use crate::signals::Signals;
use lines::Figure;
use report::{Report, Variant};

/// How both are run.
const MACHINE: &str = "TCG, microvm, -cpu max, -icount shift=0,sleep=off";
/// Samples for which what `cargo exo new` makes has frames enough.
const USUAL_SAMPLES: u32 = 1000;
/// What a sample takes: four bytes of each part (`libos::measure::MAX_PARTS`).
const SAMPLE_BYTES: u64 = 64 * 4;
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);

/// Count the instructions of an application's own operations, beside those of a variant
///
/// The application marks its operations (`libos::measure`): cargo exo new makes some that do. It
/// is booted where the time-stamp counter counts instructions, those of the kernel as well, and
/// does each operation as often as samples are wanted. Counts are exact and repeat; they say how
/// much the code does, not how fast a processor does it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// The variant: another manifest by name, such as stock, which has the library's own
    #[arg(long, value_name = "NAME", conflicts_with = "against_app")]
    against: Option<String>,
    /// The variant: an application outside of this tree
    #[arg(long, value_name = "FOLDER")]
    against_app: Option<PathBuf>,
    /// The variant: the same application with this argument
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    against_arg: Vec<String>,
    /// An argument for all applications of the manifest, in front of their own
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    arg: Vec<String>,
    /// The application of the manifest that is measured, if it is not the first
    #[arg(long, value_name = "APPLICATION")]
    of: Option<String>,
    /// Samples of each operation, 1 to 100,000: each takes 256 bytes of the application's memory
    #[arg(long, default_value_t = USUAL_SAMPLES, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Seconds that it may take
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// Where to save everything as JSON
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
    /// Where to save a picture, as SVG
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    plot: Option<PathBuf>,
}

/// An argument as an application finds it by its key.
fn key_and_value(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("is to be KEY=VALUE".to_owned()),
    }
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let own = args.measure(args.choice.read("stock")?, &args.arg, interrupt)?;
    let other = args.variant()?.map(|chosen| {
        let arguments = if args.against_arg.is_empty() { &args.arg } else { &args.against_arg };
        args.measure(chosen, arguments, interrupt)
    });
    let report = Report::new(Conditions::now(MACHINE), args.samples, own, other.transpose()?);
    output::print(report.text())?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
        say!("saved to {}", path.display())?;
    }
    if let Some(path) = &args.plot {
        let svg = plot::svg(&report)?;
        std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        say!("drawn in {}", path.display())?;
    }
    Ok(())
}

impl Args {
    /// What it is to be compared with.
    fn variant(&self) -> Result<Option<Chosen>> {
        match (&self.against, &self.against_app) {
            (Some(name), _) => Choice::of_name(name).read(name).map(Some),
            (None, Some(folder)) => Choice::of_app(folder).read("").map(Some),
            (None, None) if !self.against_arg.is_empty() => self.choice.read("stock").map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Boots a manifest and reads what its application has measured.
    fn measure(
        &self,
        chosen: Chosen,
        arguments: &[String],
        interrupt: &Signals,
    ) -> Result<Variant> {
        let mut config = Config::new(chosen.manifest);
        let apps = &mut config.manifest.apps;
        let app = match &self.of {
            Some(name) => apps.iter_mut().find(|app| app.name == *name),
            None => apps.first_mut(),
        };
        let app = app.context("the manifest has no such application")?;
        ensure!(app.grants.console, "\"{}\" has no console to tell figures on", app.name);
        let name = app.name.clone();
        app.args.push(format!("measure={}", self.samples));
        // The first argument of a name counts.
        for app in apps.iter_mut() {
            app.args.splice(0..0, arguments.iter().cloned());
        }
        config.package = chosen.package;
        config.icount = true;
        config.network = Network::User(HostPorts::Free);
        let machine = Machine::boot(&config)?;
        note!("measuring {name}");
        let figures = self.read(&machine, &name, interrupt)?;
        let name = std::iter::once(name).chain(arguments.iter().cloned()).collect::<Vec<_>>();
        Ok(Variant { name: name.join(" "), figures })
    }

    /// What an application that ends early may lack: the frames for so many samples.
    fn need(&self) -> String {
        if self.samples <= USUAL_SAMPLES {
            return String::new();
        }
        let bytes = u64::from(self.samples) * SAMPLE_BYTES;
        // The library's heap has blocks of powers of two.
        let frames = bytes.next_power_of_two() / 4096;
        format!(
            "; {} samples need about {frames} page frames more: `frames` in the manifest",
            self.samples
        )
    }

    /// **Blocking** until the application has told all.
    fn read(&self, machine: &Machine, name: &str, interrupt: &Signals) -> Result<Vec<Figure>> {
        let deadline = Instant::now() + Duration::from_secs(self.patience);
        let (console, last) = (machine.console(), format!("{name}: measured"));
        for number in 0.. {
            while !console.wait_for(number, Instant::now() + GLANCE) {
                interrupt.check()?;
                ensure!(
                    !console.ended(),
                    "\"{name}\" ended before it had told figures{}\n{}",
                    self.need(),
                    machine.report()
                );
                ensure!(
                    Instant::now() < deadline,
                    "\"{name}\" has not returned from its main after {} seconds (--patience), and \
                     so has told no figures\n{}",
                    self.patience,
                    machine.report()
                );
            }
            if console.line(number).is_some_and(|line| line == last) {
                break;
            }
        }
        let figures = lines::read(&console.lines(), &format!("{name}: "))?;
        if figures.is_empty() {
            bail!("\"{name}\" has measured nothing: see libos::measure (`cargo exo doc`)");
        }
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_has_a_key() {
        assert_eq!(key_and_value("stack=smol"), Ok("stack=smol".to_owned()));
        assert!(key_and_value("foo").is_err() && key_and_value("=foo").is_err());
    }
}
