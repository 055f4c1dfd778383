//! Runs the contenders, one after the other and in turn, on the same packets.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::contenders::{Contender, KINDS, Kind, Nobody, OURS, Task};
use crate::count::Counter;
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
            slice: Duration::from_millis(4),
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
            slice: Duration::from_micros(200),
            ..Self::full()
        }
    }
}

/// A frame, and who is to take it.
type Expected = (Vec<u8>, Option<u32>);

/// Measures all that is planned. `progress` is told what is being done.
///
/// # Errors
/// If contenders disagree on a packet, or instructions cannot be counted.
pub fn measure(plan: &Plan, mut progress: impl FnMut(&str)) -> Result<Figures> {
    let counter = Counter::new()?;
    let mut cases = Vec::new();
    for &(set, filters) in &plan.cases {
        cases.push(case(plan, &counter, set, filters, &mut progress)?);
    }
    Ok(Figures {
        method: "single steps of this process (trap flag); a call of a function that does nothing \
                 is subtracted"
            .into(),
        libpcap: crate::contenders::pcap_version(),
        rounds: plan.rounds,
        contenders: KINDS.iter().map(|kind| (kind.name.into(), kind.what.into())).collect(),
        ours: OURS.into(),
        cases,
    })
}

/// A contender at work.
struct Runner {
    kind: &'static Kind,
    contender: Box<dyn Contender>,
    packets: Vec<PerPacket>,
}

fn case(
    plan: &Plan,
    counter: &Counter,
    set: Set,
    filters: u32,
    progress: &mut impl FnMut(&str),
) -> Result<Case> {
    let known = (filters + plan.changes).min(MOST);
    let predicates: Vec<Predicate> = (0..known).map(|index| set.predicate(index)).collect();
    let task = Task { set, installed: filters, predicates: &predicates };
    // Long lists take long for each packet.
    let packets = if filters < 10_000 { plan.packets } else { plan.packets / 4 };
    let mut traces: Vec<(Mix, Vec<Expected>)> =
        Mix::ALL.map(|mix| (mix, mix.trace(set, filters, packets.max(1)))).into();

    let mut runners = Vec::new();
    let mut absent = Vec::new();
    for kind in &KINDS {
        progress(&format!("{} {filters}: making {}", set.name(), kind.name));
        match kind.make(task) {
            Ok(contender) => runners.push(Runner { kind, contender, packets: Vec::new() }),
            Err(reason) => absent.push((kind.name, format!("{reason:#}"))),
        }
    }
    for (mix, trace) in &mut traces {
        for runner in &mut runners {
            progress(&format!("{} {filters}: {}: counting {}", set.name(), mix.name(), runner.kind.name));
            agree(runner, set, trace)?;
            let figure = count_packets(counter, &*runner.contender, *mix, trace);
            runner.packets.push(figure);
        }
        progress(&format!("{} {filters}: {}: timing", set.name(), mix.name()));
        time_packets(plan, &mut runners, trace);
    }
    let mut measured = Vec::new();
    for Runner { kind, mut contender, packets } in runners {
        progress(&format!("{} {filters}: changing {}", set.name(), kind.name));
        let bytes = contender.bytes();
        let (insert, remove) = changes(plan, counter, &mut *contender, filters..known)?;
        let share = |bytes: u64| bytes as f64 / f64::from(filters);
        measured.push((kind.name, Measured {
            packets,
            insert,
            remove,
            code_bytes: share(bytes.code),
            data_bytes: share(bytes.data),
            tells_who: contender.tells_who(),
        }));
    }
    let results = KINDS.iter().map(|kind| {
        let named = |name: &&str| **name == *kind.name;
        let done = measured.iter().find(|(name, _)| named(name));
        let reason = absent.iter().find(|(name, _)| named(name));
        match done {
            Some((_, measured)) => Outcome::Measured(measured.clone()),
            None => Outcome::Cannot(reason.map_or_else(String::new, |(_, reason)| reason.clone())),
        }
    });
    Ok(Case { set: set.name().into(), filters, results: results.collect() })
}

/// Fails if a contender is wrong about a packet.
fn agree(runner: &Runner, set: Set, trace: &mut [Expected]) -> Result<()> {
    for (frame, expected) in trace {
        let before = frame.clone();
        let answer = runner.contender.classify(frame);
        let right = if runner.contender.tells_who() {
            answer == *expected
        } else {
            answer.is_some() == expected.is_some()
        };
        let name = runner.kind.name;
        ensure!(right, "{name} is wrong ({}): {answer:?}, not {expected:?}", set.name());
        ensure!(*frame == before, "{name} changed a frame");
    }
    Ok(())
}

#[inline(always)]
fn count_one(counter: &Counter, contender: &dyn Contender, frame: &mut [u8]) -> u64 {
    let frame = black_box(frame);
    let contender = black_box(contender);
    counter.count(|| {
        black_box(contender.classify(frame));
    })
}

fn count_packets(
    counter: &Counter,
    contender: &dyn Contender,
    mix: Mix,
    trace: &mut [Expected],
) -> PerPacket {
    let (mut sum, mut most) = (0, 0);
    let call = |frame: &mut [u8]| count_one(counter, &Nobody, frame);
    for (frame, _) in &mut *trace {
        let call = call(frame);
        let count = count_one(counter, contender, frame).saturating_sub(call);
        sum += count;
        most = most.max(count);
    }
    let count = trace.len() as u32;
    let instructions = sum as f64 / f64::from(count);
    PerPacket { mix: mix.name().into(), count, instructions, most, ns: 0.0, ratio: 0.0 }
}

/// Fills in the times of the latest figure of each runner.
fn time_packets(plan: &Plan, runners: &mut [Runner], trace: &mut [Expected]) {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); runners.len()];
    // The first round only finds out how often to repeat.
    let mut repeats = vec![1_u32; runners.len()];
    for round in 0..=plan.rounds {
        for ((runner, times), repeats) in runners.iter().zip(&mut rounds).zip(&mut repeats) {
            let mut took = pass(&*runner.contender, trace, *repeats);
            if round == 0 {
                while took < plan.slice / 4 {
                    *repeats = repeats.saturating_mul(2);
                    took = pass(&*runner.contender, trace, *repeats);
                }
                *repeats = (f64::from(*repeats) * plan.slice.as_secs_f64() / took.as_secs_f64())
                    .clamp(1.0, 1e9) as u32;
            } else {
                let packets = f64::from(*repeats) * trace.len() as f64;
                times.push(took.as_secs_f64() * 1e9 / packets);
            }
        }
    }
    let ours = runners.iter().position(|runner| runner.kind.name == OURS);
    let ours = ours.and_then(|at| rounds.get(at)).cloned().unwrap_or_default();
    for (runner, times) in runners.iter_mut().zip(rounds) {
        let ratios = times.iter().zip(&ours).map(|(time, ours)| time / ours).collect();
        if let Some(figure) = runner.packets.last_mut() {
            (figure.ns, figure.ratio) = (median(times), median(ratios));
        }
    }
}

#[inline(never)]
fn pass(contender: &dyn Contender, trace: &mut [Expected], repeats: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..repeats {
        for (frame, _) in &mut *trace {
            black_box(black_box(contender).classify(frame));
        }
    }
    start.elapsed()
}

/// Inserts the filters `tags` and removes them again, counting and then timing.
fn changes(
    plan: &Plan,
    counter: &Counter,
    contender: &mut dyn Contender,
    tags: std::ops::Range<u32>,
) -> Result<(Change, Change)> {
    let count = |work: &mut dyn FnMut(u32) -> Result<()>| -> Result<(f64, u64)> {
        let (mut sum, mut most) = (0, 0);
        for tag in tags.clone() {
            let mut result = Ok(());
            let count = counter.count(|| result = work(black_box(tag)));
            result?;
            (sum, most) = (sum + count, most.max(count));
        }
        Ok((sum as f64 / f64::from(tags.len() as u32), most))
    };
    let (mut inserting, mut removing) = (None, None);
    if !contender.is_remade() {
        inserting = Some(count(&mut |tag| contender.insert(tag))?);
        removing = Some(count(&mut |tag| contender.remove(tag))?);
    }
    // Making everything anew takes long enough to be timed once each.
    let tags = if contender.is_remade() { tags.start..tags.start + 1 } else { tags };
    let per_change = |took: Duration| took.as_secs_f64() * 1e9 / tags.len() as f64;
    let (mut inserts, mut removes) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let start = Instant::now();
        tags.clone().try_for_each(|tag| contender.insert(tag))?;
        inserts.push(per_change(start.elapsed()));
        let start = Instant::now();
        tags.clone().try_for_each(|tag| contender.remove(tag))?;
        removes.push(per_change(start.elapsed()));
    }
    let change = |counted: Option<(f64, u64)>, times| Change {
        instructions: counted.map(|(mean, _)| mean),
        most: counted.map(|(_, most)| most),
        ns: median(times),
    };
    Ok((change(inserting, inserts), change(removing, removes)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
