//! Two looks at a machine as rows of text: what there is, and how much a second of what only grows.

use exo_abi::FrameKind;

use super::sample::{COUNTERS, Row, Sample};

/// Rows to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// What is known of the whole machine.
    pub(crate) machine: String,
    /// Counters: name, how much a second, and all in all.
    pub(crate) counters: Vec<[String; 3]>,
    /// For each processor its slots, a letter for each: that of the environment in the table.
    pub(crate) slots: Vec<String>,
    /// A row for each environment, under [`COLUMNS`].
    pub(crate) environments: Vec<[String; COLUMNS.len()]>,
}

/// What the columns of the environments' table are.
pub(crate) const COLUMNS: [&str; 12] = [
    "",
    "environment",
    "id",
    "frames",
    "tables",
    "slots",
    "in/s",
    "out/s",
    "bindings",
    "filters",
    "events/s",
    "taken",
];

/// What is in a slot that no environment owns.
const UNOWNED: char = '.';

impl View {
    /// What changed from `before` to `now`; without one before, nothing is known to have.
    pub(crate) fn new(before: Option<&Sample>, now: &Sample) -> Self {
        let seconds = before.map_or(0.0, |before| (now.at - before.at).as_secs_f64());
        let rate = |delta: u64| match seconds > 0.0 {
            true => format!("{:.0}", delta as f64 / seconds),
            false => "-".to_owned(),
        };
        let counters =
            COUNTERS.iter().zip(&now.counters).enumerate().map(|(index, ((name, _), all))| {
                let past = before.map_or(*all, |before| before.counters[index]);
                [(*name).to_owned(), rate(all.saturating_sub(past)), all.to_string()]
            });
        let letters: Vec<(u32, char)> = now
            .environments
            .iter()
            .map(|row| row.environment.id)
            .zip(('a'..='z').chain('A'..='Z').chain(std::iter::repeat('+')))
            .collect();
        let letter = |id: u32| {
            let found = letters.iter().find(|(known, _)| *known == id);
            found.map_or(UNOWNED, |(_, letter)| *letter)
        };
        let environments = now.environments.iter().map(|row| {
            let past = before.and_then(|before| {
                let mut rows = before.environments.iter();
                rows.find(|past| past.environment.id == row.environment.id)
            });
            cells(row, past.unwrap_or(row), letter(row.environment.id), &rate)
        });
        Self {
            machine: format!(
                "{} processor{}, {} of {} page frames free",
                now.cores,
                if now.cores == 1 { "" } else { "s" },
                now.free,
                now.frames
            ),
            counters: counters.collect(),
            slots: now
                .slots
                .iter()
                .map(|slots| slots.iter().map(|&id| letter(id)).collect())
                .collect(),
            environments: environments.collect(),
        }
    }

    /// Lines for a pipe: of the machine, of each processor's slots, and of each environment.
    pub(crate) fn lines(&self) -> String {
        let counters =
            self.counters.iter().map(|[name, rate, all]| format!(" {name} {rate}/s ({all})"));
        let mut lines =
            format!("machine: {};{}\n", self.machine, counters.collect::<Vec<_>>().join(","));
        for (number, slots) in self.slots.iter().enumerate() {
            lines += &format!("processor {number}: {slots}\n");
        }
        for row in &self.environments {
            let [letter, name, ..] = row;
            let facts =
                COLUMNS.iter().zip(row).skip(2).map(|(column, cell)| format!(" {column} {cell}"));
            lines += &format!("{letter} {name}:{}\n", facts.collect::<String>());
        }
        lines
    }
}

fn cells(
    row: &Row,
    past: &Row,
    letter: char,
    rate: &impl Fn(u64) -> String,
) -> [String; COLUMNS.len()] {
    let environment = &row.environment;
    let of = |kind: FrameKind| environment.of_kind(kind).to_string();
    let slots: u32 = environment.slots.iter().sum();
    [
        letter.to_string(),
        environment.name.clone(),
        environment.id.to_string(),
        environment.all_frames().to_string(),
        of(FrameKind::PageTable),
        slots.to_string(),
        rate(row.delivered.wrapping_sub(past.delivered).into()),
        rate(row.taken.wrapping_sub(past.taken).into()),
        of(FrameKind::Binding),
        of(FrameKind::Filter),
        rate(environment.events.saturating_sub(past.environment.events)),
        environment.repossessed.to_string(),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::inspect::Environment;

    /// Two looks, half a second apart.
    pub(crate) fn samples() -> [Sample; 2] {
        let environment = |id: u32, name: &str| {
            let mut environment = Environment { id, name: name.into(), ..Environment::default() };
            environment.frames[FrameKind::Memory as usize] = 90;
            environment.frames[FrameKind::PageTable as usize] = 7;
            environment.frames[FrameKind::Filter as usize] = 3;
            environment.slots[0] = 2;
            Row { environment, delivered: u32::MAX, taken: 10 }
        };
        let at = Instant::now();
        let first = Sample {
            at,
            cores: 1,
            frames: 1000,
            free: 400,
            counters: vec![100; COUNTERS.len()],
            slots: vec![vec![5, 9, 0, 9, 5]],
            environments: vec![environment(5, "root"), environment(9, "kvstore")],
        };
        let mut second = Sample { at: at + Duration::from_millis(500), ..first.clone() };
        second.counters[0] = 150;
        second.environments[1].delivered = 4;
        second.environments[1].environment.events = 20;
        [first, second]
    }

    #[test]
    fn rates_are_what_changed() {
        let [first, second] = samples();
        let view = View::new(Some(&first), &second);
        assert_eq!(view.machine, "1 processor, 400 of 1000 page frames free");
        assert_eq!(view.counters[0], ["calls", "100", "150"]);
        assert_eq!(view.counters[1], ["traps", "0", "100"]);
        assert_eq!(view.slots, ["ab.ba"]);
        let store = &view.environments[1];
        // From the last number to 4 are five packets.
        let expected = ["b", "kvstore", "9", "100", "7", "2", "10", "0", "0", "3", "40", "0"];
        assert_eq!(store.each_ref().map(String::as_str), expected);
        let unknown = View::new(None, &first);
        assert_eq!(unknown.counters[0], ["calls", "-", "100"]);
    }

    #[test]
    fn a_pipe_gets_lines() {
        let [first, second] = samples();
        let lines = View::new(Some(&first), &second).lines();
        let lines: Vec<_> = lines.lines().collect();
        assert!(lines[0].starts_with("machine: 1 processor, 400 of 1000"), "{lines:?}");
        assert!(lines[0].contains(" calls 100/s (150),"), "{lines:?}");
        assert_eq!(lines[1], "processor 0: ab.ba");
        assert!(lines[3].starts_with("b kvstore: id 9 frames 100 tables 7 "), "{lines:?}");
        assert!(!lines.concat().contains('\u{1b}'));
    }
}
