//! Boots a contender, asks it, and counts.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::contender::{ADDRESS, Contender};
use super::scenario::Scenario;
use crate::bench::counter::{Counter, Counts};
use crate::bench::load::{Capture, KEYS, Load, Offer, Workload};
use crate::linux::Mitigations;
use crate::machine::{Machine, Network};
use crate::output::note;
use crate::signals::Signals;

/// How all are run.
pub(crate) const MACHINE: &str =
    "TCG, microvm, -cpu max, 1 processor, -icount shift=0,sleep=off, NIC on a datagram socket";

/// How long a guest may take until it serves; every instruction costs a call, so this is slow.
const READY: Duration = Duration::from_secs(240);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// Requests of a pass; more than a batch of the saturated kind by a whole number.
const REQUESTS: u32 = 1024;
/// Passes of which the middle one is told. What Linux does now and then beside answering is
/// in some of them.
const PASSES: usize = 5;

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

/// What a request costs, on average of a pass; the pass in the middle of all.
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
            load.pass(offer, KEYS)?;
            let passes = (0..PASSES).map(|_| load.pass(offer, REQUESTS));
            figures.push(Figure::new(scenario, passes.collect::<Result<Vec<_>>>()?));
        }
        Ok(figures)
    })
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
    let counter = Counter::of_any_guest()?;
    let capture = Capture::new()?;
    let mut extra = counter.arguments();
    extra.extend(capture.arguments());
    let machine = contender.boot(mitigations, |config| {
        config.network = Network::Frames;
        config.icount = true;
        config.extra.extend(extra);
    })?;
    wait(contender, &machine, interrupt)?;
    counter.ensure_ready(&machine)?;
    let mut load = Load::start(&machine, &counter, interrupt, &capture, workload, ADDRESS)?;
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
    fn new(scenario: Scenario, mut passes: Vec<Counts>) -> Self {
        let per_request = |count: u64| count as f64 / f64::from(REQUESTS);
        passes.sort_by_key(Counts::repeats_once);
        let middle = passes.get(passes.len() / 2).cloned().unwrap_or_default();
        Self {
            scenario,
            instructions: per_request(middle.total),
            repeats_once: per_request(middle.repeats_once()),
            user: per_request(middle.user),
            kernel: per_request(middle.kernel()),
            system_calls: per_request(middle.calls),
            interrupt_returns: per_request(middle.returns),
            sleeps: per_request(middle.halts),
            passes: passes.iter().map(|counts| per_request(counts.repeats_once())).collect(),
        }
    }

    /// How far the passes are from each other, of the one in the middle.
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
    fn the_middle_pass_counts() {
        let each = u64::from(REQUESTS);
        let counts = |total: u64| Counts {
            total: each * total,
            user: each,
            rounds: each * 2,
            calls: each * 2,
            ..Counts::default()
        };
        let scenario = Scenario::quick()[0];
        let figure = Figure::new(scenario, vec![counts(12), counts(10), counts(11)]);
        assert_eq!((figure.instructions, figure.repeats_once), (11.0, 9.0));
        assert_eq!((figure.user, figure.kernel, figure.system_calls), (1.0, 10.0, 2.0));
        assert_eq!(figure.passes, [8.0, 9.0, 10.0]);
        assert!((figure.spread() - 2.0 / 9.0).abs() < 1e-9);
    }
}
