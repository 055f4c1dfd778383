//! Figure 4.7: beside memcached, small to large requests, and latency at 320 bytes.
//!
//! Throughput and latency are taken in pairs, each contender in turn with Exo: what two of them
//! say of each other is the ratio of what each is to Exo, so that a host that slows down
//! between the pairs slows down neither.

use anyhow::Result;

use super::{DISSERTATION, KEY, LARGE, MEDIUM, SMALL, get};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::SATURATED;
use crate::bench::compare::speed::pair::{Compared, DISTRIBUTION, Pair};
use crate::bench::compare::speed::plan::{OUTSTANDING, Plan, Requests};
use crate::bench::compare::speed::{self, Speed};
use crate::bench::load::Verb;
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Grid, Ours, times};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::signals::Signals;

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-4.7",
    title: "Beside memcached: small, medium and large requests",
    works: &[&DISSERTATION],
    published: &[
        Published {
            key: "user",
            what: "throughput in user space over memcached, small requests",
            value: Amount::About(40.0),
            unit: Unit::Percent,
            place: "4.5.2, figure 4.7a",
            beside: &[
                percent("user", "our process's answers a second over memcached's, GET 64/64"),
                percent(
                    "memcached-process",
                    "how many more instructions memcached takes than our process, GET 64/64",
                ),
            ],
        },
        Published {
            key: "kernel",
            what: "throughput in the kernel over memcached, small requests",
            value: Amount::Is(90.0),
            unit: Unit::Percent,
            place: "4.5.2, figure 4.7a",
            beside: &[
                percent("kernel", "our module's answers a second over memcached's, GET 64/64"),
                percent(
                    "memcached-module",
                    "how many more instructions memcached takes than our module, GET 64/64",
                ),
                percent("exo", "Exo's answers a second over memcached's, GET 64/64"),
                percent(
                    "memcached-exo",
                    "how many more instructions memcached takes than Exo, GET 64/64",
                ),
            ],
        },
        Published {
            key: "median",
            what: "median latency in user space below memcached's, small requests",
            value: Amount::About(25.0),
            unit: Unit::Percent,
            place: "4.5.2",
            beside: &[percent(
                "median",
                "our process's median below memcached's, GET 64/64, 64 outstanding",
            )],
        },
        Published {
            key: "first",
            what: "memcached's first percentile of latency above both, 320 bytes",
            value: Amount::Is(100.0),
            unit: Unit::Microseconds,
            place: "4.5.2, figure 4.7b",
            beside: &[Beside {
                key: "first",
                what: "memcached's first percentile above our process's, 320 bytes, 64 outstanding",
                unit: Unit::Microseconds,
            }],
        },
        Published {
            key: "threads",
            what: "throughput in the kernel over memcached, several threads, large requests",
            value: Amount::UpTo(50.0),
            unit: Unit::Percent,
            place: "4.5.3, figure 4.8",
            beside: &[],
        },
    ],
    differs: "Published are requests a second of one thread behind the socket interface, under \
              memaslap's load on a processor; ours are instructions of GETs, and answers a second \
              and latencies in an emulator's time, with the module below the socket.",
    left_out: &[
        "The distribution's shape on a processor: an emulator stretches some instructions more than \
         others, so that only the order of the contenders is to be read from times.",
        "Several threads: one processor is counted.",
    ],
    minutes: 6,
    machine: Some(MACHINE),
    measure,
};

const fn percent(key: &'static str, what: &'static str) -> Beside {
    Beside { key, what, unit: Unit::Percent }
}

/// What the latencies are compared under: many clients, but no more than are served.
const MANY: u32 = OUTSTANDING[1];
/// What the throughput is: as many as keep any of them busy.
const MOST: u32 = OUTSTANDING[2];

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let scenarios = [SMALL, MEDIUM, LARGE].map(|value_bytes| get(value_bytes, SATURATED));
    let contenders = [Contender::Memcached, Contender::Process, Contender::Module, Contender::Exo];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    let [small, ..] = scenarios;
    for (key, than) in [
        ("memcached-process", Contender::Process),
        ("memcached-module", Contender::Module),
        ("memcached-exo", Contender::Exo),
    ] {
        let ratio = times(&rows, Contender::Memcached, than, small);
        ours.put(key, ratio.map(|ratio| (ratio - 1.0) * 100.0));
    }
    let requests = [SMALL, MEDIUM, LARGE].map(|value_bytes| Requests {
        verb: Verb::Get,
        key_bytes: KEY as u32,
        value_bytes: value_bytes as u32,
    });
    let others = [Contender::Memcached, Contender::Process, Contender::Module];
    let plan = Plan::quick_of(requests.to_vec());
    let opponents = speed::opponents(&others, effort.mitigations());
    put_speed(&mut ours, &speed::run(plan, &opponents, interrupt)?, requests);
    Ok(ours)
}

/// Puts what was timed beside the published figures, and in grids.
fn put_speed(ours: &mut Ours, speed: &Speed, requests: [Requests; 3]) {
    for pair in &speed.pairs {
        let failure = pair.failure.iter();
        ours.failures.extend(failure.map(|why| format!("Exo and {}: {why}", pair.label())));
    }
    let [small, medium, _] = requests;
    let at = |contender: Contender, requests, outstanding| {
        speed.against(contender.name())?.at(requests, outstanding)
    };
    // How many times as fast as each other contender Exo is.
    let behind = |contender| Some(at(contender, small, MOST)?.throughput.median);
    let memcached = behind(Contender::Memcached);
    for (key, contender) in [("user", Contender::Process), ("kernel", Contender::Module)] {
        let ratio = memcached.zip(behind(contender)).map(|(memcached, it)| memcached / it);
        ours.put(key, ratio.map(|ratio| (ratio - 1.0) * 100.0));
    }
    ours.put("exo", memcached.map(|ratio| (ratio - 1.0) * 100.0));
    let median = |contender| Some(at(contender, small, MANY)?.p50?.median);
    let below = median(Contender::Process).zip(median(Contender::Memcached));
    ours.put("median", below.map(|(process, memcached)| (1.0 - process / memcached) * 100.0));
    let first = |contender| at(contender, medium, MANY)?.other.distribution_us.first()?.1;
    let first = first(Contender::Memcached).zip(first(Contender::Process));
    ours.put("first", first.map(|(memcached, process)| memcached - process));

    let measured = || speed.pairs.iter().filter(|pair| pair.failure.is_none());
    let cells = |pair: &Pair, pick: &dyn Fn(&Compared) -> f64| {
        requests.map(|requests| pair.at(requests, MOST).map(pick)).to_vec()
    };
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    for pair in measured() {
        let exo = format!("Exo, in turn with {}", pair.label());
        rates.push((exo, cells(pair, &|one| one.exo.per_second)));
        rates.push((pair.label(), cells(pair, &|one| one.other.per_second)));
        for (name, pick) in [
            ("median", (|one: &Compared| one.throughput.median) as fn(&Compared) -> f64),
            ("least round", |one| one.throughput.least),
            ("greatest round", |one| one.throughput.most),
        ] {
            ratios.push((format!("over {}, {name}", pair.label()), cells(pair, &pick)));
        }
    }
    let columns = requests.map(Requests::title).to_vec();
    for (title, rows) in [
        (format!("Answers a second, {MOST} outstanding, emulator's time; higher is better"), rates),
        (format!("Exo's answers a second, how many times the other's, {MOST} outstanding"), ratios),
    ] {
        ours.grids.push(Grid { title, columns: columns.clone(), rows });
    }
    for outstanding in [OUTSTANDING[0], MANY] {
        let mut rows = Vec::new();
        for pair in measured() {
            let Some(one) = pair.at(medium, outstanding) else { continue };
            let of = |told: &[(f64, Option<f64>)]| told.iter().map(|&(_, time)| time).collect();
            let exo = format!("Exo, in turn with {}", pair.label());
            rows.push((exo, of(&one.exo.distribution_us)));
            rows.push((pair.label(), of(&one.other.distribution_us)));
        }
        ours.grids.push(Grid {
            title: format!(
                "Latency of {} in µs, {outstanding} outstanding, by percentile, emulator's time; \
                 lower is better",
                medium.title()
            ),
            columns: DISTRIBUTION.map(|which| format!("p{which}")).to_vec(),
            rows,
        });
    }
    let plan = &speed.plan;
    ours.facts.push(format!(
        "answers a second and latency: {}; each pair in turn {} times for {} s",
        speed.machine, plan.rounds, plan.measured_s
    ));
    ours.facts.extend(measured().map(|pair| format!("Exo and {}: {}", pair.label(), pair.pinned)));
    ours.facts.extend(speed.negotiated());
}

#[cfg(test)]
mod tests {
    use crate::bench::compare::speed::pair::sample;

    use super::*;

    /// Ratios to Exo are turned into ratios to memcached; what failed is said, not shown.
    #[test]
    fn pairs_stand_beside_the_published_figures() {
        let requests = [SMALL, MEDIUM, LARGE].map(|bytes| Requests {
            verb: Verb::Get,
            key_bytes: KEY as u32,
            value_bytes: bytes as u32,
        });
        let pair = |name, times| {
            let mut pair = sample(name, times);
            let all = pair.compared.clone();
            let of = |&requests: &Requests| {
                all.clone().into_iter().map(move |one| Compared { requests, ..one })
            };
            pair.compared = requests.iter().flat_map(of).collect();
            pair
        };
        let mut failed = pair("module", 8.0);
        failed.failure = Some("it lied".to_owned());
        let speed = Speed {
            machine: speed::MACHINE,
            plan: Plan::quick_of(requests.to_vec()),
            pairs: vec![pair("memcached", 20.0), pair("process", 10.0), failed],
        };
        let mut ours = Ours::default();
        put_speed(&mut ours, &speed, requests);
        let of = |key| ours.beside.iter().find(|(other, _)| *other == key).map(|&(_, it)| it);
        assert_eq!((of("user"), of("exo"), of("kernel")), (Some(100.0), Some(1900.0), None));
        assert_eq!(of("median"), Some(50.0));
        assert!(of("first").unwrap() > 0.0);
        assert_eq!(ours.failures, ["Exo and module: it lied"]);
        assert_eq!(ours.grids.len(), 4);
        for grid in &ours.grids {
            assert!(!grid.rows.is_empty(), "{}", grid.title);
            for (name, cells) in &grid.rows {
                assert_eq!(cells.len(), grid.columns.len(), "{name}");
                assert!(!name.contains("module") && cells.iter().all(Option::is_some), "{name}");
            }
        }
        let known = EXPERIMENT.published.iter().flat_map(|figure| figure.beside);
        let known: Vec<_> = known.map(|beside| beside.key).collect();
        assert!(ours.beside.iter().all(|(key, _)| known.contains(key)), "{known:?}");
    }
}
