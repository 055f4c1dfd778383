//! Counts divided by requests, as a table for people and as JSON.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::conditions::Conditions;
use super::counter::Counts;
use super::layout::{AMBIGUOUS, UNKNOWN};
use super::load::{Offer, Transport, Verb, Workload};
use super::rows::Row;
use super::table::Function;
use crate::figures::{self, Named, Stated};
use crate::workspace;

/// Guest instructions per GET that this system is to stay below.
const GOAL: f64 = 2500.0;
/// The same over TCP: one at a time, and many written together.
const GOAL_TCP: f64 = 2000.0;
const GOAL_TCP_BATCH: f64 = 700.0;

/// What a request is to stay below with so many outstanding, where that is promised.
fn goal(transport: Transport, verb: Verb, outstanding: u32) -> Option<f64> {
    match (transport, verb) {
        (_, Verb::Set) => None,
        (Transport::Udp, _) => Some(GOAL),
        (Transport::Tcp, _) if outstanding == 1 => Some(GOAL_TCP),
        (Transport::Tcp, _) => Some(GOAL_TCP_BATCH),
    }
}

/// What a figure may be held against.
#[derive(Debug, Serialize)]
struct Comparison {
    what: String,
    figure: String,
    /// When and how it was taken.
    taken: String,
    comparable: bool,
}

/// Contenders of `cargo exo bench compare` that are set beside this system, and what they are.
const BESIDE: [(&str, &str); 3] = [
    ("memcached", "memcached on Linux"),
    ("process", "the store as a process on Linux"),
    ("module", "the store as a module of Linux's kernel"),
];
const BESIDE_TCP: [(&str, &str); 2] =
    [("memcached-tcp", "memcached on Linux"), ("process-tcp", "the store as a process on Linux")];

/// What was measured last of other places, and published. The sizes are those of the usual
/// request.
fn comparisons(transport: Transport, verb: Verb) -> Vec<Comparison> {
    let stated = Stated::read().unwrap_or_default();
    let verb = verb.name().to_lowercase();
    let (set, beside) = match transport {
        Transport::Udp => ("compare", &BESIDE[..]),
        Transport::Tcp => ("compare-tcp", &BESIDE_TCP[..]),
    };
    let measured = beside.iter().filter_map(|&(name, what)| {
        let of = |outstanding| stated.get(&format!("{set}.{name}.{verb}-16/64-{outstanding}"));
        let (alone, batch) = (of(1)?, of(32)?);
        Some(Comparison {
            what: format!("{what}, 16 B key, 64 B value"),
            figure: format!("{alone} with 1 outstanding, {batch} with 32"),
            taken: format!("{} by `cargo exo bench compare`", stated.0.get(set)?.date),
            comparable: true,
        })
    });
    let published = Comparison {
        what: "Unbuckle (2014), 1 KiB requests, in the Linux kernel".to_owned(),
        figure: "5,800 cycles".to_owned(),
        taken: "published; not comparable: cycles of a processor, larger values".to_owned(),
        comparable: false,
    };
    measured.chain([published]).collect()
}

/// One way of offering load, measured.
#[derive(Debug, Serialize)]
pub(crate) struct Scenario {
    /// Requests outstanding.
    outstanding: u32,
    /// Whether they were all there when the guest woke.
    held: bool,
    /// Requests of each pass.
    requests: u32,
    /// Instructions per request of each pass.
    passes: Vec<f64>,
    /// Instructions per request of the pass in the middle, by row.
    rows: Vec<(Row, f64)>,
    /// Steps 1 to 6 and the crossings: from receive descriptor to transmit descriptor.
    path: f64,
    /// All rows.
    total: f64,
    /// System calls per request.
    crossings: f64,
    /// How often the processor slept, per request.
    sleeps: f64,
    /// Functions, the most expensive ones first.
    functions: Vec<Share>,
}

/// A function's share of a request.
#[derive(Clone, Debug, Serialize)]
struct Share {
    program: String,
    function: String,
    row: Row,
    instructions: f64,
}

/// All that was measured of GET.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    unit: String,
    better: &'static str,
    transport: Transport,
    verb: Verb,
    key_bytes: usize,
    value_bytes: usize,
    conditions: Conditions,
    scenarios: Vec<Scenario>,
    comparisons: Vec<Comparison>,
}

impl Scenario {
    /// Instructions per request of one row.
    pub(crate) fn of(&self, row: Row) -> Option<f64> {
        self.rows.iter().find(|(other, _)| *other == row).map(|&(_, count)| count)
    }

    /// Instructions per request of all rows.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// System calls per request.
    pub(super) fn crossings(&self) -> f64 {
        self.crossings
    }

    /// Divides the counts of `passes`, which must not be empty, by `requests`.
    pub(crate) fn new(
        offer: Offer,
        requests: u32,
        passes: &[Counts],
        functions: &[Function],
    ) -> Option<Self> {
        let per_request = |count: u64| count as f64 / f64::from(requests);
        let mut ascending: Vec<_> = passes.iter().collect();
        ascending.sort_by_key(|counts| counts.total);
        let middle = *ascending.get(passes.len() / 2)?;
        let rows: Vec<_> =
            Row::ALL.map(|row| (row, per_request(middle.of_row(row.index())))).into();
        let on_path = |row: Row| row.step().is_some() || row == Row::Crossing;
        let mut shares: Vec<_> = middle
            .by_function()
            .filter_map(|(function, row, count)| {
                let function = functions.get(function)?;
                Some(Share {
                    program: function.image.clone(),
                    function: function.name.clone(),
                    row: *Row::ALL.get(row)?,
                    instructions: per_request(count),
                })
            })
            .collect();
        shares.sort_by(|a, b| b.instructions.total_cmp(&a.instructions));
        Some(Self {
            outstanding: offer.outstanding(),
            held: matches!(offer, Offer::Held(_)),
            requests,
            passes: passes.iter().map(|counts| per_request(counts.total)).collect(),
            path: rows.iter().filter(|(row, _)| on_path(*row)).map(|(_, count)| count).sum(),
            rows,
            total: per_request(middle.total),
            crossings: per_request(middle.calls),
            sleeps: per_request(middle.halts),
            functions: shares,
        })
    }

    fn title(&self) -> [String; 2] {
        let how = match (self.outstanding, self.held) {
            (1, _) => "from sleep",
            (_, true) => "one batch",
            (_, false) => "free",
        };
        [format!("{} outst.", self.outstanding), how.to_owned()]
    }

    /// Smallest, middle and largest of the passes.
    fn spread(&self) -> (f64, f64, f64) {
        let mut passes = self.passes.clone();
        passes.sort_by(f64::total_cmp);
        let at = |index: usize| passes.get(index).copied().unwrap_or(0.0);
        (at(0), at(passes.len() / 2), at(passes.len().saturating_sub(1)))
    }

    fn of_function(&self, wanted: impl Fn(&Share) -> bool) -> f64 {
        self.functions.iter().filter(|share| wanted(share)).map(|share| share.instructions).sum()
    }
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let mut stated = Named::new();
        let [alone, batch] = [1, u32::MAX].map(|count| goal(self.transport, self.verb, count));
        stated.extend(alone.map(|goal| ("goal".to_owned(), figures::count(goal))));
        let batch = batch.filter(|_| batch != alone);
        stated.extend(batch.map(|goal| ("goal.batch".to_owned(), figures::count(goal))));
        // How load that is offered freely falls into batches is the host's doing.
        for scenario in self.scenarios.iter().filter(|scenario| scenario.held) {
            let outstanding = scenario.outstanding;
            stated.insert(outstanding.to_string(), figures::count(scenario.total));
            let classify = scenario.of(Row::Classify).unwrap_or_default();
            stated.insert(format!("{outstanding}.classify"), figures::count(classify.round()));
        }
        stated
    }
}

impl Report {
    pub(crate) fn new(
        conditions: Conditions,
        transport: Transport,
        workload: Workload,
        scenarios: Vec<Scenario>,
    ) -> Self {
        let verb = workload.verb;
        Self {
            unit: format!("guest instructions per {} {}", transport.name(), verb.name()),
            better: "lower",
            transport,
            verb,
            key_bytes: workload.key_bytes,
            value_bytes: workload.value_bytes,
            conditions,
            scenarios,
            comparisons: comparisons(transport, verb),
        }
    }

    /// The report as a table, with the `top` most expensive functions of each scenario.
    pub(crate) fn text(&self, top: usize, functions: &[Function]) -> Result<String> {
        let mut out = String::new();
        let Self { unit, better, key_bytes, value_bytes, .. } = self;
        writeln!(out, "{unit}: {key_bytes} B key, {value_bytes} B value; {better} is better")?;
        write!(out, "{}", self.conditions.lines())?;
        writeln!(out)?;
        self.table(&mut out)?;
        writeln!(out)?;
        self.repeatability(&mut out, functions)?;
        writeln!(out, "\nbeside it:")?;
        for Comparison { what, figure, taken, .. } in &self.comparisons {
            writeln!(out, "  {what}: {figure} ({taken})")?;
        }
        for scenario in self.scenarios.iter().filter(|_| top > 0) {
            let [outstanding, how] = scenario.title();
            writeln!(out, "\nmost expensive functions, {outstanding}, {how}:")?;
            let each = format!("per {}", self.verb.name());
            writeln!(out, "{each:>10}  {:18} {:10} function", "row", "program")?;
            for Share { program, function, row, instructions } in
                scenario.functions.iter().take(top)
            {
                writeln!(out, "{instructions:10.1}  {row:18} {program:10} {function}")?;
            }
        }
        Ok(out)
    }

    fn table(&self, out: &mut String) -> Result<()> {
        let line = |out: &mut String, name: &str, value: &dyn Fn(&Scenario) -> String| {
            write!(out, "{name:32}")?;
            for scenario in &self.scenarios {
                write!(out, "{:>13}", value(scenario))?;
            }
            writeln!(out)
        };
        let number = |value: f64| format!("{value:.1}");
        line(out, "", &|scenario| scenario.title()[0].clone())?;
        line(out, "", &|scenario| scenario.title()[1].clone())?;
        for row in Row::ALL {
            let name = match row.step() {
                Some(step) => format!("{step} {row}"),
                None => format!("  {row}"),
            };
            let value =
                |scenario: &Scenario| scenario.rows.get(row.index()).map_or(0.0, |row| row.1);
            line(out, &name, &|scenario| number(value(scenario)))?;
        }
        line(out, "= all", &|scenario| number(scenario.total))?;
        line(out, "  steps 1 to 6 and crossing", &|scenario| number(scenario.path))?;
        let verdict = |scenario: &Scenario| {
            let goal = goal(self.transport, self.verb, scenario.outstanding);
            let verdict = |goal| if scenario.total < goal { "met" } else { "missed" };
            goal.map_or_else(String::new, |goal| format!("{goal:.0} {}", verdict(goal)))
        };
        line(out, "  goal: all below", &verdict)?;
        let verb = self.verb.name();
        let calls = format!("system calls per {verb}");
        line(out, &calls, &|scenario| format!("{:.3}", scenario.crossings))?;
        let sleeps = format!("sleeps per {verb}");
        line(out, &sleeps, &|scenario| format!("{:.3}", scenario.sleeps))?;
        Ok(())
    }

    fn repeatability(&self, out: &mut String, functions: &[Function]) -> Result<()> {
        for scenario in &self.scenarios {
            let ([outstanding, how], requests) = (scenario.title(), scenario.requests);
            let (least, middle, most) = scenario.spread();
            let passes = scenario.passes.len();
            write!(out, "{outstanding}, {how}: {passes} passes of {requests} requests, ")?;
            match most - least {
                0.0 => writeln!(out, "all the same")?,
                ..0.1 => writeln!(out, "within 0.1 of each other")?,
                _ => writeln!(out, "least {least:.1}, middle {middle:.1}, most {most:.1}")?,
            }
            let fixed = [UNKNOWN, AMBIGUOUS].map(|number| functions.get(number as usize));
            for function in fixed.into_iter().flatten() {
                let share = scenario.of_function(|share| {
                    share.program == function.image && share.function == function.name
                });
                if share > 0.0 {
                    writeln!(
                        out,
                        "  of these in no row of their own: {share:.1} in {}",
                        function.name
                    )?;
                }
            }
            let root = scenario.of_function(|share| share.program == crate::guest::ROOT);
            if root > 0.0 {
                writeln!(out, "  root was not asleep: {root:.1} of these are its own")?;
            }
        }
        Ok(())
    }
}

/// A report whose figures documents state.
pub(crate) trait Stating {
    /// Those figures, by the names that documents give them (see [`figures`](crate::figures)).
    fn stated(&self) -> Named;
}

/// Writes `report` to `path`, or to `figures/out/NAME.json` in the source tree, with what it
/// states. Returns where it is.
pub(crate) fn save(
    report: &(impl Serialize + Stating),
    path: Option<&Path>,
    name: &str,
) -> Result<PathBuf> {
    let path = path.map_or_else(|| usual_path(name), Path::to_owned);
    let written = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut json = serde_json::to_value(report)?;
        if let Some(json) = json.as_object_mut() {
            json.insert("stated".to_owned(), serde_json::to_value(report.stated())?);
        }
        let mut text = serde_json::to_vec_pretty(&json)?;
        text.push(b'\n');
        std::fs::write(&path, text)
    };
    written().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// `figures/out/NAME.json`. A name may have dots of its own: `repro-unbuckle-4.2`.
fn usual_path(name: &str) -> PathBuf {
    workspace::root().join("figures/out").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::super::layout::{FIXED, ROWS};
    use super::*;

    fn functions() -> Vec<Function> {
        let function =
            |image: &str, name: &str| Function { image: image.into(), name: name.into() };
        vec![
            function("no program", "unknown"),
            function("some program", "ambiguous"),
            function("exokernel", "exo::net::receive"),
            function("kvstore", "memcpy"),
        ]
    }

    /// Counts of ten requests: `receive` as given, memcpy for two rows.
    fn counts(receive: u64) -> Counts {
        let mut matrix = vec![0; 4 * ROWS];
        matrix[FIXED as usize * ROWS + Row::Receive.index()] = receive;
        matrix[3 * ROWS + Row::Answer.index()] = 300;
        matrix[3 * ROWS + Row::MainLoop.index()] = 50;
        matrix[3 * ROWS + Row::Crossing.index()] = 25;
        Counts { total: receive + 375, halts: 10, calls: 20, matrix, ..Counts::default() }
    }

    fn scenario(passes: &[u64]) -> Scenario {
        let passes: Vec<_> = passes.iter().map(|&receive| counts(receive)).collect();
        Scenario::new(Offer::Held(2), 10, &passes, &functions()).unwrap()
    }

    fn conditions() -> Conditions {
        Conditions::now("TCG")
    }

    #[test]
    fn reports_of_two_sections_are_two_files() {
        let [second, third] = ["repro-unbuckle-4.2", "repro-unbuckle-4.3"].map(usual_path);
        assert!(second.ends_with("figures/out/repro-unbuckle-4.2.json"), "{}", second.display());
        assert_ne!(second, third);
    }

    #[test]
    fn the_middle_pass_is_divided() {
        let scenario = scenario(&[900, 100, 200]);
        assert_eq!(scenario.passes, [127.5, 47.5, 57.5]);
        assert_eq!(scenario.spread(), (47.5, 57.5, 127.5));
        assert_eq!(scenario.total, 57.5);
        assert_eq!(scenario.path, 20.0 + 30.0 + 2.5);
        assert_eq!((scenario.crossings, scenario.sleeps), (2.0, 1.0));
        let sum: f64 = scenario.rows.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, scenario.total);
        let listed: Vec<_> = scenario
            .functions
            .iter()
            .map(|share| (share.function.as_str(), share.row, share.instructions))
            .collect();
        assert_eq!(
            listed,
            [
                ("memcpy", Row::Answer, 30.0),
                ("exo::net::receive", Row::Receive, 20.0),
                ("memcpy", Row::MainLoop, 5.0),
                ("memcpy", Row::Crossing, 2.5),
            ]
        );
        assert!(Scenario::new(Offer::Free(1), 10, &[], &functions()).is_none());
    }

    #[test]
    fn says_whether_it_repeats_and_what_is_missing() {
        let workload = Workload::gets(16, 64);
        let text = |passes: &[u64]| {
            let report =
                Report::new(conditions(), Transport::Udp, workload, vec![scenario(passes)]);
            report.text(2, &functions()).unwrap()
        };
        let same = text(&[100, 100]);
        assert!(same.contains("2 passes of 10 requests, all the same"), "{same}");
        assert!(same.contains("lower is better") && same.contains("not comparable"), "{same}");
        assert!(same.contains("met") && !same.contains("missed"), "{same}");
        assert!(same.contains("memcpy") && !same.contains("2.5  crossing"), "{same}");
        let other = text(&[100, 30_000]);
        assert!(other.contains("least 47.5, middle 3037.5, most 3037.5"), "{other}");
        assert!(other.contains("missed"), "{other}");
    }

    #[test]
    fn states_what_repeats() {
        let workload = Workload::gets(16, 64);
        let stated =
            Report::new(conditions(), Transport::Udp, workload, vec![scenario(&[20_000])]).stated();
        let figures: Vec<_> =
            stated.iter().map(|(name, figure)| (name.as_str(), figure.as_str())).collect();
        assert_eq!(figures, [("2", "2,038"), ("2.classify", "0"), ("goal", "2,500")]);
    }

    #[test]
    fn strange_code_is_mentioned() {
        let mut strange = counts(100);
        strange.matrix[UNKNOWN as usize * ROWS] = 70;
        let scenario = Scenario::new(Offer::Held(1), 10, &[strange], &functions()).unwrap();
        let workload = Workload::gets(16, 64);
        let report = Report::new(conditions(), Transport::Udp, workload, vec![scenario]);
        let text = report.text(0, &functions()).unwrap();
        assert!(text.contains("7.0 in unknown"), "{text}");
        assert!(!text.contains("in ambiguous"), "{text}");
    }
}
