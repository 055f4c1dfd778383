//! What was measured here for an experiment: grids of figures, and those beside published ones.

use serde::Serialize;

use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::{self, Figure, Row};
use crate::bench::compare::scenario::Scenario;
use crate::linux::Mitigations;
use crate::output::note;
use crate::signals::Signals;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    /// Linux also with `mitigations=off`, and whatever else takes longer.
    pub(super) full: bool,
}

/// All of one experiment.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ours {
    pub(super) grids: Vec<Grid>,
    /// By [`key`](super::published::Beside::key).
    pub(super) beside: Vec<(&'static str, f64)>,
    /// Version, command line and settings of what was measured.
    pub(super) facts: Vec<String>,
    /// What could not be measured, and why.
    pub(super) failures: Vec<String>,
}

/// Figures in one unit.
#[derive(Debug, Serialize)]
pub(super) struct Grid {
    /// What they are, with their unit and which direction is better.
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<(String, Vec<Option<f64>>)>,
}

impl Effort {
    /// The kinds of mitigations that Linux is measured with.
    pub(super) fn mitigations(self) -> &'static [Mitigations] {
        if self.full { &[Mitigations::Default, Mitigations::Off] } else { &[Mitigations::Default] }
    }
}

impl Ours {
    /// Measures `contenders` with `scenarios`. What goes wrong is in [`Ours::failures`].
    ///
    /// # Errors
    /// The interrupt.
    pub(super) fn rows(
        &mut self,
        contenders: &[Contender],
        scenarios: &[Scenario],
        effort: Effort,
        interrupt: &Signals,
    ) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &contender in contenders {
            for mitigations in contender.variants(effort.mitigations()) {
                note!("repro: {}", contender.title());
                let row = measure::row(contender, mitigations, scenarios, interrupt)?;
                self.failures
                    .extend(row.failure.iter().map(|failure| format!("{}: {failure}", row.title)));
                self.facts.push(format!("{}: {}", label(&row), row.facts.join("; ")));
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// A grid of `rows`: a figure for each scenario.
    pub(super) fn grid(
        &mut self,
        title: &str,
        rows: &[Row],
        scenarios: &[Scenario],
        pick: impl Fn(&Figure) -> f64,
    ) {
        let cells = |row: &Row| {
            let of = |&scenario: &Scenario| Some(pick(figure(row, scenario)?));
            (label(row), scenarios.iter().map(of).collect())
        };
        self.grids.push(Grid {
            title: title.to_owned(),
            columns: scenarios.iter().map(|scenario| scenario.title()).collect(),
            rows: rows.iter().map(cells).collect(),
        });
    }

    /// The grids that every table of placements has: both ways to count, and where the
    /// instructions lie.
    pub(super) fn grids_of(&mut self, rows: &[Row], scenarios: &[Scenario]) {
        const ONCE: &str = "Guest instructions per request, a repeated string instruction counted \
                            once; lower is better";
        const ALL: &str = "The same, each of its repetitions counted";
        self.grid(ONCE, rows, scenarios, |figure| figure.repeats_once);
        self.grid(ALL, rows, scenarios, |figure| figure.instructions);
        self.grid("Of these in user space", rows, scenarios, |figure| figure.user);
        self.grid("System calls per request", rows, scenarios, |figure| figure.system_calls);
    }

    /// Puts a measured figure beside a published one, if there is one.
    pub(super) fn put(&mut self, key: &'static str, value: Option<f64>) {
        self.beside.extend(value.map(|value| (key, value)));
    }
}

/// Instructions of a contender, with default mitigations, a repeated string instruction counted
/// once.
pub(super) fn once(rows: &[Row], contender: Contender, scenario: Scenario) -> Option<f64> {
    let is_it = |row: &&Row| row.name == contender.name() && row.mitigations != Some("off");
    Some(figure(rows.iter().find(is_it)?, scenario)?.repeats_once)
}

/// How many times as many instructions one contender takes as another.
pub(super) fn times(
    rows: &[Row],
    more: Contender,
    than: Contender,
    scenario: Scenario,
) -> Option<f64> {
    let ratio = once(rows, more, scenario)? / once(rows, than, scenario)?;
    Some(ratio).filter(|ratio| ratio.is_finite())
}

pub(super) fn figure(row: &Row, scenario: Scenario) -> Option<&Figure> {
    row.figures.iter().find(|figure| figure.scenario == scenario)
}

/// What a row is, with its mitigations.
pub(super) fn label(row: &Row) -> String {
    match row.mitigations {
        None => row.title.clone(),
        Some(mitigations) => format!("{}, mitigations={mitigations}", row.title),
    }
}
