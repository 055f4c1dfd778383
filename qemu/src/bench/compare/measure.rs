//! Boots a contender, asks it, and counts.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::contender::{ADDRESS, Contender};
use super::scenario::Scenario;
use crate::bench::counter::{Counter, Counts};
use crate::bench::load::{Capture, KEYS, Load, Offer, Transport, Workload};
use crate::linux::Mitigations;
use crate::machine::{Machine, Network};
use crate::output::note;
use crate::signals::Signals;

/// How all are run.
pub(crate) const MACHINE: &str =
    "TCG, microvm, -cpu max, 1 processor, -icount shift=0,sleep=off, NIC on a datagram socket";

/// How long a guest may take until it serves; every instruction costs a call, so this is slow.
const READY: Duration = Duration::from_secs(600);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// Requests of a pass; more than a batch of the saturated kind by a whole number.
const REQUESTS: u32 = 1024;
/// Passes before those that count: caches fill, and a kernel just booted has work left.
const WARM_UP: usize = 2;
/// Passes; the mean of all is told. What Linux does now and then beside answering is in some of
/// them, and belongs to what it costs: there are more passes until the mean is known.
const PASSES: RangeInclusive<usize> = 5..=40;
/// When it is: its standard error, as a share of it.
const KNOWN: f64 = 0.002;

/// Held while what a contender needs is fetched, built and started: two can be measured at the
/// same time, but share the folders that this is done in.
static PREPARING: Mutex<()> = Mutex::new(());

/// A contender, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// Its version, command line and settings.
    pub(crate) facts: Vec<String>,
    /// Of a contender on Linux: "default" or "off".
    pub(crate) mitigations: Option<&'static str>,
    /// One for each scenario; none if it failed.
    pub(crate) figures: Vec<Figure>,
    /// Why there is no figure.
    pub(crate) failure: Option<String>,
}

/// What a request costs, on average of all passes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) scenario: Scenario,
    /// Instructions, each round of a repeated string instruction counted.
    pub(crate) instructions: f64,
    /// The same, a repeated string instruction counted once.
    pub(crate) repeats_once: f64,
    /// Of [`Figure::instructions`], those in user space.
    pub(crate) user: f64,
    /// Of [`Figure::instructions`], those in the kernel.
    pub(crate) kernel: f64,
    /// `syscall` instructions.
    pub(crate) system_calls: f64,
    /// `iretq` instructions: returns from interrupts and exceptions.
    pub(crate) interrupt_returns: f64,
    /// How often the processor went to sleep.
    pub(crate) sleeps: f64,
    /// [`Figure::repeats_once`] of each pass, ascending.
    pub(crate) passes: Vec<f64>,
}

/// Measures `contender`. What it does wrong is in the row; an error is the person's
/// interrupt.
pub(crate) fn row(
    contender: Contender,
    mitigations: Option<Mitigations>,
    scenarios: &[Scenario],
    interrupt: &Signals,
) -> Result<Row> {
    let measured = figures(contender, mitigations, scenarios, interrupt);
    interrupt.check()?;
    let facts = contender.facts();
    let (figures, failure) = match (measured, &facts) {
        (Ok(figures), Ok(_)) => (figures, None),
        (Err(error), _) => (Vec::new(), Some(format!("{error:#}"))),
        (_, Err(error)) => (Vec::new(), Some(format!("{error:#}"))),
    };
    if let Some(failure) = &failure {
        note!("compare: {} failed: {failure}", contender.name());
    }
    Ok(Row {
        name: contender.name(),
        title: contender.title().to_owned(),
        facts: facts.unwrap_or_default(),
        mitigations: mitigations.map(label),
        figures,
        failure,
    })
}

/// What a report calls them.
pub(super) const fn label(mitigations: Mitigations) -> &'static str {
    match mitigations {
        Mitigations::Default => "default",
        Mitigations::Off => "off",
    }
}

/// The figures of `contender`, one for each scenario.
///
/// # Errors
/// It does not boot or serve, or a reply is lost or wrong.
pub(crate) fn figures(
    contender: Contender,
    mitigations: Option<Mitigations>,
    scenarios: &[Scenario],
    interrupt: &Signals,
) -> Result<Vec<Figure>> {
    let Some(first) = scenarios.first() else { return Ok(Vec::new()) };
    let workload = first.workload(contender.echoes());
    asking(contender, mitigations, workload, interrupt, |load| {
        let mut figures = Vec::new();
        for &scenario in scenarios {
            let workload = scenario.workload(contender.echoes());
            load.change(workload)?;
            let offer = Offer::Held(scenario.outstanding);
            for _ in 0..WARM_UP {
                load.pass(offer, KEYS)?;
            }
            let mut passes = Vec::new();
            while !is_known(&passes) {
                passes.push(load.pass(offer, REQUESTS)?);
            }
            figures.push(Figure::new(scenario, &passes));
        }
        Ok(figures)
    })
}

/// Whether the mean of `passes` is known well enough, or would take too long to know.
fn is_known(passes: &[Counts]) -> bool {
    if passes.len() < *PASSES.start() {
        return false;
    }
    if passes.len() >= *PASSES.end() {
        return true;
    }
    let count = passes.len() as f64;
    let of_passes = || passes.iter().map(|counts| counts.repeats_once() as f64);
    let mean = of_passes().sum::<f64>() / count;
    let squares: f64 = of_passes().map(|one| (one - mean).powi(2)).sum();
    let standard_error = (squares / (count - 1.0) / count).sqrt();
    standard_error <= mean * KNOWN
}

/// Boots `contender`, lets it serve, fills it with what `workload` asks for, and has `ask` ask
/// it.
///
/// # Errors
/// It does not boot or serve, or `ask` fails.
pub(crate) fn asking<T>(
    contender: Contender,
    mitigations: Option<Mitigations>,
    workload: Workload,
    interrupt: &Signals,
    ask: impl FnOnce(&mut Load<'_>) -> Result<T>,
) -> Result<T> {
    let preparing = PREPARING.lock().unwrap_or_else(PoisonError::into_inner);
    let counter = Counter::of_any_guest()?;
    let capture = Capture::new()?;
    let mut extra = counter.arguments();
    extra.extend(capture.arguments());
    let machine = contender.boot(mitigations, |config| {
        config.network = Network::Frames;
        config.icount = true;
        config.extra.extend(extra);
    })?;
    drop(preparing);
    wait(contender, &machine, interrupt)?;
    let mut load = Load::start(&machine, &counter, interrupt, &capture, workload, ADDRESS)?;
    if contender.transport() == Transport::Tcp {
        load.connect()?;
    }
    let asked = ask(&mut load)?;
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    Ok(asked)
}

/// **Blocking** until `machine` says that `contender` serves.
pub(super) fn wait(contender: Contender, machine: &Machine, interrupt: &Signals) -> Result<()> {
    let start = Instant::now();
    while let Err(error) = machine.wait_for_line(contender.ready(), GLANCE) {
        interrupt.check()?;
        if !machine.running() || start.elapsed() > READY {
            return Err(error);
        }
    }
    Ok(())
}

impl Figure {
    /// Divides the counts of passes of [`REQUESTS`] requests each.
    fn new(scenario: Scenario, passes: &[Counts]) -> Self {
        let requests = f64::from(REQUESTS);
        let mean = |count: fn(&Counts) -> u64| {
            passes.iter().map(count).sum::<u64>() as f64 / (requests * passes.len() as f64)
        };
        let mut of_passes: Vec<_> =
            passes.iter().map(|counts| counts.repeats_once() as f64 / requests).collect();
        of_passes.sort_by(f64::total_cmp);
        Self {
            scenario,
            instructions: mean(|counts| counts.total),
            repeats_once: mean(Counts::repeats_once),
            user: mean(|counts| counts.user),
            kernel: mean(Counts::kernel),
            system_calls: mean(|counts| counts.calls),
            interrupt_returns: mean(|counts| counts.returns),
            sleeps: mean(|counts| counts.halts),
            passes: of_passes,
        }
    }

    /// How far the passes are from each other, as a share of the mean.
    pub(crate) fn spread(&self) -> f64 {
        match (self.passes.first(), self.passes.last()) {
            (Some(least), Some(most)) if self.repeats_once > 0.0 => {
                (most - least) / self.repeats_once
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_takes_as_many_passes_as_it_is_unsteady() {
        let passes = |totals: &[u64]| -> Vec<Counts> {
            totals.iter().map(|&total| Counts { total, ..Counts::default() }).collect()
        };
        assert!(!is_known(&passes(&[1000; 4])));
        assert!(is_known(&passes(&[1000; 5])));
        // One in five does a tenth more: the standard error is 2 % of the mean.
        let mut unsteady = [1000, 1000, 1000, 1000, 1100].repeat(7);
        assert!(!is_known(&passes(&unsteady[..5])) && !is_known(&passes(&unsteady)));
        unsteady.extend([1000; 5]);
        assert!(is_known(&passes(&unsteady)));
        // One pass in a thousand that differs by little.
        assert!(is_known(&passes(&[1000, 1001, 1000, 1000, 1000])));
    }

    #[test]
    fn all_passes_count() {
        let each = u64::from(REQUESTS);
        let counts = |total: u64| Counts {
            total: each * total,
            user: each,
            rounds: each * 2,
            calls: each * 2,
            ..Counts::default()
        };
        let scenario = Scenario::quick()[0];
        let figure = Figure::new(scenario, &[counts(12), counts(10), counts(11)]);
        assert_eq!((figure.instructions, figure.repeats_once), (11.0, 9.0));
        assert_eq!((figure.user, figure.kernel, figure.system_calls), (1.0, 10.0, 2.0));
        assert_eq!(figure.passes, [8.0, 9.0, 10.0]);
        assert!((figure.spread() - 2.0 / 9.0).abs() < 1e-9);
    }
}
