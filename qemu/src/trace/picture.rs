//! A timeline as a picture: SVG, for documents.

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::timeline::{Slice, Timeline, Track};

/// Pixels: the picture's width, the names' column, a row, and a letter.
const WIDTH: i32 = 960;
const NAMES: i32 = 120;
const ROW: i32 = 20;
const LETTER: i32 = 6;
/// Rows of a track at most.
const DEPTH: usize = 3;
/// Colours that can be told apart without seeing red and green, lightened for black letters.
const COLOURS: [RGBColor; 6] = [
    RGBColor(240, 190, 120),
    RGBColor(150, 200, 235),
    RGBColor(140, 210, 185),
    RGBColor(245, 235, 150),
    RGBColor(225, 175, 205),
    RGBColor(205, 205, 205),
];

/// What was recorded, from the first slice to the last.
pub(crate) fn svg(timeline: &Timeline) -> Result<String> {
    let mut svg = String::new();
    draw(timeline, &mut svg).context("cannot draw the timeline")?;
    Ok(svg)
}

fn draw(timeline: &Timeline, svg: &mut String) -> Result<()> {
    let slices = || timeline.slices.iter().filter(|slice| slice.depth < DEPTH);
    let from = slices().map(|slice| slice.from).min().unwrap_or(0);
    let to = slices().map(|slice| slice.to).max().unwrap_or(0).max(from + 1);
    let tracks = timeline.processors().map(Track::Processor);
    let environments = (0..timeline.environments().count()).map(Track::Environment);
    let rows: Vec<(Track, usize)> = tracks
        .chain(environments)
        .flat_map(|track| (0..DEPTH).map(move |depth| (track, depth)))
        .filter(|&(track, depth)| {
            slices().any(|slice| (slice.track, slice.depth) == (track, depth))
        })
        .collect();

    let height = (rows.len() as i32 + 2) * ROW;
    let area = SVGBackend::with_string(svg, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let x = |at: u64| {
        let share = (at - from) as f64 / (to - from) as f64;
        NAMES + (share * f64::from(WIDTH - NAMES - 10)) as i32
    };
    let style = |size: i32, horizontal| {
        let style = ("sans-serif", size).into_font().color(&BLACK);
        style.pos(Pos::new(horizontal, VPos::Center))
    };
    for (row, &(track, depth)) in (0..).zip(&rows) {
        let top = row * ROW;
        if depth == 0 {
            let place = (NAMES - 8, top + ROW / 2);
            area.draw(&Text::new(timeline.name(track), place, style(13, HPos::Right)))?;
        }
        for slice in slices().filter(|slice| (slice.track, slice.depth) == (track, depth)) {
            let (left, right) = (x(slice.from), x(slice.to).max(x(slice.from) + 1));
            let corners = [(left, top + 1), (right, top + ROW - 1)];
            area.draw(&Rectangle::new(corners, colour(slice).filled()))?;
            area.draw(&Rectangle::new(corners, WHITE.stroke_width(1)))?;
            if right - left > slice.name.chars().count() as i32 * LETTER + 4 {
                let place = ((left + right) / 2, top + ROW / 2);
                area.draw(&Text::new(slice.name.clone(), place, style(11, HPos::Center)))?;
            }
        }
    }
    let bottom = rows.len() as i32 * ROW + ROW / 2;
    let axis = format!("{} instructions, of all processors together", to - from);
    area.draw(&PathElement::new([(x(from), bottom - 6), (x(to), bottom - 6)], BLACK))?;
    area.draw(&Text::new(axis, (x(from), bottom + 6), style(12, HPos::Left)))?;
    area.present()?;
    Ok(())
}

/// One for each name.
fn colour(slice: &Slice) -> RGBColor {
    let sum = slice.name.bytes().fold(7_usize, |sum, byte| sum * 31 % 1009 + usize::from(byte));
    COLOURS[sum % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_drawn_and_named_where_there_is_room() {
        let slice = |depth, name: &str, from, to| Slice {
            track: Track::Processor(0),
            depth,
            name: name.to_owned(),
            from,
            to,
            ended: true,
        };
        let mut timeline = Timeline::default();
        timeline.add_processor(0);
        timeline.slices = vec![
            slice(0, "kvstore", 1000, 2000),
            slice(1, "net_sync", 1200, 1900),
            slice(1, "too narrow for it", 1990, 1995),
        ];
        let svg = svg(&timeline).unwrap();
        for text in ["processor 0", "kvstore", "net_sync", "1000 instructions"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(!svg.contains("too narrow"), "{svg}");
        assert!(super::svg(&Timeline::default()).is_ok(), "nothing was recorded");
    }
}
