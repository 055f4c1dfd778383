//! The pairs as text.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::Speed;
use super::pair::{Compared, PERCENTILES, Pair, Ratio, TAIL_LEAST, Told};
use super::side::LOST_MAX;

/// Why not all guests' devices are the same.
pub(crate) const UNEQUAL: &str = "devices differ: a driver may make its queues as long as virtio-mmio lets it, 1024 entries; no \
     property of the device limits it. Of these no load here uses more than 80 at a time, but for \
     rates beyond the knee.";

impl Speed {
    /// The tables.
    pub(crate) fn text(&self) -> String {
        let Self { machine, plan, pairs } = self;
        let mut out = format!(
            "throughput and latency through vhost-user, each pair in turn {} times for {} s\n\
             {machine}\n",
            plan.rounds, plan.measured_s
        );
        for pair in pairs {
            let _ = writeln!(out, "\nExo and {} ({})", pair.title, pair.label());
            if let Some(failure) = &pair.failure {
                let _ = writeln!(out, "  FAILED: {failure}");
                continue;
            }
            let _ = writeln!(out, "{}", table(pair));
            for sweep in &pair.sweeps {
                let rate = |rate: Option<f64>| {
                    rate.map_or_else(|| "none tried".to_owned(), |rate| format!("{rate:.0}"))
                };
                let _ = writeln!(
                    out,
                    "  {}, knee for {}: kept at {} requests/s, broken at {}",
                    sweep.name,
                    sweep.objective,
                    rate(sweep.kept),
                    rate(sweep.broken)
                );
            }
        }
        let _ = writeln!(
            out,
            "\n/s: answers a second (higher is better), median of the rounds; times: how many times \
             the other's,\nmedian of the rounds and in brackets least to most. Latency in µs (lower is \
             better), all rounds\ntogether; -: fewer than {TAIL_LEAST} answers took longer, so it is \
             not given. kicks, calls: notifications\nand interrupts per request. A contender fails \
             with a wrong reply, or more than {} % unanswered.",
            LOST_MAX * 100.0
        );
        let devices = self.negotiated();
        for line in &devices {
            let _ = writeln!(out, "{line}");
        }
        if devices.len() > 1 {
            let _ = writeln!(out, "{UNEQUAL}");
        }
        out
    }

    /// The devices that were negotiated: a line for all if they are the same.
    pub(crate) fn negotiated(&self) -> Vec<String> {
        let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
        for pair in &self.pairs {
            for (name, device) in ["exo", pair.other].into_iter().zip(&pair.negotiated) {
                match lines.iter_mut().find(|(line, _)| line == device) {
                    Some((_, names)) if names.contains(&name) => {}
                    Some((_, names)) => names.push(name),
                    None => lines.push((device.clone(), vec![name])),
                }
            }
        }
        let one = lines.len() == 1;
        let line = |(line, names): (String, Vec<&str>)| {
            format!("{}: {line}", if one { "every guest".to_owned() } else { names.join(", ") })
        };
        lines.into_iter().map(line).collect()
    }
}

impl Pair {
    /// The other's name, and its mitigations.
    pub(crate) fn label(&self) -> String {
        match self.mitigations {
            None => self.other.to_owned(),
            Some(mitigations) => format!("{}, mitigations={mitigations}", self.other),
        }
    }
}

impl Ratio {
    /// Median, and in brackets least to most.
    pub(crate) fn text(self) -> String {
        let Self { median, least, most } = self;
        format!("{median:.2} ({least:.2} to {most:.2})")
    }
}

impl Compared {
    /// For a row.
    pub(crate) fn title(&self) -> String {
        format!("{}, {} outstanding", self.requests.title(), self.outstanding)
    }
}

/// Microseconds, or that they are not given.
pub(crate) fn microseconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"))
}

fn table(pair: &Pair) -> Table {
    let mut header = vec!["load".to_owned(), String::new(), "/s".to_owned(), "times".to_owned()];
    header.extend(PERCENTILES.map(|which| format!("p{which}")));
    header.extend(["kicks", "calls"].map(ToOwned::to_owned));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for compared in &pair.compared {
        let title = compared.title();
        table.add_row(cells(title, "exo", &compared.exo, compared.throughput.text()));
        table.add_row(cells(String::new(), pair.other, &compared.other, String::new()));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(title: String, name: &str, told: &Told, times: String) -> Vec<String> {
    let mut cells = vec![title, name.to_owned(), format!("{:.0}", told.per_second), times];
    cells.extend(told.latency_us.iter().map(|(_, time)| microseconds(*time)));
    cells.extend([told.kicks, told.calls].map(|count| format!("{count:.3}")));
    cells
}
