//! One contender of a pair: booted with the generator as its NIC, loaded, judged.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use exo_load::progress::Bar;
use exo_load::protocol::Protocol;
use exo_load::wire::vhost::{CALLS, KICKS, Listener, VhostUser};
use exo_load::{Ended, Items, Load, Measured, Schedule, Wire, run as loading};
use tempfile::TempDir;

use super::super::contender::{ADDRESS, Contender};
use super::super::measure;
use super::plan::{Plan, Requests, TIMEOUT};
use crate::linux::Mitigations;
use crate::machine::{Machine, Network, STORE_PORT};
use crate::signals::Signals;

/// Share of requests that may be lost, or find nothing, before a contender has failed.
pub(crate) const LOST_MAX: f64 = 0.001;

/// This end of the guests' network.
const OWN: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 2, 2), 40_000);
/// How long a guest that serves may take to be found.
const PATIENCE: Duration = Duration::from_secs(20);

/// A contender that serves.
pub(super) struct Side {
    contender: Contender,
    // Before the machine: it must not outlive what it is connected to.
    wire: VhostUser,
    machine: Machine,
    _dir: TempDir,
}

impl Side {
    /// Boots `contender`.
    ///
    /// **Blocking** until it answers.
    pub(super) fn boot(
        contender: Contender,
        mitigations: Option<Mitigations>,
        interrupt: &Signals,
    ) -> Result<Self> {
        // Not in the build directory: a socket's path may have 107 bytes.
        let dir = tempfile::Builder::new().prefix("exo-compare-").tempdir()?;
        let socket = dir.path().join("nic");
        let listener = Listener::bind(&socket)?;
        let machine =
            contender.boot(mitigations, |config| config.network = Network::VhostUser(socket))?;
        measure::wait(contender, &machine, interrupt)?;
        let mut wire = listener
            .connect(OWN, (ADDRESS, STORE_PORT), PATIENCE, || {
                interrupt.check()?;
                ensure!(machine.running(), "the machine has ended");
                Ok(())
            })
            .with_context(|| machine.report())?;
        let mut bar = Bar::new(|| interrupt.check().is_err());
        let answer = loading::probe(&mut wire, protocol(contender), PATIENCE, &mut bar);
        bar.clear();
        answer.with_context(|| machine.report())?;
        Ok(Self { contender, wire, machine, _dir: dir })
    }

    /// The device, as both ends have negotiated it.
    pub(super) fn negotiated(&self) -> String {
        self.wire.describe()
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Stores all items that `requests` ask for.
    pub(super) fn fill(
        &mut self,
        requests: Requests,
        bar: &mut Bar<impl Fn() -> bool>,
    ) -> Result<()> {
        if self.contender.echoes() {
            return Ok(());
        }
        let workload = requests.workload();
        let items = Items::new(&workload, self.wire.payload_max())?;
        let mut load = Load::new(&mut self.wire, &workload, &items, Protocol::Memcached, TIMEOUT);
        let filled = load.prefill(bar);
        bar.clear();
        ensure!(filled.with_context(|| self.machine.report())?, "interrupted");
        Ok(())
    }

    /// Loads it once.
    ///
    /// # Errors
    /// The guest ended or went silent. What it answered is judged by [`verdict`].
    pub(super) fn load(
        &mut self,
        plan: &Plan,
        requests: Requests,
        schedule: Schedule,
        bar: &mut Bar<impl Fn() -> bool>,
    ) -> Result<Measured> {
        let workload = requests.workload();
        let items = Items::new(&workload, self.wire.payload_max())?;
        let protocol = protocol(self.contender);
        let mut load = Load::new(&mut self.wire, &workload, &items, protocol, TIMEOUT);
        let measured = load.run(&plan.load(schedule), bar);
        bar.clear();
        let measured = measured.with_context(|| self.machine.report())?;
        match measured.ended {
            Ended::Complete => Ok(measured),
            Ended::Interrupted => bail!("interrupted"),
            Ended::Silent => bail!("it stopped answering\n{}", self.machine.report()),
            Ended::Broken => bail!(
                "{}\n{}",
                measured.broken.unwrap_or_else(|| "the way to it broke".to_owned()),
                self.machine.report()
            ),
        }
    }
}

/// Kicks and calls, of what the back end counted.
pub(super) fn notifications(measured: &Measured) -> (u64, u64) {
    let count = |wanted| {
        let mut counts = measured.counts.iter();
        counts.find(|(name, _)| *name == wanted).map_or(0, |(_, count)| *count)
    };
    (count(KICKS), count(CALLS))
}

/// Why `measured` is no figure, if so: with what was answered, or not.
pub(super) fn verdict(measured: &Measured) -> Option<String> {
    let account = &measured.account;
    if account.wrong > 0 {
        let first = measured.wrong.as_deref().unwrap_or("not kept");
        return Some(format!("{} replies were wrong; the first: {first}", account.wrong));
    }
    let strays = account.strays.unasked + account.strays.malformed;
    if strays > 0 {
        return Some(format!("{strays} replies belonged to nothing that was asked"));
    }
    let lost = account.unanswered_share();
    // One of a few says nothing of a share.
    let several = account.sent.saturating_sub(account.answered) > 1;
    if account.answered == 0 || (lost > LOST_MAX && several) {
        return Some(format!(
            "{:.2} % of {} requests were not answered in {} s",
            lost * 100.0,
            account.sent,
            TIMEOUT.as_secs()
        ));
    }
    let keys = account.hits + account.misses;
    if account.misses as f64 > keys as f64 * LOST_MAX {
        return Some(format!("{} of {keys} keys were not found", account.misses));
    }
    None
}

const fn protocol(contender: Contender) -> Protocol {
    if contender.echoes() { Protocol::Echo } else { Protocol::Memcached }
}

#[cfg(test)]
pub(super) mod tests {
    use exo_load::Account;

    use super::*;

    /// `answered` of `sent` requests, in a second.
    pub(in super::super) fn measured(sent: u64, answered: u64) -> Measured {
        let mut account = Account::new(1000);
        (account.intended, account.sent, account.answered) = (sent, sent, answered);
        (account.answered_in_time, account.timed_out) = (answered, sent - answered);
        (account.gets, account.hits) = (answered, answered);
        Measured {
            schedule: Schedule::Closed(1),
            seconds: 1.0,
            account,
            ended: Ended::Complete,
            broken: None,
            wrong: None,
            counts: vec![(KICKS, 3), (CALLS, 5)],
        }
    }

    #[test]
    fn what_lies_or_loses_has_failed() {
        let good = measured(10_000, 9_990);
        assert_eq!(verdict(&good), None);
        assert_eq!(notifications(&good), (3, 5));
        assert!(verdict(&measured(10_000, 9_989)).unwrap().contains("not answered"));
        assert_eq!(verdict(&measured(100, 99)), None);
        assert!(verdict(&measured(0, 0)).is_some());
        let mut bad = good.clone();
        bad.account.wrong = 1;
        bad.wrong = Some("VALUE b".to_owned());
        assert!(verdict(&bad).unwrap().contains("VALUE b"));
        let mut bad = good.clone();
        bad.account.strays.unasked = 1;
        assert!(verdict(&bad).is_some());
        let mut bad = good;
        (bad.account.hits, bad.account.misses) = (9_000, 990);
        assert!(verdict(&bad).unwrap().contains("not found"));
    }
}
