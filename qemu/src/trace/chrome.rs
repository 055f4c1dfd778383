//! A timeline in the trace event format, which Perfetto (<https://ui.perfetto.dev>) and Chromium
//! (`chrome://tracing`) read: JSON.
//!
//! A microsecond there is a thousand instructions here.

use serde_json::{Value, json};

use super::timeline::{Moment, Slice, Timeline, Track};

/// The number of the process that stands for all processors; environments come after it.
const PROCESSORS: usize = 1;

/// The timeline as JSON.
pub(crate) fn json(timeline: &Timeline, conditions: &impl serde::Serialize) -> Value {
    let mut events = vec![named("process_name", PROCESSORS, 0, "processors")];
    for number in timeline.processors() {
        let track = Track::Processor(number);
        events.push(named("thread_name", PROCESSORS, number.into(), &timeline.name(track)));
    }
    for (index, name) in timeline.environments().enumerate() {
        let (process, thread) = place(Track::Environment(index));
        events.push(named("process_name", process, thread, name));
        events.push(named("thread_name", process, thread, "calls and upcalls"));
    }
    events.extend(timeline.slices.iter().map(slice));
    events.extend(timeline.moments.iter().map(moment));
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": { "unit": "1 ns is one instruction", "conditions": conditions },
    })
}

fn slice(slice: &Slice) -> Value {
    let (pid, tid) = place(slice.track);
    let category = match slice.track {
        Track::Processor(_) => ["environment", "kernel", "step"][slice.depth.min(2)],
        Track::Environment(_) => "call",
    };
    json!({
        "ph": "X", "pid": pid, "tid": tid, "name": slice.name, "cat": category,
        "ts": microseconds(slice.from), "dur": microseconds(slice.to - slice.from),
        "args": { "instructions": slice.to - slice.from, "ended": slice.ended },
    })
}

fn moment(moment: &Moment) -> Value {
    let (pid, tid) = place(moment.track);
    let args = moment.value.map_or_else(|| json!({}), |value| json!({ "value": value }));
    json!({
        "ph": "i", "s": "t", "pid": pid, "tid": tid, "name": moment.name, "cat": "moment",
        "ts": microseconds(moment.at), "args": args,
    })
}

fn named(what: &str, pid: usize, tid: usize, name: &str) -> Value {
    json!({ "ph": "M", "pid": pid, "tid": tid, "name": what, "args": { "name": name } })
}

/// Process and thread that stand for a track.
fn place(track: Track) -> (usize, usize) {
    match track {
        Track::Processor(number) => (PROCESSORS, number.into()),
        Track::Environment(index) => (PROCESSORS + 1 + index, 0),
    }
}

fn microseconds(instructions: u64) -> f64 {
    instructions as f64 / 1000.0
}
