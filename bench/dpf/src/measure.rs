//! Runs the contenders, one after the other and in turn, on the same packets.
//!
//! Twice: [`count`] under callgrind, once through each sequence of packets, and [`measure`]
//! by the clock, which takes in what was counted.

use std::hint::black_box;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::contenders::{Contender, KINDS, Kind, Nobody, OURS, Task, pcap_version};
use crate::count::{self, Counts};
use crate::figures::{Case, Change, Figures, Measured, Outcome, PerPacket};
use crate::packets::Mix;
use crate::predicates::{MOST, Predicate, Set};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Sets, and how many filters of each.
    pub cases: Vec<(Set, u32)>,
    /// Rounds of each timing.
    pub rounds: u32,
    /// How long a contender runs in each round, about.
    pub slice: Duration,
    /// Different packets of a trace, at most.
    pub packets: u32,
    /// Filters that are inserted and removed.
    pub changes: u32,
}

impl Plan {
    /// All of it.
    #[must_use]
    pub fn full() -> Self {
        let cases = |set, counts: &'static [u32]| counts.iter().map(move |&count| (set, count));
        Self {
            cases: cases(Set::Ports, &[1, 10, 100, 1000, 10_000])
                .chain(cases(Set::Mixed, &[10, 100, 1000, 10_000]))
                .chain(cases(Set::Adversarial, &[10, 100, 1000]))
                .collect(),
            rounds: 7,
            slice: Duration::from_millis(3),
            packets: 64,
            changes: 16,
        }
    }

    /// A few filters of each set, and short timings: what it takes to see that all works.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            cases: vec![
                (Set::Ports, 1),
                (Set::Ports, 10),
                (Set::Mixed, 10),
                (Set::Adversarial, 10),
            ],
            rounds: 3,
            slice: Duration::from_micros(100),
            ..Self::full()
        }
    }
}

/// A frame, and the filter that is to take it.
type Expected = (Vec<u8>, Option<u32>);

/// A contender, or why there is none.
type Made = Result<Box<dyn Contender>, String>;

/// A set, a number of its filters, and the contenders that are given them.
struct Setting {
    set: Set,
    filters: u32,
    /// Filters to insert and remove.
    more: Range<u32>,
    traces: Vec<(Mix, Vec<Expected>)>,
    contenders: Vec<(&'static Kind, Made)>,
}

/// What is counted with a contender.
enum Work {
    Packets(Mix),
    Insert,
    Remove,
}

impl Setting {
    fn new(plan: &Plan, set: Set, filters: u32) -> Self {
        let known = (filters + plan.changes).min(MOST);
        let predicates: Vec<Predicate> = (0..known).map(|index| set.predicate(index)).collect();
        let task = Task { set, installed: filters, predicates: &predicates };
        // Long lists take long for each packet.
        let packets = if filters < 10_000 { plan.packets } else { plan.packets / 4 };
        let made = |kind: &'static Kind| kind.make(task).map_err(|error| format!("{error:#}"));
        Self {
            set,
            filters,
            more: filters..known,
            traces: Mix::ALL.map(|mix| (mix, mix.trace(set, filters, packets.max(1)))).into(),
            contenders: KINDS.iter().map(|kind| (kind, made(kind))).collect(),
        }
    }

    fn title(&self) -> String {
        format!("{} {}", self.set.name(), self.filters)
    }

    /// What the work is counted as. No contender's is counted under an empty name.
    fn label(&self, kind: &str, work: &Work) -> String {
        let work = match work {
            Work::Packets(mix) => mix.name(),
            Work::Insert => "insert",
            Work::Remove => "remove",
        };
        format!("{}; {kind}; {work}", self.title())
    }

    /// The mean of what was counted over `parts`, beyond what the run takes without a contender.
    fn counted(&self, counts: &Counts, kind: &str, work: &Work, parts: usize) -> Result<f64> {
        let label = self.label(kind, work);
        let count = counts.beyond(&label, &self.label("", work));
        Ok(count.with_context(|| format!("not counted: {label}"))? as f64 / parts as f64)
    }
}

/// Executes everything once, for the counter.
///
/// # Errors
/// If contenders are wrong about a packet.
pub fn count(plan: &Plan, mut progress: impl FnMut(&str)) -> Result<()> {
    count::count_known_loop();
    for &(set, filters) in &plan.cases {
        progress(&format!("counting: {} {filters}: making all", set.name()));
        let mut setting = Setting::new(plan, set, filters);
        let mut contenders = std::mem::take(&mut setting.contenders);
        count_contender(&mut setting, "", &mut Nobody)?;
        for (kind, made) in &mut contenders {
            if let Ok(contender) = made {
                progress(&format!("counting: {}: {}", setting.title(), kind.name));
                agree(&mut setting, kind.name, &**contender)?;
                count_contender(&mut setting, kind.name, &mut **contender)?;
            }
        }
    }
    Ok(())
}

fn count_contender(setting: &mut Setting, name: &str, it: &mut dyn Contender) -> Result<()> {
    let mut traces = std::mem::take(&mut setting.traces);
    for (mix, trace) in &mut traces {
        let label = setting.label(name, &Work::Packets(*mix));
        count::counted(&label, || pass(it, trace));
    }
    setting.traces = traces;
    if !it.is_remade() {
        let label = setting.label(name, &Work::Insert);
        let tags = setting.more.clone();
        count::counted(&label, || insert_all(it, tags))?;
        let label = setting.label(name, &Work::Remove);
        let tags = setting.more.clone();
        count::counted(&label, || remove_all(it, tags))?;
    }
    Ok(())
}

/// Measures all that is planned; `counted` is a command that executes [`count`] of the
/// same plan. `progress` is told what is being done.
///
/// # Errors
/// If contenders are wrong about a packet, or instructions cannot be counted.
pub fn measure(plan: &Plan, counted: &Command, mut progress: impl FnMut(&str)) -> Result<Figures> {
    let counts = Counts::of(counted)?;
    counts.check_known_loop()?;
    let mut cases = Vec::new();
    for &(set, filters) in &plan.cases {
        progress(&format!("timing: {} {filters}", set.name()));
        cases.push(case(plan, &counts, set, filters)?);
    }
    let method = "callgrind; what a function that does nothing takes instead is subtracted";
    Ok(Figures {
        method: method.into(),
        libpcap: pcap_version(),
        rounds: plan.rounds,
        contenders: KINDS.iter().map(|kind| (kind.name.into(), kind.what.into())).collect(),
        ours: OURS.into(),
        cases,
    })
}

fn case(plan: &Plan, counts: &Counts, set: Set, filters: u32) -> Result<Case> {
    let mut setting = Setting::new(plan, set, filters);
    let mut contenders = std::mem::take(&mut setting.contenders);
    for (kind, made) in &contenders {
        if let Ok(contender) = made {
            agree(&mut setting, kind.name, &**contender)?;
        }
    }
    let mut packets: Vec<Vec<PerPacket>> = vec![Vec::new(); contenders.len()];
    let mut traces = std::mem::take(&mut setting.traces);
    for (mix, trace) in &mut traces {
        let timed = time_packets(plan, &contenders, trace);
        for (((kind, made), (ns, ratio)), packets) in contenders.iter().zip(timed).zip(&mut packets)
        {
            if made.is_ok() {
                let work = Work::Packets(*mix);
                let instructions = setting.counted(counts, kind.name, &work, trace.len())?;
                let count = trace.len() as u32;
                packets.push(PerPacket { mix: mix.name().into(), count, instructions, ns, ratio });
            }
        }
    }
    let mut results = Vec::new();
    for ((kind, made), packets) in contenders.iter_mut().zip(packets) {
        results.push(match made {
            Err(reason) => Outcome::Cannot(reason.clone()),
            Ok(contender) => {
                let bytes = contender.bytes();
                let share = |bytes: u64| bytes as f64 / f64::from(filters);
                let (insert_ns, remove_ns) = time_changes(plan, &mut **contender, &setting.more)?;
                let change = |work, ns| -> Result<Change> {
                    let parts = setting.more.len();
                    let counted = || setting.counted(counts, kind.name, &work, parts);
                    let instructions = (!contender.is_remade()).then(counted).transpose()?;
                    Ok(Change { instructions, ns })
                };
                Outcome::Measured(Measured {
                    packets,
                    insert: change(Work::Insert, insert_ns)?,
                    remove: change(Work::Remove, remove_ns)?,
                    code_bytes: share(bytes.code),
                    data_bytes: share(bytes.data),
                    tells_who: contender.tells_who(),
                })
            }
        });
    }
    Ok(Case { set: set.name().into(), filters, results })
}

/// Fails if the contender is wrong about a packet.
fn agree(setting: &mut Setting, name: &str, contender: &dyn Contender) -> Result<()> {
    let title = setting.title();
    for (frame, expected) in setting.traces.iter_mut().flat_map(|(_, trace)| trace) {
        let before = frame.clone();
        let answer = contender.classify(frame);
        let right = if contender.tells_who() {
            answer == *expected
        } else {
            answer.is_some() == expected.is_some()
        };
        ensure!(right, "{title}: {name} is wrong: {answer:?}, not {expected:?}");
        ensure!(*frame == before, "{title}: {name} changed a frame");
    }
    Ok(())
}

/// Nanoseconds per packet of each contender, and how many times as long as ours.
fn time_packets(
    plan: &Plan,
    contenders: &[(&Kind, Made)],
    trace: &mut [Expected],
) -> Vec<(f64, f64)> {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    // The first round only finds out how often to repeat.
    let mut repeats = vec![1_u32; contenders.len()];
    for round in 0..=plan.rounds {
        for (((_, made), times), repeats) in contenders.iter().zip(&mut rounds).zip(&mut repeats) {
            let Ok(contender) = made else { continue };
            let mut took = passes(&**contender, trace, *repeats);
            if round == 0 {
                // Once could have been long because another process was running.
                let mut shortest =
                    |repeats| (0..3).map(|_| passes(&**contender, trace, repeats)).min();
                while shortest(*repeats).is_some_and(|shortest| shortest < plan.slice / 4) {
                    *repeats = repeats.saturating_mul(2);
                }
                took = shortest(*repeats).unwrap_or(took);
                let fitting = plan.slice.as_secs_f64() / took.as_secs_f64();
                *repeats = (f64::from(*repeats) * fitting).clamp(1.0, 1e9) as u32;
            } else {
                let packets = f64::from(*repeats) * trace.len() as f64;
                times.push(took.as_secs_f64() * 1e9 / packets);
            }
        }
    }
    let ours = contenders.iter().position(|(kind, _)| kind.name == OURS);
    let ours = ours.and_then(|at| rounds.get(at)).cloned().unwrap_or_default();
    let figures = |times: Vec<f64>| {
        let ratios = times.iter().zip(&ours).map(|(time, ours)| time / ours).collect();
        (median(times), median(ratios))
    };
    rounds.into_iter().map(figures).collect()
}

#[inline(never)]
fn pass(contender: &dyn Contender, trace: &mut [Expected]) {
    for (frame, _) in trace {
        black_box(black_box(contender).classify(frame));
    }
}

fn passes(contender: &dyn Contender, trace: &mut [Expected], repeats: u32) -> Duration {
    let start = Instant::now();
    (0..repeats).for_each(|_| pass(contender, trace));
    start.elapsed()
}

#[inline(never)]
fn insert_all(contender: &mut dyn Contender, mut tags: Range<u32>) -> Result<()> {
    tags.try_for_each(|tag| black_box(&mut *contender).insert(tag))
}

#[inline(never)]
fn remove_all(contender: &mut dyn Contender, mut tags: Range<u32>) -> Result<()> {
    tags.try_for_each(|tag| black_box(&mut *contender).remove(tag))
}

/// Nanoseconds to insert, and to remove, one filter.
fn time_changes(plan: &Plan, it: &mut dyn Contender, tags: &Range<u32>) -> Result<(f64, f64)> {
    // Making everything anew takes long enough to be timed once each.
    let end = if it.is_remade() { tags.start + 1 } else { tags.end };
    let tags = tags.start..end;
    let per_change = |took: Duration| took.as_secs_f64() * 1e9 / tags.len() as f64;
    let (mut inserts, mut removes) = (Vec::new(), Vec::new());
    let rounds = if it.is_remade() { plan.rounds.min(3) } else { plan.rounds };
    for _ in 0..rounds {
        let start = Instant::now();
        insert_all(it, tags.clone())?;
        inserts.push(per_change(start.elapsed()));
        let start = Instant::now();
        remove_all(it, tags.clone())?;
        removes.push(per_change(start.elapsed()));
    }
    Ok((median(inserts), median(removes)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
