//! Plots as SVG: bars and curves, for pages and files.

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Colours that can be told apart without seeing red and green, and in grey (Okabe and Ito).
const OURS: RGBColor = RGBColor(213, 94, 0);
const OTHER: RGBColor = RGBColor(120, 144, 168);
const GRID: RGBColor = RGBColor(221, 221, 221);
const WIDTH: u32 = 960;
const BAR: u32 = 30;
/// Pixels for the names of the bars, and right of the plot.
const NAMES: u32 = 330;

/// A bar: what it is, how long, least and most, whether it is Exo's.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) ends: Option<(f64, f64)>,
    pub(crate) label: String,
    pub(crate) ours: bool,
}

/// A curve: its name, and points by x.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Where the objective was last kept.
    pub(crate) knee: Option<f64>,
    pub(crate) ours: bool,
}

/// Bars side by side on a logarithmic axis, each from `from` to its value; `axis` names it with its unit.
pub(crate) fn bars(bars: &[Bar], axis: &str, from: f64) -> Result<String> {
    let most =
        bars.iter().map(|bar| bar.ends.map_or(bar.value, |ends| ends.1)).fold(from, f64::max);
    let least =
        bars.iter().map(|bar| bar.ends.map_or(bar.value, |ends| ends.0)).fold(from, f64::min);
    // Where all begin at the left end there is nothing to leave room for; else some bar is left
    // of where it begins. And room for the number beside the longest.
    let least = if least < from { least * 0.8 } else { least };
    let (least, most) = (least.max(f64::MIN_POSITIVE), most * (most / least).max(2.0).powf(0.22));
    let height = bars.len() as u32 * BAR + 70;
    draw(height, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin_left(NAMES)
            .margin_right(20)
            .margin_top(10)
            .x_label_area_size(50)
            .build_cartesian_2d((least..most).log_scale(), 0.0..bars.len() as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .x_desc(axis)
            .x_labels(6)
            .x_label_formatter(&|value| short(*value))
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 13))
            .draw()?;
        for (place, bar) in bars.iter().enumerate() {
            // The first on top.
            let middle = bars.len() as f64 - place as f64 - 0.5;
            let colour = if bar.ours { OURS } else { OTHER };
            let corners = [(from.max(least), middle - 0.32), (bar.value.max(least), middle + 0.32)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            let end = bar.ends.map_or(bar.value, |ends| ends.1).max(from);
            if let Some((low, high)) = bar.ends {
                let line =
                    |points: Vec<(f64, f64)>| PathElement::new(points, BLACK.stroke_width(2));
                let tick = |at: f64| line(vec![(at, middle - 0.15), (at, middle + 0.15)]);
                let whisker = line(vec![(low, middle), (high, middle)]);
                chart.draw_series([whisker, tick(low), tick(high)])?;
            }
            let number = ("sans-serif", 14).into_font().color(&BLACK);
            let number = number.pos(Pos::new(HPos::Left, VPos::Center));
            let beside = EmptyElement::at((end.max(least), middle))
                + Text::new(bar.label.clone(), (6, 0), number);
            chart.draw_series([beside])?;
            let (_, y) = chart.backend_coord(&(least, middle));
            let name = ("sans-serif", 14).into_font().color(&BLACK);
            let name = name.pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(bar.name.clone(), (NAMES as i32 - 8, y), name))?;
        }
        if least < from {
            let line = [(from, 0.0), (from, bars.len() as f64)];
            chart.draw_series([PathElement::new(line, BLACK.stroke_width(1))])?;
        }
        Ok(())
    })
}

/// Curves on two logarithmic axes, each named at its end; a ring is the knee, `limit` a line.
pub(crate) fn curves(curves: &[Curve], axes: (&str, &str), limit: (f64, &str)) -> Result<String> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let ends = |values: Vec<f64>| {
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        (least, values.into_iter().fold(f64::MIN_POSITIVE, f64::max))
    };
    let x = ends(points().map(|point| point.0).collect());
    let y = ends(points().map(|point| point.1).chain([limit.0]).collect());
    if points().next().is_none() {
        return Ok(String::new());
    }
    draw(440, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(14)
            .margin_right(120)
            .x_label_area_size(50)
            .y_label_area_size(80)
            .build_cartesian_2d(
                (x.0 * 0.85..x.1 * 1.2).log_scale(),
                (y.0 * 0.7..y.1 * 1.6).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .x_desc(axes.0)
            .x_labels(8)
            .y_labels(6)
            .y_desc(axes.1)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .axis_desc_style(("sans-serif", 15))
            .label_style(("sans-serif", 13))
            .draw()?;
        let line = [(x.0 * 0.85, limit.0), (x.1 * 1.2, limit.0)];
        chart.draw_series(DashedLineSeries::new(line, 6, 4, BLACK.into()))?;
        let small = ("sans-serif", 13).into_font().color(&BLACK);
        let text = Text::new(limit.1.to_owned(), (4, -16), small.clone());
        chart.draw_series([EmptyElement::at(line[0]) + text])?;
        let mut labels = Vec::new();
        for curve in curves {
            let colour = if curve.ours { OURS } else { OTHER };
            chart.draw_series(LineSeries::new(curve.points.clone(), colour.stroke_width(3)))?;
            chart
                .draw_series(curve.points.iter().map(|at| Circle::new(*at, 3, colour.filled())))?;
            let knee = curve.points.iter().filter(|point| Some(point.0) == curve.knee);
            chart.draw_series(knee.map(|at| Circle::new(*at, 8, BLACK.stroke_width(2))))?;
            if let Some(last) = curve.points.last() {
                let at = chart.backend_coord(last);
                labels.push((at.1, at.0, curve.name.clone()));
            }
        }
        // Names that would lie on each other are moved apart.
        labels.sort_unstable();
        let mut lowest = i32::MIN;
        for (y, x, name) in labels {
            let at = y.max(lowest.saturating_add(16));
            lowest = at;
            let style = small.clone().pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(name, (x + 12, at), style))?;
        }
        Ok(())
    })
}

/// An SVG of this height, drawn by `paint`.
fn draw(
    height: u32,
    paint: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let drawn = paint(&root).map_err(|error| error.to_string());
        drawn.map_err(anyhow::Error::msg).context("cannot draw a plot")?;
        root.present().context("cannot draw a plot")?;
    }
    // It scales with the page instead.
    let size = format!("width=\"{WIDTH}\" height=\"{height}\" viewBox");
    Ok(svg.replacen(&size, "viewBox", 1))
}

/// A number as on an axis.
fn short(value: f64) -> String {
    match value {
        1e6.. => format!("{} M", value / 1e6),
        1e3..1e6 => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_its_name_and_number() {
        let bar = |name: &str, value: f64| Bar {
            name: name.to_owned(),
            value,
            ends: Some((value / 2.0, value * 2.0)),
            label: format!("{value}!"),
            ours: name == "exo",
        };
        let svg = bars(&[bar("exo", 1000.0), bar("module", 9000.0)], "instructions", 1.0).unwrap();
        for text in ["exo", "module", "1000!", "9000!", "instructions", "viewBox"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn nothing_measured_is_no_plot() {
        assert_eq!(curves(&[], ("x", "y"), (1.0, "limit")).unwrap(), "");
    }
}
