//! The report as one HTML page: it needs no other file, no script and no network, and prints.
//!
//! | file | what it is |
//! |---|---|
//! | [`counts`] | goals, what comes from where, instructions |
//! | [`clock`] | throughput, latency, the knee |
//! | [`published`] | what others have published |
//! | [`plots`](crate::plots) | bars and curves, as SVG inside the page |
//! | `style.css` | black on white, on screens and on paper |

mod clock;
mod counts;
mod published;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::report::{Report, label};
use super::speed::UNEQUAL;
use crate::workspace;
use published::PUBLISHED;

const STYLE: &str = include_str!("style.css");
/// What a reader must know before quoting a figure.
const NOT_SHOWN: [&str; 7] = [
    "Instructions are not time: caches, branch prediction, memory and input/output have no cost \
     here. A program with fewer instructions usually needs less time, but by another factor.",
    "Everything is executed by an emulator (TCG). System calls, page-table switches and \
     interrupts cost other multiples of an ordinary instruction than on a processor: throughput \
     and latency are those of the emulator, and only their ratios say something of the systems.",
    "An exit of a virtual machine is not counted as instructions. Kicks and calls per request \
     stand beside the figures because with hardware virtualisation each may be such an exit.",
    "The guests have one processor: nothing here says how a contender scales with more.",
    "The network interface is the generator's process: no wire, no switch, no device latency. \
     Published systems had these.",
    "One key popularity (uniform), all keys present, one client address: no eviction, no misses.",
    "A contender is compared in the configuration given below; others may suit it better.",
];

/// Writes the page, to `path` or where it belongs, and returns where.
pub(super) fn save(report: &Report, path: Option<&Path>) -> Result<PathBuf> {
    let usual = || workspace::root().join("figures/out/compare.html");
    let path = path.map_or_else(usual, Path::to_owned);
    let page = html(report)?;
    let written = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&path, page)
    };
    written().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The page.
fn html(report: &Report) -> Result<String> {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Exo: one store, several places</title>\n<style>\n{STYLE}</style></head><body>\n\
         <h1>One store, several places</h1>\n\
         <p>The same key-value store as a Linux process, as a module of Linux's kernel and on the \
         exokernel Exo, beside memcached and beside services that only echo; same machine, same \
         virtual network interface, same requests, one run. Sizes are bytes of key/value. Orange \
         is Exo's store, grey the others.</p>\n\
         <p class=\"note\"><code>{}</code><br>{}</p>\n",
        escape(&report.ledger.command),
        escape(&report.ledger.conditions.lines()).replace('\n', "<br>")
    );
    out += &counts::goals(report);
    out += &counts::origins(report);
    out += &counts::section(report)?;
    if let Some(speed) = &report.speed {
        out += &clock::section(speed)?;
    }
    out += &beside();
    out += "<h2>What these figures do not show</h2>\n<ul>\n";
    for line in NOT_SHOWN {
        let _ = writeln!(out, "<li>{}</li>", escape(line));
    }
    out += "</ul>\n";
    out += &ledger(report);
    out += "</body></html>\n";
    Ok(out)
}

/// Published figures.
fn beside() -> String {
    let rows = PUBLISHED
        .iter()
        .map(|one| [one.source, one.figure, one.conditions, one.beside].map(escape).to_vec());
    format!(
        "<h2>Published elsewhere</h2>\n<p>Not measured here and under other conditions: to be read \
         as orders of magnitude, and as ratios within one row.</p>\n{}",
        table(&["source", "figure", "conditions", "to be held against"], 4, rows, |_| "")
    )
}

/// Everything that the figures depend on.
fn ledger(report: &Report) -> String {
    let ledger = &report.ledger;
    let mut entries = vec![
        ("command", ledger.command.clone()),
        ("commit, emulator, host", ledger.conditions.lines().trim().to_owned()),
        ("processor model", format!("-cpu {}", ledger.processor_model)),
        ("host's kernel", ledger.host_kernel.clone()),
        ("guests' Linux", ledger.guest_kernel.clone().unwrap_or_else(|| "none".to_owned())),
        ("counted on", ledger.counted_on.to_owned()),
        ("timed on", ledger.timed_on.to_owned()),
    ];
    if let Some(speed) = &report.speed {
        let pinned = speed.pairs.iter().map(|pair| &pair.pinned).find(|pinned| !pinned.is_empty());
        entries.push(("pinned", pinned.cloned().unwrap_or_default()));
        let devices = speed.negotiated();
        let unequal = (devices.len() > 1).then(|| UNEQUAL.to_owned());
        entries.extend(devices.into_iter().chain(unequal).map(|line| ("device", line)));
    }
    let mut out = "<h2>Ledger</h2>\n<dl class=\"ledger\">\n".to_owned();
    for (name, value) in entries {
        let value = escape(&value).replace('\n', "<br>");
        let _ = writeln!(out, "<dt>{name}</dt><dd>{value}</dd>");
    }
    out += "</dl>\n<h3>Contenders</h3>\n<dl class=\"ledger\">\n";
    let mut told: Vec<(String, String)> = Vec::new();
    told.extend(report.rows.iter().map(|row| (label(row), row.facts.join("; "))));
    for pair in report.speed.iter().flat_map(|speed| &speed.pairs) {
        told.push((pair.label(), pair.facts.join("; ")));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (name, facts) in &told {
        if !seen.contains(&name.as_str()) {
            seen.push(name);
            let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(facts));
        }
    }
    out += "</dl>\n";
    let machines = report.speed.iter().flat_map(|speed| &speed.pairs);
    let machines: Vec<_> = machines.filter(|pair| !pair.machines.is_empty()).collect();
    if !machines.is_empty() {
        out += "<h3>Machines that were timed</h3>\n";
    }
    for pair in machines {
        let lines = pair.machines.join("\n");
        let _ = writeln!(out, "<p>exo and {}</p><pre>{}</pre>", pair.label(), escape(&lines));
    }
    out
}

/// A table of cells that are HTML already, the first `texts` columns of which are text; `class`
/// gives each row's.
fn table(
    head: &[&str],
    texts: usize,
    rows: impl Iterator<Item = Vec<String>>,
    class: impl Fn(usize) -> &'static str,
) -> String {
    let kind = |column: usize| if column < texts { " class=\"text\"" } else { "" };
    let mut out = "<table><thead><tr>".to_owned();
    for (column, title) in head.iter().enumerate() {
        let _ = write!(out, "<th{}>{title}</th>", kind(column));
    }
    out += "</tr></thead><tbody>\n";
    for (number, cells) in rows.enumerate() {
        let _ = write!(out, "<tr class=\"{}\">", class(number));
        for (column, cell) in cells.iter().enumerate() {
            let _ = write!(out, "<td{}>{cell}</td>", kind(column));
        }
        out += "</tr>\n";
    }
    out + "</tbody></table>\n"
}

/// A plot with what is to be said of it.
fn figure(svg: &str, caption: &str) -> String {
    format!("<figure>\n{svg}\n<figcaption>{caption}</figcaption></figure>\n")
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Text as HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    #[test]
    fn the_page_needs_no_other_file() {
        let page = html(&sample::report()).unwrap();
        for foreign in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        // The name space of SVG is the only address.
        let addresses = page.matches("http").count();
        assert_eq!(addresses, page.matches("http://www.w3.org/2000/svg").count());
        assert!(page.contains("@media print"));
    }

    #[test]
    fn what_failed_or_was_missed_is_said() {
        let page = html(&sample::report()).unwrap();
        for text in ["MISSED", "FAILED: it &lt;lied&gt;", "lower is better", "higher is better"] {
            assert!(page.contains(text), "{text}");
        }
        for one in &PUBLISHED {
            assert!(page.contains(&escape(one.source)), "{}", one.source);
        }
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([1.0, 999.6, 1234567.0].map(grouped), ["1", "1,000", "1,234,567"]);
    }
}
