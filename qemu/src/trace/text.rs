//! A timeline as lines of text, in the order in which things began.

use std::fmt::Write;

use super::timeline::{Timeline, Track};

/// A line for each slice and moment: how many instructions were executed before it, how many it
/// took, of which environment or processor, and what.
pub(crate) fn text(timeline: &Timeline) -> String {
    let mut lines: Vec<(u64, Track, usize, String)> = Vec::new();
    for slice in &timeline.slices {
        let length = slice.to - slice.from;
        let length = if slice.ended { format!("+{length}") } else { format!("+{length}…") };
        let line = format!("{length:>10}  {}{}", "  ".repeat(slice.depth), slice.name);
        lines.push((slice.from, slice.track, slice.depth, line));
    }
    for moment in &timeline.moments {
        let value = moment.value.map_or_else(String::new, |value| format!(" = {value}"));
        let line = format!("{:>10}  {}{value}", "!", moment.name);
        lines.push((moment.at, moment.track, usize::MAX, line));
    }
    lines.sort_by_key(|&(at, track, depth, _)| (at, track, depth));
    let mut text = String::new();
    for (at, track, _, line) in lines {
        let _ = writeln!(text, "{at:>12}  {:<16} {line}", timeline.name(track));
    }
    text
}
