//! Throughput, latency and the knee.

use std::fmt::Write;

use anyhow::Result;

use super::super::speed::pair::{Compared, PERCENTILES, Pair, TAIL_LEAST, Told};
use super::super::speed::plan::{OUTSTANDING, Requests};
use super::super::speed::{Speed, microseconds};
use super::{escape, figure, grouped, table};
use crate::plots::{Bar, Curve, bars, curves};

/// Which of [`PERCENTILES`] the curves show.
const SHOWN: usize = 1;

/// All pairs.
pub(super) fn section(speed: &Speed) -> Result<String> {
    let plan = &speed.plan;
    let mut out = format!(
        "<h2>Throughput and latency</h2>\n<p>Exo's store and one other contender are booted \
         together, their processors on one processor of the host, and loaded in turn, {} times each \
         for {} s (A B A B …), by a generator that is their network interface. A round gives a \
         ratio; given are the median and, as whiskers and in brackets, least to most. Absolute \
         figures are an emulator's on this host: compare within a pair only.</p>\n",
        plan.rounds, plan.measured_s
    );
    for pair in &speed.pairs {
        if let Some(failure) = &pair.failure {
            let _ = writeln!(
                out,
                "<p class=\"failed\">exo and {}: FAILED: {}</p>",
                escape(&pair.label()),
                escape(failure)
            );
        }
    }
    for &requests in &plan.requests {
        for outstanding in OUTSTANDING {
            out += &ratios(speed, requests, outstanding)?;
        }
    }
    for pair in speed.pairs.iter().filter(|pair| !pair.compared.is_empty()) {
        out += &one(pair);
    }
    let _ = writeln!(
        out,
        "<p class=\"note\">Answers a second: median of the rounds, higher is better. Latency in \
         microseconds: of all rounds together, lower is better; “-” where fewer than {TAIL_LEAST} \
         answers took longer or more than 0.1 % of the requests were never sent. Kicks: \
         notifications that the guest sent its network interface; calls: interrupts that it was \
         sent; each per request. Lost: no answer in time.</p>"
    );
    out += &sweeps(speed)?;
    Ok(out)
}

/// Throughput of Exo's store, as times each other's.
fn ratios(speed: &Speed, requests: Requests, outstanding: u32) -> Result<String> {
    let bar = |pair: &Pair| {
        let ratio = pair.at(requests, outstanding)?.throughput;
        Some(Bar {
            name: pair.label(),
            value: ratio.median,
            ends: Some((ratio.least, ratio.most)),
            label: format!("{:.2} ×", ratio.median),
            ours: true,
        })
    };
    let drawn: Vec<_> = speed.pairs.iter().filter_map(bar).collect();
    if drawn.is_empty() {
        return Ok(String::new());
    }
    let svg = bars(&drawn, "times the other's throughput (higher is better)", 1.0)?;
    let caption = "Exo's store against each. Logarithmic axis that begins at 1, as fast as the other; left of it the other is faster; an echo \
                   service does less than a store.";
    let title = format!("{}, {outstanding} outstanding", requests.title());
    Ok(format!("<h3>Throughput: {title}</h3>\n{}", figure(&svg, caption)))
}

/// A pair's figures.
fn one(pair: &Pair) -> String {
    let cells = |compared: &Compared, name: &str, told: &Told, first: bool| {
        let ratio =
            |ratio: Option<String>| if first { ratio.unwrap_or_default() } else { String::new() };
        let mut cells = vec![
            if first { load(compared) } else { String::new() },
            escape(name),
            grouped(told.per_second),
            ratio(Some(compared.throughput.text())),
        ];
        cells.extend(told.latency_us.iter().map(|(_, time)| microseconds(*time)));
        cells.push(ratio(compared.p99.map(super::super::speed::pair::Ratio::text)));
        cells.extend([told.kicks, told.calls].map(|count| format!("{count:.3}")));
        cells.push(format!("{:.3}", told.unanswered * 100.0));
        cells
    };
    let rows = pair.compared.iter().flat_map(|one| {
        [cells(one, "exo", &one.exo, true), cells(one, pair.other, &one.other, false)]
    });
    let percentiles = PERCENTILES.map(|which| format!("p{which}, µs"));
    let mut head = vec!["load (outstanding)", "contender", "answers/s", "times"];
    head.extend(percentiles.iter().map(String::as_str));
    head.extend(["p99 shorter, times", "kicks", "calls", "lost, %"]);
    format!(
        "<h3>Exo and {} ({})</h3>\n<div class=\"wide\">{}</div>\n",
        escape(pair.title),
        escape(&pair.label()),
        table(&head, 2, rows, |row| if row % 2 == 0 { "ours" } else { "" })
    )
}

/// A load as short as a column is narrow.
fn load(compared: &Compared) -> String {
    format!("{} ({})", compared.requests.title(), compared.outstanding)
}

/// Latency by offered load.
fn sweeps(speed: &Speed) -> Result<String> {
    let mut out = String::new();
    for pair in speed.pairs.iter().filter(|pair| !pair.sweeps.is_empty()) {
        let curve = |sweep: &super::super::speed::sweep::Sweep| {
            let point = |point: &super::super::speed::sweep::Point| {
                let (_, time) = point.latency_us.get(SHOWN)?;
                Some((point.offered, (*time)?))
            };
            Curve {
                name: sweep.name.to_owned(),
                points: sweep.points.iter().filter_map(point).collect(),
                knee: sweep.kept,
                ours: sweep.name == "exo",
            }
        };
        let drawn: Vec<_> = pair.sweeps.iter().map(curve).collect();
        let axes = ("requests offered a second", "p99 latency, µs (lower is better)");
        let svg = curves(&drawn, axes, (1000.0, "the objective: 1 ms"))?;
        let knees = pair.sweeps.iter().map(|sweep| {
            let kept = sweep.kept.map_or("at no rate tried".to_owned(), grouped);
            format!("{}: {kept}", sweep.name)
        });
        let knees: Vec<_> = knees.collect();
        let caption = format!(
            "Both axes logarithmic; latency counts from the intended time of a request. Rings: the \
             highest rate that keeps the objective, in requests a second: {}. A rate without a \
             point has no percentile: too much was never sent.",
            escape(&knees.join("; "))
        );
        let _ = writeln!(out, "<h3>Offered load: exo and {}</h3>", escape(&pair.label()));
        out += &figure(&svg, &caption);
    }
    Ok(out)
}
