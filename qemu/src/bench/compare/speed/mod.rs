//! How much faster: throughput and latency of Exo's store against each other contender.
//!
//! What a clock says depends on what else the host does, so no figure of one contender is
//! set beside one of another that was taken at another time. A *pair* is booted together,
//! both guests' processors on one processor of the host, the generator on the others; each
//! is loaded in turn while the other sleeps (A B A B …), and each *round* gives one ratio.
//! The report has their median and how far they lie apart. The generator is the guests' NIC
//! (`vhost-user`), so both get the same device, features and queues, and QEMU copies nothing.
//!
//! | file | what it is |
//! |---|---|
//! | [`plan`] | which loads, how long, how often |
//! | [`side`] | one contender of a pair: booted, loaded, judged |
//! | [`pair`] | two of them in turn |
//! | [`sweep`] | offered load up to the knee |
//! | [`table`] | as text |

pub(crate) mod pair;
pub(crate) mod plan;
pub(super) mod side;
pub(super) mod sweep;
mod table;

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::contender::Contender;
use crate::bench::load::Transport;
use crate::linux::Mitigations;
use crate::output::note;
use crate::signals::Signals;
use pair::Pair;
use plan::Plan;
pub(super) use table::{UNEQUAL, microseconds};

/// How all are run.
pub(crate) const MACHINE: &str =
    "TCG, microvm, -cpu max, 1 processor, the host's clock, NIC: vhost-user";

/// All pairs.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    /// How the machines are made.
    pub(crate) machine: &'static str,
    pub(crate) plan: Plan,
    pub(crate) pairs: Vec<Pair>,
}

/// The contenders that Exo's store is measured against, in the order of the table. The generator
/// speaks UDP.
pub(crate) fn opponents(
    contenders: &[Contender],
    mitigations: &[Mitigations],
) -> Vec<(Contender, Option<Mitigations>)> {
    let is_other = |one: &Contender| *one != Contender::Exo && one.transport() == Transport::Udp;
    let others = contenders.iter().copied().filter(is_other);
    others.flat_map(|other| other.variants(mitigations).map(move |with| (other, with))).collect()
}

/// Measures Exo's store against each of `opponents`. What fails is in its pair; an error is
/// the person's interrupt.
pub(crate) fn run(
    plan: Plan,
    opponents: &[(Contender, Option<Mitigations>)],
    interrupt: &Signals,
) -> Result<Speed> {
    let mut pairs = Vec::new();
    for (number, &(other, mitigations)) in opponents.iter().enumerate() {
        note!("compare: pair {} of {}: Exo and {}", number + 1, opponents.len(), other.title());
        // A thread of its own: what is pinned is pinned for this pair only.
        let pair = std::thread::scope(|scope| {
            let pair = scope.spawn(|| pair::measure(&plan, other, mitigations, interrupt));
            pair.join().map_err(|_| anyhow!("the thread that measures a pair panicked"))
        })?;
        interrupt.check()?;
        if let Some(failure) = &pair.failure {
            note!("compare: {} failed: {failure}", other.name());
        }
        pairs.push(pair);
    }
    Ok(Speed { machine: MACHINE, plan, pairs })
}

impl Speed {
    /// The pairs that have no figures, by the other's name.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &'static str> {
        self.pairs.iter().filter(|pair| pair.failure.is_some()).map(|pair| pair.other)
    }

    /// The pair of Exo and this one, with the kernel's own choice of mitigations.
    pub(crate) fn against(&self, other: &str) -> Option<&Pair> {
        let usual = |pair: &&Pair| pair.other == other && pair.mitigations != Some("off");
        self.pairs.iter().find(usual).filter(|pair| pair.failure.is_none())
    }
}
