//! An experiment as one page of HTML that needs nothing else, readable in print.

use std::fmt::Write;

use super::ours::Grid;
use super::report::{Line, Measured, Report, cell};

const STYLE: &str = "body{font:15px/1.45 sans-serif;color:#000;background:#fff;max-width:64em;\
    margin:2em auto;padding:0 1em}h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}\
    table{border-collapse:collapse;width:100%}td,th{padding:.25em .6em;text-align:left;\
    vertical-align:top;border-bottom:1px solid #ccc}.n{text-align:right;white-space:nowrap;\
    font-variant-numeric:tabular-nums}th.n{white-space:normal}.failed{color:#a00;font-weight:bold}\
    @media print{body{margin:0;max-width:none}tr,table{page-break-inside:avoid}}";

/// The page.
pub(super) fn html(report: &Report) -> String {
    let heading = text(&format!("{}: {}", report.experiment.name, report.experiment.title));
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{heading}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{heading}</h1>\n"
    );
    for work in report.experiment.works {
        let (cite, conditions) = (text(work.cite), text(work.conditions));
        let _ = writeln!(out, "<p>Published: {cite}. On: {conditions}.</p>");
    }
    out += "<table><tr><th>published</th><th class=\"n\"></th><th>where</th>\
            <th>beside it, here</th><th class=\"n\"></th></tr>\n";
    for Line { published: [what, much, place], ours: [beside, value] } in report.lines() {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
            text(&what),
            text(&much),
            text(&place),
            text(&beside),
            text(&value)
        );
    }
    let _ =
        writeln!(out, "</table>\n<p><b>What differs:</b> {}</p>", text(report.experiment.differs));
    for left_out in report.experiment.left_out {
        let _ = writeln!(out, "<p><b>Left out:</b> {}</p>", text(left_out));
    }
    if let Some(Measured { where_and_how, ours, .. }) = &report.measured {
        ours.grids.iter().for_each(|grid| table(&mut out, grid));
        out += "<h2>Conditions</h2>\n";
        for line in where_and_how.lines().chain(ours.facts.iter().map(String::as_str)) {
            let _ = writeln!(out, "<p>{}</p>", text(line));
        }
        for failure in &ours.failures {
            let _ = writeln!(out, "<p class=\"failed\">FAILED: {}</p>", text(failure));
        }
    }
    out + "</body></html>\n"
}

fn table(out: &mut String, grid: &Grid) {
    let _ = write!(out, "<h2>{}</h2>\n<table><tr><th></th>", text(&grid.title));
    for column in &grid.columns {
        let _ = write!(out, "<th class=\"n\">{}</th>", text(column));
    }
    *out += "</tr>\n";
    for (name, cells) in &grid.rows {
        let _ = write!(out, "<tr><td>{}</td>", text(name));
        for &value in cells {
            let _ = write!(out, "<td class=\"n\">{}</td>", cell(value));
        }
        *out += "</tr>\n";
    }
    *out += "</table>\n";
}

/// Text as it may stand in HTML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::experiments::ALL;
    use super::*;

    #[test]
    fn needs_nothing_from_elsewhere_and_closes_what_it_opens() {
        for experiment in ALL {
            let page = html(&Report::new(experiment, None));
            for outside in ["http:", "https:", "<script", "<link", "src="] {
                assert!(!page.contains(outside), "{}: {outside}", experiment.name);
            }
            for tag in ["table", "tr", "td", "th", "p", "html", "body"] {
                let opened = page.matches(&format!("<{tag}>")).count()
                    + page.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
            }
        }
        assert_eq!(text("a<b & \"c\""), "a&lt;b &amp; &quot;c&quot;");
    }
}
