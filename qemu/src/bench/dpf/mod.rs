//! What it costs to tell packets apart, beside other ways to do it.
//!
//! The package `bench-dpf` measures, in a process of its own; here it is built, run and
//! reported.
//!
//! | file | what it is |
//! |---|---|
//! | [`figures`] | what was measured; shared with the program that does |
//! | [`goals`] | what this system is to reach, and published figures |
//! | [`report`] | tables |
//! | [`plot`] | a picture: cost against the number of filters |

#[allow(dead_code, unreachable_pub, reason = "one side writes what the other reads")]
#[path = "../../../../bench/dpf/src/figures.rs"]
mod figures;
mod goals;
mod plot;
mod report;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use self::figures::Figures;
use super::conditions::Conditions;
use super::report::save;
use crate::output::{self, note, say};
use crate::prerequisites::{LIBPCAP, VALGRIND};
use crate::signals::Signals;
use crate::{guest, workspace};

/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(50);
/// The cargo profile it is built with, and the directory that names.
const PROFILE: &str = "figures";

/// Count instructions per packet of the merged filters, beside eBPF, libpcap and a hash map
///
/// On the host: builds the package bench-dpf as the guest is built, and runs it with up to
/// 10,000 filters. Every contender is given the same filters and packets and must
/// give the same answers. Instructions are counted by valgrind, which is installed through
/// apt if it is missing, as is libpcap; they repeat exactly. Times are ratios within one
/// run. It takes some minutes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// At most ten filters, and short timings: a few seconds
    #[arg(long)]
    quick: bool,
    /// Where to save everything as JSON; the picture goes beside it, as .svg
    /// [default: figures/out/dpf.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

/// Kills the program if it has not been waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is no matter.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let figures = measure_all(args.quick, interrupt)?;
    let report = report::Report::new(Conditions::on_host(), figures);
    let json = save(&report, args.json.as_deref(), "dpf")?;
    let picture = json.with_extension("svg");
    std::fs::write(&picture, plot::svg(report.figures()))
        .with_context(|| format!("cannot write {}", picture.display()))?;
    output::print(report.text()?)?;
    say!("\nsaved to {} and {}", json.display(), picture.display())?;
    Ok(())
}

/// Instructions per packet, uniform, of each contender that can: for so many UDP ports.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) filters: u32,
    pub(super) instructions: Vec<(String, f64)>,
}

/// What every contender takes for UDP ports, by their number.
///
/// # Errors
/// Valgrind is missing and cannot be installed, or the program cannot be built or fails.
pub(super) fn ports(quick: bool, interrupt: &Signals) -> Result<Vec<Ports>> {
    let figures = measure_all(quick, interrupt)?;
    let cases = figures.cases.iter().filter(|case| case.set == "ports");
    let of_case = |case: &self::figures::Case| Ports {
        filters: case.filters,
        instructions: figures
            .contenders
            .iter()
            .filter_map(|(name, _)| {
                Some((name.clone(), figures.instructions(case, name, "uniform")?))
            })
            .collect(),
    };
    Ok(cases.map(of_case).collect())
}

fn measure_all(quick: bool, interrupt: &Signals) -> Result<Figures> {
    VALGRIND.require()?;
    if let Err(error) = LIBPCAP.require() {
        note!("{error:#}\nlibpcap will be missing from the figures");
    }
    let program = build()?;
    measure(&program, quick, interrupt)
}

/// Builds the program, and says where it is.
fn build() -> Result<PathBuf> {
    let target = workspace::target_dir();
    let mut command = workspace::cargo();
    command.args(["build", "--profile", PROFILE, "--package", "bench-dpf", "--target-dir"]);
    guest::run(
        {
            command.arg(&target);
            command
        },
        "building bench-dpf",
    )?;
    Ok(target.join(PROFILE).join("bench-dpf"))
}

/// **Blocking** until the program has ended or this one is asked to.
fn measure(program: &Path, quick: bool, interrupt: &Signals) -> Result<Figures> {
    // Removed here, however the program ends.
    let place = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let mut command = Command::new(program);
    command.args(quick.then_some("--quick")).env("TMPDIR", place.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn().context("cannot start bench-dpf")?);
    let mut out = running.0.stdout.take().context("bench-dpf has no output")?;
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        out.read_to_end(&mut text).map(|_| text)
    });
    let status = loop {
        interrupt.check()?;
        match running.0.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(GLANCE),
        }
    };
    ensure!(status.success(), "bench-dpf: {status}");
    let text = reader.join().map_err(|_| anyhow!("cannot read what bench-dpf writes"))??;
    serde_json::from_slice(&text).context("bench-dpf wrote no figures")
}
