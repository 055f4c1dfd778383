//! Where every request went, and how long the answered ones took.
//!
//! ```text
//! intended = sent + never sent
//! sent     = answered + wrong + timed out + late
//! ```
//!
//! Both sides of both lines are counted apart, so that [`Account::balance`] can fail.
//! Percentiles are of the answered ones. What they leave out stands beside them, and a
//! percentile is refused if more than one in a thousand intended requests was never sent:
//! the ones that were not sent are the ones that would have had to wait.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::driver::{Fate, Finished, Strays};
use crate::protocol::Request;

/// Share of intended requests that may be missing before a percentile is refused.
pub const NEVER_SENT_MAX: f64 = 0.001;
/// Nanoseconds at which the histograms end: far beyond any time limit.
const LONGEST: u64 = 1_000_000_000_000;
/// The percentiles that are reported.
pub const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Counts and times of one measurement.
#[derive(Clone, Debug)]
pub struct Account {
    /// Requests that the schedule held; in a closed loop, those made.
    pub intended: u64,
    /// Intended, but not sent before the end.
    pub never_sent: u64,
    /// Sent more than [`Account::late_after`] after their time.
    pub late_sent: u64,
    /// Sent.
    pub sent: u64,
    /// Answered, rightly and in time.
    pub answered: u64,
    /// Answered with something else.
    pub wrong: u64,
    /// Not answered.
    pub timed_out: u64,
    /// Answered after they had been given up.
    pub late: u64,
    /// Of the answered: before the end of the measurement.
    pub answered_in_time: u64,
    /// Of the answered: those that read.
    pub gets: u64,
    /// Of the answered: those that stored.
    pub sets: u64,
    /// Keys that were there.
    pub hits: u64,
    /// Keys that were not.
    pub misses: u64,
    /// Replies that belonged to no request.
    pub strays: Strays,
    /// Nanoseconds after its time at which a request counts as sent late.
    pub late_after: u64,
    latency: Times,
    service: Times,
    slip: Times,
}

/// A histogram of nanoseconds, and its exact ends.
#[derive(Clone, Debug)]
struct Times {
    histogram: Histogram<u64>,
    most: u64,
}

/// One percentile and what it leaves out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentile {
    /// Which, in percent.
    pub percentile: f64,
    /// Microseconds from the intended time to the answer; none if refused.
    pub latency_us: Option<f64>,
    /// Microseconds from sending to the answer; none if refused.
    pub from_sending_us: Option<f64>,
    /// Microseconds from the intended time to sending, at this percentile of all sent.
    pub slip_us: f64,
    /// Share of intended requests that were never sent.
    pub never_sent: f64,
    /// Share of those sent that were sent late.
    pub late_sent: f64,
    /// Share of those sent that are not in the percentile, because they have no answer.
    pub unanswered: f64,
}

impl Times {
    fn new() -> Self {
        // Three digits: an error below 0.1 %.
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds are in order");
        Self { histogram, most: 0 }
    }

    fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
        self.most = self.most.max(nanoseconds);
    }

    fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("bounds are the same");
        self.most = self.most.max(other.most);
    }

    /// In microseconds. A bucket's end may lie above the greatest time there was.
    fn at(&self, percentile: f64) -> f64 {
        self.histogram.value_at_percentile(percentile).min(self.most) as f64 / 1e3
    }
}

impl Account {
    /// An account without requests.
    #[must_use]
    pub fn new(late_after: u64) -> Self {
        Self {
            intended: 0,
            never_sent: 0,
            late_sent: 0,
            sent: 0,
            answered: 0,
            wrong: 0,
            timed_out: 0,
            late: 0,
            answered_in_time: 0,
            gets: 0,
            sets: 0,
            hits: 0,
            misses: 0,
            strays: Strays::default(),
            late_after,
            latency: Times::new(),
            service: Times::new(),
            slip: Times::new(),
        }
    }

    /// Takes the end of a request in; `end` is that of the measurement.
    pub fn take(&mut self, finished: &Finished, end: u64) {
        let slip = finished.sent.saturating_sub(finished.intended);
        match finished.fate {
            // It was counted as timed out, and its slip with that.
            Fate::Late => {
                self.timed_out = self.timed_out.saturating_sub(1);
                self.late += 1;
                return;
            }
            Fate::TimedOut => self.timed_out += 1,
            Fate::Wrong => self.wrong += 1,
            Fate::Answered { hits, misses } => {
                self.answered += 1;
                self.answered_in_time += u64::from(finished.at < end);
                self.hits += u64::from(hits);
                self.misses += u64::from(misses);
                match finished.request {
                    Request::Get(..) => self.gets += 1,
                    Request::Set(_) => self.sets += 1,
                    Request::Version => {}
                }
                self.latency.record(finished.at.saturating_sub(finished.intended));
                self.service.record(finished.at.saturating_sub(finished.sent));
            }
        }
        self.slip.record(slip);
        self.late_sent += u64::from(slip > self.late_after);
    }

    /// Takes another measurement's requests in, as if both had been one.
    pub fn merge(&mut self, other: &Self) {
        self.intended += other.intended;
        self.never_sent += other.never_sent;
        self.late_sent += other.late_sent;
        self.sent += other.sent;
        self.answered += other.answered;
        self.wrong += other.wrong;
        self.timed_out += other.timed_out;
        self.late += other.late;
        self.answered_in_time += other.answered_in_time;
        self.gets += other.gets;
        self.sets += other.sets;
        self.hits += other.hits;
        self.misses += other.misses;
        self.strays.unasked += other.strays.unasked;
        self.strays.malformed += other.strays.malformed;
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        self.slip.merge(&other.slip);
    }

    /// How many of the answered requests took longer than this percentile.
    #[must_use]
    pub fn beyond(&self, percentile: f64) -> f64 {
        self.answered as f64 * (1.0 - percentile / 100.0)
    }

    /// Whether the sums are right. An error is a fault of this program.
    pub fn balance(&self) -> Result<(), String> {
        let ended = self.answered + self.wrong + self.timed_out + self.late;
        if self.sent != ended || self.intended != self.sent + self.never_sent {
            return Err(format!(
                "the account does not balance: {} intended, {} sent, {} never sent, {} answered, \
                 {} wrong, {} timed out, {} late",
                self.intended,
                self.sent,
                self.never_sent,
                self.answered,
                self.wrong,
                self.timed_out,
                self.late
            ));
        }
        Ok(())
    }

    /// Share of the intended requests that were never sent.
    #[must_use]
    pub fn never_sent_share(&self) -> f64 {
        share(self.never_sent, self.intended)
    }

    /// Share of the sent requests without a right answer in time.
    #[must_use]
    pub fn unanswered_share(&self) -> f64 {
        share(self.sent - self.answered.min(self.sent), self.sent)
    }

    /// Why no percentile can be given, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        if self.answered == 0 {
            return Some("nothing was answered".to_owned());
        }
        let share = self.never_sent_share();
        (share > NEVER_SENT_MAX).then(|| {
            format!(
                "{:.2} % of the intended requests were never sent, more than {:.1} %",
                share * 100.0,
                NEVER_SENT_MAX * 100.0
            )
        })
    }

    /// A percentile, beside what it leaves out.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Percentile {
        let given = self.refusal().is_none();
        Percentile {
            percentile,
            latency_us: given.then(|| self.latency.at(percentile)),
            from_sending_us: given.then(|| self.service.at(percentile)),
            slip_us: self.slip.at(percentile),
            never_sent: self.never_sent_share(),
            late_sent: share(self.late_sent, self.sent),
            unanswered: self.unanswered_share(),
        }
    }

    /// The longest time from intended time to answer in microseconds; none if refused.
    #[must_use]
    pub fn longest_us(&self) -> Option<f64> {
        self.refusal().is_none().then(|| self.latency.most as f64 / 1e3)
    }

    /// The share of *intended* requests that were answered within so many nanoseconds of
    /// their time: those never sent, lost or wrong are not.
    #[must_use]
    pub fn within(&self, nanoseconds: u64) -> f64 {
        share(self.latency.histogram.count_between(0, nanoseconds), self.intended)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(fate: Fate, intended: u64, sent: u64, at: u64) -> Finished {
        Finished { request: Request::Get(0, vec![]), fate, intended, sent, at }
    }

    const HIT: Fate = Fate::Answered { hits: 1, misses: 0 };

    #[test]
    fn every_request_is_somewhere() {
        let mut account = Account::new(1000);
        account.take(&finished(HIT, 0, 10, 5_000), 100);
        account.take(&finished(Fate::TimedOut, 0, 5_000, 9_000), 100);
        account.take(&finished(Fate::TimedOut, 0, 10, 9_000), 100);
        account.take(&finished(Fate::Late, 0, 10, 9_500), 100);
        account.take(&finished(Fate::Wrong, 0, 10, 50), 100);
        (account.intended, account.sent, account.never_sent) = (5, 4, 1);
        assert_eq!(account.balance(), Ok(()));
        assert_eq!((account.timed_out, account.late, account.wrong), (1, 1, 1));
        assert_eq!((account.answered, account.answered_in_time, account.late_sent), (1, 0, 1));
        account.sent = 5;
        assert!(account.balance().is_err());
    }

    #[test]
    fn two_measurements_are_one() {
        let one = |at| {
            let mut account = Account::new(1000);
            account.take(&finished(HIT, 0, 0, at), 100_000);
            account.take(&finished(Fate::Wrong, 0, 0, at), 100_000);
            (account.intended, account.sent, account.never_sent) = (3, 2, 1);
            account
        };
        let mut both = one(5_000);
        both.merge(&one(9_000));
        assert_eq!(both.balance(), Ok(()));
        assert_eq!((both.answered, both.wrong, both.never_sent), (2, 2, 2));
        assert!((both.within(6_000) - 1.0 / 6.0).abs() < 1e-9);
        assert!((both.beyond(50.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_refused_when_too_much_was_never_sent() {
        let mut account = Account::new(1000);
        for _ in 0..1000 {
            account.take(&finished(HIT, 100, 200, 10_200), 100);
        }
        (account.intended, account.sent, account.never_sent) = (1001, 1000, 1);
        let row = account.percentile(99.0);
        assert_eq!((row.latency_us, row.from_sending_us), (Some(10.1), Some(10.0)));
        assert_eq!(row.slip_us, 0.1);
        account.intended += 1;
        account.never_sent += 1;
        assert_eq!(account.percentile(50.0).latency_us, None);
        assert_eq!(account.longest_us(), None);
        assert!(account.refusal().unwrap().contains("0.20 %"));
        assert!(Account::new(0).refusal().is_some());
    }

    #[test]
    fn what_was_lost_is_not_within_any_time() {
        let mut account = Account::new(1000);
        for _ in 0..90 {
            account.take(&finished(HIT, 0, 0, 1_000), 100);
        }
        (account.intended, account.sent, account.never_sent) = (100, 95, 5);
        assert!((account.within(2_000) - 0.9).abs() < 1e-9);
        assert!(account.within(500) < 1e-9);
    }
}
