//! All of it as text and JSON, and what is promised of it.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::connections::{Asking, Row, WAYS};
use super::machines::Peer;
use super::{datagrams, raw, restart, time};
use crate::bench::conditions::Conditions;
use crate::bench::load::Verb;
use crate::bench::report::Stating;
use crate::figures::{self, Named};

/// A durable SET takes so many times fewer instructions than Redis's, and at most this share of
/// its time, with one client; and with 32.
const TIMES_ONE: f64 = 30.0;
const TIMES_MANY: f64 = 12.0;
const TIME: f64 = 0.5;
/// The check of a request against its extent is at most this share of a write of 4 KiB.
const CHECK: f64 = 0.02;
/// A read hit costs at most this share more with a disk: what is asked of a count that differs by
/// where the linker puts things.
const HIT: f64 = 1.01;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    unit: &'static str,
    better: &'static str,
    value_bytes: usize,
    conditions: Conditions,
    /// Versions, command lines and settings of what stands beside.
    pub(super) facts: Vec<String>,
    #[serde(rename = "rows")]
    pub(super) datagrams: Vec<datagrams::Row>,
    pub(super) hits: Vec<Hit>,
    pub(super) connections: Vec<Row>,
    pub(super) times: Vec<time::Row>,
    pub(super) raw: Vec<raw::Row>,
    pub(super) start: Option<restart::Start>,
}

/// Instructions of a GET over UDP, one at a time and 32.
#[derive(Debug, Serialize)]
pub(super) struct Hit {
    pub(super) durable: bool,
    pub(super) one: f64,
    pub(super) batch: f64,
}

/// A promise held against what was measured.
#[derive(Debug, PartialEq)]
struct Verdict {
    key: String,
    goal: String,
    measured: f64,
    met: bool,
}

impl Report {
    pub(super) fn new(value_bytes: usize, conditions: Conditions) -> Self {
        Self {
            unit: "guest instructions per request",
            better: "lower",
            value_bytes,
            conditions,
            facts: Vec::new(),
            datagrams: Vec::new(),
            hits: Vec::new(),
            connections: Vec::new(),
            times: Vec::new(),
            raw: Vec::new(),
            start: None,
        }
    }

    fn row(&self, durable: bool, verb: Verb, asking: Asking) -> Option<&Row> {
        let peer = if durable { Peer::Exo { durable } } else { Peer::Redis };
        let wanted = (peer, verb, asking);
        self.connections.iter().find(|row| (row.peer, row.verb, row.asking) == wanted)
    }

    /// How many times as many instructions Redis takes.
    fn times_of(&self, verb: Verb, asking: Asking) -> Option<f64> {
        let (exo, redis) = (self.row(true, verb, asking)?, self.row(false, verb, asking)?);
        Some(redis.instructions / exo.instructions)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut all = Vec::new();
        for (clients, goal) in [(1, TIMES_ONE), (32, TIMES_MANY)] {
            let asking = Asking { clients, pipeline: 1 };
            all.extend(self.times_of(Verb::Set, asking).map(|measured| Verdict {
                key: format!("times.{}", asking.key()),
                goal: format!(
                    "durable SET, {}: at least {goal} times fewer instructions than Redis",
                    asking.title()
                ),
                measured,
                met: measured >= goal,
            }));
        }
        all.extend(self.times.iter().filter(|row| row.asking.pipeline == 1).map(|row| Verdict {
            key: format!("time.{}", row.asking.key()),
            goal: format!("durable SET, {}: at most {TIME} of Redis's time", row.asking.title()),
            measured: row.ratio,
            met: row.ratio <= TIME,
        }));
        let write = self.raw.iter().find(|row| row.key == raw::WRITE);
        if let Some((instructions, check)) =
            write.and_then(|row| Some((row.instructions, row.check?)))
        {
            let measured = check / instructions;
            all.push(Verdict {
                key: "check".to_owned(),
                goal: format!("the check of the extent: at most {CHECK} of a 4 KiB write"),
                measured,
                met: measured <= CHECK,
            });
        }
        let of = |durable| self.hits.iter().find(|hit| hit.durable == durable);
        if let (Some(with), Some(without)) = (of(true), of(false)) {
            let measured = (with.one / without.one).max(with.batch / without.batch);
            all.push(Verdict {
                key: "hit".to_owned(),
                goal: format!("a read hit with a disk: at most {HIT} of one without"),
                measured,
                met: measured <= HIT,
            });
        }
        all
    }

    /// As text.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let value = self.value_bytes;
        let _ = writeln!(out, "Per SET of a 16 B key and {value} B, over UDP; lower is better");
        let mut rows = Vec::new();
        for row in &self.datagrams {
            rows.push(vec![
                if row.durable { "durable" } else { "from memory" }.to_owned(),
                row.outstanding.to_string(),
                figures::count(row.instructions),
                format!("{:.2}", row.crossings),
                format!("{:.3}", row.flushes),
                format!("{:.3}", row.writes),
                figures::count(row.bytes_written),
            ]);
        }
        let head = "answers|outstanding|instructions|crossings|flushes|writes|bytes written";
        table(&mut out, head, rows);
        let _ = writeln!(out, "\nInstructions per GET hit over UDP, 1 outstanding; 32");
        for hit in &self.hits {
            let disk = if hit.durable { "with a disk" } else { "without a disk" };
            let [one, batch] = [hit.one, hit.batch].map(figures::count);
            let _ = writeln!(out, "{disk}: {one}; {batch}");
        }
        self.tell_connections(&mut out);
        self.tell_times(&mut out);
        self.tell_raw(&mut out);
        if let Some(start) = &self.start {
            let restart::Start { items, log_bytes, instructions, seconds, process_seconds } = start;
            let [log, all, each] =
                [*log_bytes as f64, *instructions, instructions / f64::from(*items)]
                    .map(figures::count);
            let _ = writeln!(
                out,
                "\nStart with {items} items, {log} bytes of log: {all} instructions, {each} an item; \
                 {seconds:.1} s in the emulator; the Linux process {process_seconds:.1} s"
            );
        }
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            out += "\nGoals\n";
        }
        for Verdict { goal, measured, met, .. } in verdicts {
            let verdict = if met { "met" } else { "MISSED" };
            let _ = writeln!(out, "{verdict}: {goal}: {measured:.2}");
        }
        let _ = writeln!(out, "\n{}", self.conditions.lines());
        for fact in &self.facts {
            let _ = writeln!(out, "{fact}");
        }
        out
    }

    fn tell_connections(&self, out: &mut String) {
        for verb in [Verb::Set, Verb::Get] {
            let mut rows = Vec::new();
            for row in self.connections.iter().filter(|row| row.verb == verb) {
                let times = match row.peer {
                    Peer::Redis => self.times_of(verb, row.asking),
                    Peer::Exo { .. } | Peer::Fio => None,
                };
                rows.push(vec![
                    row.peer.name().to_owned(),
                    row.asking.title(),
                    figures::count(row.instructions),
                    figures::count(row.repeats_once),
                    figures::count(row.kernel),
                    times.map_or(String::new(), |times| format!("{times:.1}")),
                    format!("{:.2}", row.system_calls),
                    format!("{:.2}", row.sleeps),
                    format!("{:.3}", row.flushes),
                    format!("{:.3}", row.writes),
                    figures::count(row.bytes_written),
                ]);
            }
            if rows.is_empty() {
                continue;
            }
            let name = verb.name();
            let _ = writeln!(out, "\nPer {name} over TCP, all there when the guest wakes");
            let head = "|asked by|instructions|rep once|kernel|times Exo's|system calls|sleeps|\
                        flushes|writes|bytes written";
            table(out, head, rows);
        }
        for durable in [true, false] {
            for asking in WAYS {
                let Some(row) = self.row(durable, Verb::Set, asking) else { continue };
                if row.stages.is_empty() {
                    continue;
                }
                let title = asking.title();
                let _ =
                    writeln!(out, "\n{}, {title}: a SET's instructions by stage", row.peer.name());
                let cells = row.stages.iter();
                let cells = cells.map(|stage| {
                    let share = 100.0 * stage.instructions / row.instructions;
                    vec![
                        stage.name.to_owned(),
                        figures::count(stage.instructions),
                        format!("{share:.1} %"),
                    ]
                });
                table(out, "stage|instructions|of all", cells.collect());
            }
        }
    }

    fn tell_raw(&self, out: &mut String) {
        if self.raw.is_empty() {
            return;
        }
        out.push_str(
            "\nInstructions per 4 KiB written at a random place and flushed, one at a time\n",
        );
        let rows = self.raw.iter().map(|row| {
            let check = row.check.map_or(String::new(), |check| {
                format!("{check:.0}, {:.1} %", 100.0 * check / row.instructions)
            });
            vec![row.what.to_owned(), figures::count(row.instructions), check]
        });
        table(out, "|instructions|check of the extent", rows.collect());
    }

    fn tell_times(&self, out: &mut String) {
        if self.times.is_empty() {
            return;
        }
        out.push_str("\nTime of a durable SET as a share of Redis's, in turn\n");
        let cells = self.times.iter().map(|row| {
            let (least, most) = row.spread;
            vec![
                row.asking.title(),
                format!("{:.2}", row.ratio),
                format!("{least:.2} to {most:.2}"),
            ]
        });
        table(out, "asked by|ratio|rounds", cells.collect());
    }
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let mut named = Named::new();
        for row in &self.datagrams {
            let kind = if row.durable { "durable" } else { "memory" };
            let name = format!("{kind}.{}", row.outstanding);
            named.insert(format!("{name}.flushes"), format!("{:.2}", row.flushes));
            named.insert(format!("{name}.bytes"), figures::count(row.bytes_written));
            named.insert(name, figures::count(row.instructions));
        }
        for row in &self.connections {
            let verb = row.verb.name().to_lowercase();
            let name = format!("{}.{verb}.{}", row.name, row.asking.key());
            if row.verb == Verb::Set {
                named.insert(format!("{name}.flushes"), format!("{:.2}", row.flushes));
                named.insert(format!("{name}.writes"), format!("{:.2}", row.writes));
                named.insert(format!("{name}.bytes"), figures::count(row.bytes_written));
            }
            named.insert(name, figures::count(row.instructions));
        }
        if let Some(start) = &self.start {
            named.insert("start.items".into(), figures::count(start.items.into()));
            named.insert("start".into(), figures::count(start.instructions));
            let each = start.instructions / f64::from(start.items);
            named.insert("start.item".into(), figures::count(each));
        }
        for row in &self.raw {
            named.insert(format!("raw.{}", row.key), figures::count(row.instructions));
            if let Some(check) = row.check {
                let percent = format!("{:.1}", 100.0 * check / row.instructions);
                named.insert(format!("raw.{}.check", row.key), percent);
            }
        }
        for hit in &self.hits {
            let disk = if hit.durable { "disk" } else { "no-disk" };
            named.insert(format!("hit.{disk}.1"), figures::count(hit.one));
            named.insert(format!("hit.{disk}.32"), figures::count(hit.batch));
        }
        for Verdict { key, measured, met, .. } in self.verdicts() {
            let places = if measured < 10.0 { 2 } else { 1 };
            named.insert(format!("{key}.verdict"), if met { "met" } else { "missed" }.into());
            named.insert(key, format!("{measured:.places$}"));
        }
        named
    }
}

/// Columns with a head that is divided by bars; numbers to the right.
fn table(out: &mut String, head: &str, rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.split('|'));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let _ = writeln!(out, "{table}");
}
