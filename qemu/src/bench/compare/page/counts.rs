//! Goals, what comes from where, and instructions per request.

use std::fmt::Write;

use anyhow::Result;

use super::super::measure::Row;
use super::super::report::{Report, label};
use super::super::scenario::SATURATED;
use super::super::speed::plan;
use super::{escape, figure, grouped, table};
use crate::plots::{Bar, bars};

/// The goals, met or missed.
pub(super) fn goals(report: &Report) -> String {
    if report.goals.is_empty() {
        return "<p class=\"note\">What the goals are about was not measured in this run.</p>\n"
            .to_owned();
    }
    let rows = report.goals.iter().map(|one| {
        let verdict = if one.met {
            "<span class=\"met\">met</span>"
        } else {
            "<span class=\"missed\">MISSED</span>"
        };
        vec![escape(&one.goal), format!("{:.2}", one.measured), verdict.to_owned()]
    });
    format!("<h2>Goals</h2>\n{}", table(&["goal", "measured", ""], 1, rows, |_| ""))
}

/// How much comes from engine, kernel and exokernel.
pub(super) fn origins(report: &Report) -> String {
    let times = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2} ×"));
    let rows = report.origins.iter().map(|origin| {
        vec![
            origin.what.to_owned(),
            format!("{} → {}", origin.from, origin.to),
            times(origin.fewer_from_sleep),
            times(origin.fewer_in_batch),
            times(origin.throughput),
        ]
    });
    let head = [
        "what changes",
        "from → to",
        "fewer instructions, 1 at a time",
        &format!("{SATURATED} at a time"),
        &format!("higher throughput, {} outstanding", plan::SATURATED),
    ];
    format!(
        "<h2>Where the difference comes from</h2>\n<p>GET 16/64, the Linux guest's default \
         mitigations. Each row changes one thing; the factors multiply. Higher is better, below 1 is \
         a loss. Throughput of two Linux contenders is compared through Exo, which each was measured \
         against.</p>\n{}",
        table(&head, 2, rows, |_| "")
    )
}

/// Instructions of all contenders.
pub(super) fn section(report: &Report) -> Result<String> {
    if report.rows.is_empty() {
        return Ok(String::new());
    }
    let mut out = "<h2>Instructions per request</h2>\n<p>Guest instructions of a request, in user \
                   space and in the kernel, counted by QEMU; lower is better. <em>rep once</em>: a \
                   repeated string instruction counts as one; <em>all</em>: each of its rounds \
                   counts, and so it does in user and kernel. The bars show rep once.</p>\n"
        .to_owned();
    let failures = report.rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?)));
    for (row, failure) in failures {
        let _ = writeln!(
            out,
            "<p class=\"failed\">{}: FAILED: {}</p>",
            escape(&label(row)),
            escape(failure)
        );
    }
    let exo = report.rows.iter().find(|row| row.name == "exo");
    for &scenario in &report.scenarios {
        let of = |row: &Row| row.figures.iter().find(|one| one.scenario == scenario).cloned();
        let measured: Vec<_> = report.rows.iter().filter_map(|row| Some((row, of(row)?))).collect();
        let exo = exo.and_then(of).map(|figure| figure.repeats_once);
        let bar = |(row, figure): &(&Row, _)| {
            let figure: &super::super::measure::Figure = figure;
            let times = exo.map(|exo| format!(" ({:.1} ×)", figure.repeats_once / exo));
            Bar {
                name: label(row),
                value: figure.repeats_once,
                ends: None,
                label: grouped(figure.repeats_once) + &times.unwrap_or_default(),
                ours: row.name == "exo",
            }
        };
        let drawn: Vec<_> = measured.iter().map(bar).collect();
        let _ = writeln!(out, "<h3>{}</h3>", scenario.title());
        if !drawn.is_empty() {
            let svg = bars(&drawn, "instructions per request (lower is better)", 100.0)?;
            out += &figure(&svg, "Logarithmic axis; in brackets as many times Exo's store.");
        }
        let rows = measured.iter().map(|(row, figure)| {
            let mut cells = vec![escape(&row.title), escape(&label(row))];
            cells.extend(
                [figure.repeats_once, figure.instructions, figure.user, figure.kernel].map(grouped),
            );
            cells.extend(
                [figure.system_calls, figure.interrupt_returns, figure.sleeps]
                    .map(|count| format!("{count:.2}")),
            );
            cells.push(format!("{:.2}", figure.spread() * 100.0));
            cells
        });
        let head = [
            "contender",
            "name",
            "rep once",
            "all",
            "user",
            "kernel",
            "system calls",
            "returns from interrupts",
            "sleeps",
            "passes apart, %",
        ];
        let ours = |row: usize| {
            let name = measured.get(row).map(|(row, _)| row.name);
            if name == Some("exo") { "ours" } else { "" }
        };
        out += &table(&head, 2, rows, ours);
    }
    Ok(out)
}
