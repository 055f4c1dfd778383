//! One load: probe, prefill, warm-up, measurement.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::account::Account;
use crate::driver::{Driver, Fate, Finished};
use crate::protocol::{Protocol, Request, UDP_HEADER};
use crate::schedule::Schedule;
use crate::wire::{Batch, Wire};
use crate::workload::{Items, Workload};

/// Requests outstanding while items are stored beforehand.
const PREFILL_OUTSTANDING: u32 = 32;
/// How often an item is stored again whose reply was lost.
const PREFILL_ROUNDS: u32 = 5;
/// How often to look for the signal to end, and to show progress.
const GLANCE: u64 = 50_000_000;
/// Waits shorter than this are spent looking at the wire: waking up takes as long.
const SPIN: u64 = 150_000;
/// Longest wait in one piece.
const NAP: u64 = 5_000_000;

/// What is to be measured, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// When requests are sent.
    pub schedule: Schedule,
    /// Load before the measurement that is not counted.
    pub warm_up: Duration,
    /// The measurement.
    pub duration: Duration,
    /// A server that has answered nothing for so long, and lets requests time out, is gone.
    pub silence: Duration,
    /// A request sent later than this after its time counts as sent late.
    pub late_after: Duration,
    /// Look at the wire all the time instead of waiting for it.
    pub spin: bool,
}

/// Looks on while a load runs.
pub trait Watch {
    /// Whether to end early.
    fn interrupted(&self) -> bool;
    /// How far a stage is, from 0 to 1, and what to say of it.
    fn progress(&mut self, stage: &str, done: f64, text: &str);
}

/// Why a measurement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over.
    Complete,
    /// It was asked to.
    Interrupted,
    /// The server answers nothing any more.
    Silent,
    /// The way to the server broke: its machine has ended, for instance.
    Broken,
}

/// A measurement.
#[derive(Clone, Debug)]
pub struct Measured {
    /// When requests were sent.
    pub schedule: Schedule,
    /// Seconds measured.
    pub seconds: f64,
    /// Where the requests went.
    pub account: Account,
    /// Why it ended.
    pub ended: Ended,
    /// What broke, if that ended it.
    pub broken: Option<String>,
    /// The first wrong reply there was, beside its request.
    pub wrong: Option<String>,
    /// What the back end counted meanwhile.
    pub counts: Vec<(&'static str, u64)>,
}

/// A load on one server.
pub struct Load<'l> {
    driver: Driver<'l>,
    workload: &'l Workload,
    items: &'l Items,
}

/// Asks the server for its version, again and again, and returns it; of an echo service,
/// whether it echoes.
///
/// **Blocking** until it answers, at most for `patience`.
pub fn probe(
    wire: &mut dyn Wire,
    protocol: Protocol,
    patience: Duration,
    watch: &mut dyn Watch,
) -> Result<String> {
    // Ids from the end: those of the load count from 0.
    let header = [0xff, 0xff, 0, 0, 0, 1, 0, 0];
    let mut batch = Batch::default();
    batch.push(|out| out.extend([&header[..], b"version\r\n"].concat()));
    let start = Instant::now();
    let mut answer = None;
    let mut next = Duration::ZERO;
    while start.elapsed() < patience && answer.is_none() {
        ensure!(!watch.interrupted(), "interrupted before the server answered");
        if start.elapsed() >= next {
            next = start.elapsed() + Duration::from_millis(250);
            wire.send(&batch)?;
            let share = start.elapsed().as_secs_f64() / patience.as_secs_f64();
            watch.progress("waiting for the server", share, "");
        }
        wire.wait(Duration::from_millis(10))?;
        wire.receive(&mut |datagram| {
            if datagram.starts_with(&header[..2]) && datagram.len() > UDP_HEADER {
                answer = Some(datagram[UDP_HEADER..].to_vec());
            }
        })?;
        if answer.is_none() && wire.refused() > 0 {
            bail!("nothing listens there, says the host");
        }
    }
    let Some(answer) = answer else {
        bail!("no datagram came back in {} s", patience.as_secs_f64());
    };
    let text = String::from_utf8_lossy(&answer).trim_end().to_owned();
    match protocol {
        Protocol::Memcached => {
            let version = text.strip_prefix("VERSION ").with_context(|| {
                format!(
                    "the server answers \"{}\" to \"version\": it is no memcached; \
                     is it an echo service (--protocol echo)?",
                    text.escape_debug()
                )
            })?;
            Ok(version.escape_debug().to_string())
        }
        Protocol::Echo => {
            ensure!(
                answer == b"version\r\n",
                "the server answers \"{}\" instead of echoing; \
                 is it a memcached (--protocol memcached)?",
                text.escape_debug()
            );
            Ok("echo".to_owned())
        }
    }
}

impl<'l> Load<'l> {
    /// A load of `workload`, whose items are `items`. A request is given up after
    /// `timeout`.
    pub fn new(
        wire: &'l mut dyn Wire,
        workload: &'l Workload,
        items: &'l Items,
        protocol: Protocol,
        timeout: Duration,
    ) -> Self {
        Self { driver: Driver::new(wire, items, protocol, timeout), workload, items }
    }

    /// Stores every item. False if it was interrupted.
    ///
    /// **Blocking** until all are stored; an error if one is not, after five attempts.
    pub fn prefill(&mut self, watch: &mut dyn Watch) -> Result<bool> {
        let count = self.items.count();
        let mut left: Vec<u32> = (0..count).rev().collect();
        let mut done = 0;
        for _ in 0..PREFILL_ROUNDS {
            let mut again = Vec::new();
            let mut ended = Vec::new();
            let mut glance = 0;
            while !left.is_empty() || self.driver.outstanding() > 0 {
                while self.driver.outstanding() < PREFILL_OUTSTANDING
                    && self.driver.has_room()
                    && let Some(n) = left.pop()
                {
                    let now = self.driver.now();
                    self.driver.offer(Request::Set(n), now);
                }
                let sent = self.driver.send()?;
                let received = self.driver.receive(&mut ended)?;
                for Finished { request, fate, .. } in ended.drain(..) {
                    match (fate, request) {
                        (Fate::Answered { .. }, _) => done += 1,
                        (Fate::Wrong | Fate::TimedOut, Request::Set(n)) => again.push(n),
                        _ => {}
                    }
                }
                let now = self.driver.now();
                if now >= glance {
                    glance = now + GLANCE;
                    let share = f64::from(done) / f64::from(count);
                    watch.progress("storing items", share, &format!("{done} of {count}"));
                    if watch.interrupted() {
                        return Ok(false);
                    }
                }
                if sent + received == 0 {
                    self.driver.wait(Duration::from_nanos(NAP))?;
                }
            }
            if again.is_empty() {
                return Ok(true);
            }
            left = again;
        }
        let wrong = self.driver.wrong().map_or(String::new(), |wrong| format!(": {wrong}"));
        bail!(
            "{} of {count} items could not be stored in {PREFILL_ROUNDS} attempts{wrong}",
            left.len()
        );
    }

    /// Runs a load and measures it.
    ///
    /// **Blocking** for warm-up and duration, and then until the last requests are
    /// answered or given up.
    pub fn run(&mut self, plan: &Plan, watch: &mut dyn Watch) -> Result<Measured> {
        plan.schedule.check()?;
        let start = self.driver.now();
        let from = start + plan.warm_up.as_nanos() as u64;
        let mut end = from + plan.duration.as_nanos() as u64;
        let strays = self.driver.strays();
        let counts = self.driver.wire().counts();
        self.driver.count(from..end);

        let mut account = Account::new(plan.late_after.as_nanos() as u64);
        let mut times = plan.schedule.times(self.workload.seed);
        let mut chooser = self.workload.chooser();
        let mut finished = Vec::new();
        let mut ended = Ended::Complete;
        let mut broken = None;
        let mut unanswered_since = None;
        let mut glance = 0;
        let counted = from..end;
        let mut offered = 0;
        loop {
            let now = self.driver.now();
            if now >= end {
                break;
            }
            if now >= glance {
                glance = now + GLANCE;
                show(watch, &account, now, start, from, end);
                if watch.interrupted() {
                    (ended, end) = (Ended::Interrupted, from.max(now + 1));
                    break;
                }
            }
            match (&mut times, plan.schedule) {
                (None, Schedule::Closed(outstanding)) => {
                    while self.driver.outstanding() < outstanding && self.driver.has_room() {
                        self.driver.offer(chooser.next(), now);
                        offered += u64::from(counted.contains(&now));
                    }
                }
                (Some(times), _) => {
                    while start + times.peek() <= now && self.driver.has_room() {
                        let intended = start + times.peek();
                        self.driver.offer(chooser.next(), intended);
                        offered += u64::from(counted.contains(&intended));
                        times.advance();
                    }
                }
                (None, Schedule::Open(..)) => {}
            }
            let moved = self.exchange(&mut finished);
            for one in finished.drain(..) {
                if (from..end).contains(&one.intended) {
                    account.take(&one, end);
                }
                match one.fate {
                    Fate::TimedOut => {
                        unanswered_since.get_or_insert(self.driver.last_reply().max(start));
                    }
                    _ => unanswered_since = None,
                }
            }
            if let Some(since) = unanswered_since
                && self.driver.last_reply() <= since
                && now.saturating_sub(since) > plan.silence.as_nanos() as u64
            {
                (ended, end) = (Ended::Silent, from.max(now + 1));
                break;
            }
            let moved = match moved {
                Ok(moved) => moved,
                // What was measured until then is not lost.
                Err(error) if account.answered > 0 => {
                    broken = Some(format!("{error:#}"));
                    (ended, end) = (Ended::Broken, from.max(now + 1));
                    break;
                }
                Err(error) => return Err(error),
            };
            if moved == 0 {
                let next = times.as_ref().map_or(now + NAP, |times| start + times.peek());
                self.pause(now, next.min(end), plan.spin)?;
            }
        }

        // What was not sent by now never is.
        let window = from..end;
        let withdrawn = self.driver.withdraw();
        let withdrawn = withdrawn.iter().filter(|time| window.contains(time)).count() as u64;
        match &mut times {
            // In a closed loop a request is intended when there is room for it.
            None => account.intended = offered - withdrawn,
            Some(times) => {
                let unoffered = times.count_until(from - start, end - start);
                account.intended = offered + unoffered;
                account.never_sent = withdrawn + unoffered;
            }
        }
        while self.driver.outstanding() > 0 {
            match self.driver.receive(&mut finished) {
                Ok(0) => self.driver.wait(Duration::from_nanos(NAP / 5)).unwrap_or_default(),
                Ok(_) => {}
                Err(error) => {
                    broken.get_or_insert_with(|| format!("{error:#}"));
                    ended = Ended::Broken;
                    self.driver.abandon(&mut finished);
                }
            }
            for one in finished.drain(..).filter(|one| window.contains(&one.intended)) {
                account.take(&one, end);
            }
        }
        account.sent = self.driver.sent_in_window();
        let after = self.driver.strays();
        account.strays.unasked = after.unasked - strays.unasked;
        account.strays.malformed = after.malformed - strays.malformed;
        account.balance().map_err(anyhow::Error::msg)?;

        let counts = self.driver.wire().counts().into_iter().map(|(name, count)| {
            let before = counts.iter().find(|(other, _)| *other == name);
            (name, count - before.map_or(0, |(_, before)| *before))
        });
        Ok(Measured {
            schedule: plan.schedule,
            seconds: (end - from) as f64 / 1e9,
            account,
            ended,
            broken,
            wrong: self.driver.wrong().map(ToOwned::to_owned),
            counts: counts.collect(),
        })
    }

    /// Sends what was offered and takes replies in; how many datagrams moved.
    fn exchange(&mut self, finished: &mut Vec<Finished>) -> Result<usize> {
        let sent = self.driver.send()?;
        Ok(sent + self.driver.receive(finished)?)
    }

    /// Nothing to do at `now`, at the latest until `next`.
    fn pause(&mut self, now: u64, next: u64, spin: bool) -> Result<()> {
        let left = next.saturating_sub(now).min(NAP);
        if spin {
            std::hint::spin_loop();
        } else if left > SPIN {
            self.driver.wait(Duration::from_nanos(left - SPIN / 2))?;
        } else {
            // Not a busy wait alone: the server may need this processor.
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// Shows how a measurement stands.
fn show(watch: &mut dyn Watch, account: &Account, now: u64, start: u64, from: u64, end: u64) {
    let done = (now - start) as f64 / (end - start) as f64;
    if now < from {
        watch.progress("warming up", done, "");
        return;
    }
    let seconds = ((now - from) as f64 / 1e9).max(1e-3);
    let p99 = account.percentile(99.0).latency_us.unwrap_or(0.0);
    let text = format!(
        "{:.0} answers/s, p99 {p99:.0} µs, {} timed out, {} wrong",
        account.answered as f64 / seconds,
        account.timed_out,
        account.wrong
    );
    watch.progress("measuring", done, &text);
}
