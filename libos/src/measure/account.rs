//! What was counted, by operation and part. Nothing here allocates after the beginning, so
//! that a mark may stand anywhere: in a heap, too.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::MAX_PARTS;

/// Runs of an operation before the first sample, in which everything is touched for the first
/// time.
pub(super) const WARM_UP: usize = 50;
/// All of an operation.
const TOTAL: &str = "total";
/// What comes after its last mark.
const REST: &str = "rest";

/// Where a program is when it makes an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    Begin,
    Mark,
    End,
}

/// Samples of every part.
#[derive(Debug)]
pub(super) struct Account {
    /// Of each operation.
    wanted: usize,
    /// What a sample has too much.
    overhead: u64,
    parts: [Part; MAX_PARTS],
    used: usize,
    /// `wanted` places for each part.
    samples: Vec<u32>,
    open: Option<Open>,
    /// Parts for which there was no room.
    lost: u64,
}

/// The operation under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The part that is its total.
    total: usize,
    /// Operations that were begun within it and have not ended.
    within: u32,
    /// Of the part that the next event ends.
    pending: u64,
}

/// A part of an operation, or its total.
#[derive(Clone, Copy, Default, Debug)]
struct Part {
    /// The index of the operation's total.
    total: usize,
    name: &'static str,
    /// So far in this run.
    now: u64,
    /// Of a total: how often it was done.
    runs: usize,
}

/// The samples of a part, as documents and programs read them: one line of JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Figure<'a> {
    operation: &'a str,
    part: &'a str,
    /// In ascending order, at least one.
    samples: &'a [u32],
}

impl Figure<'_> {
    /// The sample that so many of so many are not above.
    fn of(&self, part: usize, parts: usize) -> u32 {
        let last = self.samples.len().saturating_sub(1);
        self.samples.get(last * part / parts).copied().unwrap_or(0)
    }
}

impl fmt::Display for Figure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, part, samples } = self;
        let sum: u64 = samples.iter().map(|&sample| u64::from(sample)).sum();
        let mean = sum as f64 / samples.len() as f64;
        let [least, quarter, median, three_quarters, most] =
            [0, 1, 2, 3, 4].map(|part| self.of(part, 4));
        write!(
            f,
            "{{\"operation\":{operation:?},\"part\":{part:?},\"samples\":{},\"least\":{least},\
             \"quarter\":{quarter},\"median\":{median},\"three_quarters\":{three_quarters},\
             \"most\":{most},\"mean\":{mean:.1}}}",
            samples.len()
        )
    }
}

impl Account {
    /// Runs in which [`Account::overhead`] is found out.
    pub(super) const CALIBRATION: usize = 101 + WARM_UP;

    /// An empty account for so many samples of each operation, at least one.
    pub(super) fn new(wanted: usize) -> Self {
        let wanted = wanted.max(1);
        Self {
            wanted,
            overhead: 0,
            parts: [Part::default(); MAX_PARTS],
            used: 0,
            samples: vec![0; wanted * MAX_PARTS],
            open: None,
            lost: 0,
        }
    }

    /// The same; every sample has `overhead` too much.
    pub(super) fn less(self, overhead: u64) -> Self {
        Self { overhead, ..self }
    }

    /// What two events with nothing between them are apart, if that is all there was.
    pub(super) fn overhead(mut self) -> u64 {
        let mut overhead = 0;
        self.report(|figure| {
            if figure.part == REST {
                overhead = figure.of(1, 2).into();
            }
        });
        overhead
    }

    /// The program is at `event` of `name`, `ticks` after the event before.
    pub(super) fn note(&mut self, event: Event, name: &'static str, ticks: u64) {
        let Some(open) = &mut self.open else {
            if event == Event::Begin {
                let total = self.operation(name);
                self.open = total.map(|total| Open { total, within: 0, pending: 0 });
            }
            return;
        };
        open.pending += ticks.saturating_sub(self.overhead);
        match event {
            Event::Begin => open.within += 1,
            Event::End if open.within > 0 => open.within -= 1,
            Event::Mark => self.add(name),
            Event::End => {
                self.add(REST);
                self.close();
            }
        }
    }

    /// Hands out the figures of all that was measured, operations in the order in which they came.
    pub(super) fn report(&mut self, mut print: impl FnMut(Figure<'_>)) {
        for total in 0..self.used {
            let parts = |account: &Self| {
                let parts = account.parts[..account.used].iter().enumerate();
                parts.filter(move |(_, part)| part.total == total).count()
            };
            // Without marks the rest is all there is.
            let has_marks = parts(self) > 2;
            for index in total..self.used {
                let part = self.parts[index];
                if part.total == total && (index == total || has_marks) {
                    self.figure(index, &mut print);
                }
            }
        }
        if self.lost > 0 {
            let samples = &[self.lost.min(u32::MAX.into()) as u32];
            print(Figure { operation: "no room for parts", part: TOTAL, samples });
        }
    }

    fn figure(&mut self, index: usize, print: &mut impl FnMut(Figure<'_>)) {
        let Part { total, name, .. } = self.parts[index];
        let Part { name: operation, runs, .. } = self.parts[total];
        let start = index * self.wanted;
        let count = runs.saturating_sub(WARM_UP).min(self.wanted);
        let samples = &mut self.samples[start..start + count];
        samples.sort_unstable();
        if count > 0 {
            let part = if index == total { TOTAL } else { name };
            print(Figure { operation, part, samples });
        }
    }

    /// The total of the operation `name`.
    fn operation(&mut self, name: &'static str) -> Option<usize> {
        let is_it = |(index, part): &(usize, &Part)| part.total == *index && part.name == name;
        let found = self.parts[..self.used].iter().enumerate().find(is_it).map(|(index, _)| index);
        found.or_else(|| self.enter(name, self.used))
    }

    fn enter(&mut self, name: &'static str, total: usize) -> Option<usize> {
        let Some(place) = self.parts.get_mut(self.used) else {
            self.lost += 1;
            return None;
        };
        *place = Part { total, name, now: 0, runs: 0 };
        self.used += 1;
        Some(self.used - 1)
    }

    /// Ends a part of the open operation, which is called `name`.
    fn add(&mut self, name: &'static str) {
        let Some(open) = &mut self.open else { return };
        let (total, ticks) = (open.total, core::mem::take(&mut open.pending));
        self.parts[total].now += ticks;
        let parts = self.parts[..self.used].iter().enumerate().skip(total + 1);
        let is_it = |(_, part): &(usize, &Part)| part.total == total && part.name == name;
        let found = { parts }.find(is_it).map(|(index, _)| index);
        if let Some(index) = found.or_else(|| self.enter(name, total)) {
            self.parts[index].now += ticks;
        }
    }

    /// The operation is over: a sample of each part.
    fn close(&mut self) {
        let Some(Open { total, .. }) = self.open.take() else { return };
        let run = self.parts[total].runs;
        let place = run.checked_sub(WARM_UP).filter(|&place| place < self.wanted);
        for (index, part) in self.parts[..self.used].iter_mut().enumerate() {
            if part.total != total {
                continue;
            }
            let ticks = core::mem::take(&mut part.now);
            if let Some(place) = place {
                let sample = &mut self.samples[index * self.wanted + place];
                *sample = ticks.min(u32::MAX.into()) as u32;
            }
        }
        self.parts[total].runs = run + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program whose events take time by themselves.
    struct Program(Account);

    impl Program {
        const OVERHEAD: u64 = 17;

        fn new(wanted: usize) -> Self {
            Self(Account::new(wanted).less(Self::OVERHEAD))
        }

        fn note(&mut self, event: Event, name: &'static str, ticks: u64) {
            self.0.note(event, name, ticks + Self::OVERHEAD);
        }

        /// All figures: operation, part, samples.
        fn figures(mut self) -> Vec<(String, String, Vec<u32>)> {
            let mut figures = Vec::new();
            self.0.report(|Figure { operation, part, samples }| {
                figures.push((operation.to_owned(), part.to_owned(), samples.to_vec()));
            });
            figures
        }

        fn warm_up(&mut self, name: &'static str) {
            for _ in 0..WARM_UP {
                self.note(Event::Begin, name, 1000);
                self.note(Event::End, name, 1000);
            }
        }
    }

    fn figure(operation: &str, part: &str, samples: &[u32]) -> (String, String, Vec<u32>) {
        (operation.to_owned(), part.to_owned(), samples.to_vec())
    }

    #[test]
    fn operations_fall_into_parts() {
        let mut program = Program::new(10);
        program.warm_up("put");
        for more in [5, 0, 3] {
            program.note(Event::Begin, "put", 99);
            program.note(Event::Mark, "find", 100 + more);
            program.note(Event::Mark, "copy", 20);
            program.note(Event::Mark, "find", 2);
            program.note(Event::End, "put", 7);
            program.note(Event::Mark, "outside", 1000);
        }
        let expected = [
            figure("put", "total", &[129, 132, 134]),
            figure("put", "rest", &[7, 7, 7]),
            figure("put", "find", &[102, 105, 107]),
            figure("put", "copy", &[20, 20, 20]),
        ];
        assert_eq!(program.figures(), expected);
    }

    #[test]
    fn without_marks_there_is_a_total() {
        let mut program = Program::new(2);
        program.warm_up("get");
        program.warm_up("never again");
        for ticks in [3, 4, 5] {
            program.note(Event::Begin, "get", 0);
            program.note(Event::End, "get", ticks);
        }
        assert_eq!(program.figures(), [figure("get", "total", &[3, 4])], "and no more than wanted");
    }

    #[test]
    fn an_operation_within_another_is_part_of_it() {
        let mut program = Program::new(1);
        program.warm_up("outer");
        for (event, name, ticks) in [
            (Event::Begin, "outer", 0),
            (Event::Begin, "inner", 10),
            (Event::Mark, "deep", 20),
            (Event::End, "inner", 40),
            (Event::Mark, "after", 80),
            (Event::End, "outer", 160),
        ] {
            program.note(event, name, ticks);
        }
        let expected = [
            figure("outer", "total", &[310]),
            figure("outer", "rest", &[160]),
            figure("outer", "deep", &[30]),
            figure("outer", "after", &[120]),
        ];
        assert_eq!(program.figures(), expected);
    }

    #[test]
    fn what_has_no_room_is_said() {
        let mut program = Program::new(1);
        let names: Vec<&'static str> =
            (0..MAX_PARTS).map(|number| &*format!("{number}").leak()).collect();
        program.warm_up("all");
        program.note(Event::Begin, "all", 0);
        names.iter().for_each(|name| program.note(Event::Mark, name, 1));
        program.note(Event::End, "all", 0);
        let figures = program.figures();
        assert_eq!(figures[0], figure("all", "total", &[MAX_PARTS as u32]));
        assert_eq!(figures.last(), Some(&figure("no room for parts", "total", &[2])));
    }

    #[test]
    fn calibration_finds_what_events_take() {
        let mut account = Account::new(200);
        for run in 0..Account::CALIBRATION {
            account.note(Event::Begin, "", 0);
            account.note(Event::Mark, "", 21);
            account.note(Event::End, "", if run % 10 == 0 { 900 } else { 21 });
        }
        assert_eq!(account.overhead(), 21);
    }

    #[test]
    fn a_figure_is_a_line_of_json() {
        let samples = &[1, 2, 3, 4, 10];
        let figure = Figure { operation: "a \"b\"", part: "total", samples };
        let line = r#"{"operation":"a \"b\"","part":"total","samples":5,"least":1,"quarter":2,"median":3,"three_quarters":4,"most":10,"mean":4.0}"#;
        assert_eq!(figure.to_string(), line);
    }
}
