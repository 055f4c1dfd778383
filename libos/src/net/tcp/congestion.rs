//! How much may be under way, and how long to wait for an acknowledgement: round-trip times
//! and time-outs (RFC 6298), congestion control (RFC 5681, NewReno: RFC 6582).

use super::seq::Seq;
use super::wheel::Millis;

/// The least and the longest time-out, and the one before anything was measured. RFC 6298 wants
/// a second at least (2.4); like most stacks, this one takes a fifth: the pauses of delayed
/// acknowledgements are shorter.
const RTO_LEAST: Millis = 200;
const RTO_MOST: Millis = 60_000;
const RTO_FIRST: Millis = 1000;

/// Segments that may be under way at the start (RFC 6928).
const INITIAL_SEGMENTS: u32 = 10;
/// More is never under way: so much fits into a buffer twice.
const MOST: u32 = 2 * super::pool::BUFFER as u32;
const _: () = assert!(MOST <= u16::MAX as u32);
/// Duplicate acknowledgements that mean a loss (RFC 5681, 3.2).
const DUPLICATES: u8 = 3;

/// The estimate of the round-trip time.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// Smoothed, and its mean deviation; in microseconds. Both zero before the first sample.
    smoothed: u32,
    deviation: u32,
    /// When the segment that ends at the number was sent, in microseconds modulo 2^32. One
    /// segment is timed at a time, and none that was sent twice (Karn's algorithm).
    timed: (Seq, u32),
    is_timing: bool,
    /// Time-outs in a row.
    backoff: u8,
}

impl RoundTrip {
    /// Times the segment that ends before `end`, unless another is being timed.
    #[inline]
    pub(super) fn start(&mut self, end: Seq, micros: u64) {
        if !self.is_timing {
            (self.timed, self.is_timing) = ((end, micros as u32), true);
        }
    }

    /// Gives up timing: what is timed is sent again.
    pub(super) const fn stop(&mut self) {
        self.is_timing = false;
    }

    /// Takes an acknowledgement of something new.
    #[inline]
    pub(super) fn acknowledged(&mut self, ack: Seq, micros: u64) {
        self.backoff = 0;
        let (end, sent) = self.timed;
        if self.is_timing && !ack.before(end) {
            self.is_timing = false;
            self.sample((micros as u32).wrapping_sub(sent).max(1));
        }
    }

    /// RFC 6298, section 2.
    #[inline]
    fn sample(&mut self, micros: u32) {
        if self.smoothed == 0 {
            (self.smoothed, self.deviation) = (micros, micros / 2);
            return;
        }
        let off = self.smoothed.abs_diff(micros);
        self.deviation = self.deviation - self.deviation / 4 + off / 4;
        self.smoothed = (self.smoothed - self.smoothed / 8 + micros / 8).max(1);
    }

    /// Doubles the time-out.
    pub(super) const fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The time-out.
    #[inline]
    pub(super) fn timeout(&self) -> Millis {
        let micros = u64::from(self.smoothed) + 4 * u64::from(self.deviation);
        if self.smoothed != 0 && self.backoff == 0 && micros <= u64::from(RTO_LEAST) * 1000 {
            return RTO_LEAST;
        }
        self.long_timeout()
    }

    /// The same, if it is not the least.
    #[inline(never)]
    fn long_timeout(&self) -> Millis {
        let base = match self.smoothed {
            0 => RTO_FIRST,
            smoothed => {
                let micros = u64::from(smoothed) + 4 * u64::from(self.deviation);
                u32::try_from(micros.div_ceil(1000)).unwrap_or(RTO_MOST).max(RTO_LEAST)
            }
        };
        base.checked_shl(self.backoff.min(16).into()).unwrap_or(RTO_MOST).min(RTO_MOST)
    }
}

/// How much may be under way.
#[derive(Debug)]
pub(super) struct Congestion {
    window: u16,
    threshold: u16,
    /// All before this had been sent when the last loss was noticed.
    recover: Seq,
    duplicates: u8,
    recovering: bool,
}

/// What an acknowledgement means for what was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// Nothing new.
    None,
    /// A loss: send the first hole again.
    Noticed,
    /// While a loss is made good: there is room for one segment more.
    Continues,
}

impl Congestion {
    pub(super) fn new(mss: u16, first: Seq) -> Self {
        // RFC 6928, section 2.
        let mss = u32::from(mss);
        let window = (INITIAL_SEGMENTS * mss).min((2 * mss).max(14_600));
        Self {
            window: window as u16,
            threshold: u16::MAX,
            recover: first,
            duplicates: 0,
            recovering: false,
        }
    }

    /// Bytes that may be under way.
    #[inline(always)]
    pub(super) const fn window(&self) -> u32 {
        self.window as u32
    }

    fn set_window(&mut self, bytes: u32) {
        self.window = bytes.min(MOST) as u16;
    }

    /// Half of what is under way from `una` to `max` (RFC 5681, equation 4).
    fn set_threshold(&mut self, una: Seq, max: Seq, mss: u32) {
        self.threshold = ((max - una) / 2).max(2 * mss).min(MOST) as u16;
    }

    pub(super) const fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// A duplicate acknowledgement, `under_way` bytes of data being under way up to `max`.
    pub(super) fn duplicate(&mut self, una: Seq, max: Seq, mss: u32) -> Loss {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.recovering {
            self.set_window(self.window() + mss);
            return Loss::Continues;
        }
        if self.duplicates != DUPLICATES || una.before(self.recover) {
            return Loss::None;
        }
        self.set_threshold(una, max, mss);
        self.recover = max;
        self.recovering = true;
        self.set_window(u32::from(self.threshold) + u32::from(DUPLICATES) * mss);
        Loss::Noticed
    }

    /// `ack` acknowledges `bytes` that were not before; up to `max` was sent.
    pub(super) fn acknowledged(&mut self, ack: Seq, bytes: u32, max: Seq, mss: u32) -> Loss {
        self.duplicates = 0;
        if self.recovering && ack.before(self.recover) {
            // A partial acknowledgement: there is another hole (RFC 6582, step 3.2).
            let more = if bytes >= mss { mss } else { 0 };
            self.set_window(self.window().saturating_sub(bytes).max(mss) + more);
            return Loss::Noticed;
        }
        if self.recovering {
            self.recovering = false;
            self.set_window(u32::from(self.threshold).min((max - ack).max(mss) + mss));
        } else if self.window < self.threshold {
            self.set_window(self.window() + bytes.min(mss));
        } else {
            self.set_window(self.window() + (mss * mss / self.window()).max(1));
        }
        Loss::None
    }

    /// The time-out has passed without an acknowledgement (RFC 5681, 3.1).
    pub(super) fn timed_out(&mut self, una: Seq, max: Seq, mss: u32, first: bool) {
        if first {
            self.set_threshold(una, max, mss);
        }
        self.set_window(mss);
        self.recover = max;
        (self.recovering, self.duplicates) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Congestion, Loss, RTO_LEAST, RTO_MOST, RoundTrip};
    use crate::net::tcp::seq::Seq;

    /// The example values follow from RFC 6298, section 2, by hand.
    #[test]
    fn time_outs_follow_what_is_measured() {
        let mut round = RoundTrip::default();
        assert_eq!(round.timeout(), 1000);
        round.start(Seq(10), 0);
        round.start(Seq(20), 1_000_000);
        round.acknowledged(Seq(9), 100_000);
        assert_eq!(round.timeout(), 1000, "what is timed is not acknowledged yet");
        round.acknowledged(Seq(10), 400_000);
        // 400 ms + 4 * 200 ms.
        assert_eq!(round.timeout(), 1200);
        round.start(Seq(30), 1_000_000);
        round.acknowledged(Seq(30), 1_400_000);
        // The deviation falls by a quarter.
        assert_eq!(round.timeout(), 1000);
        round.back_off();
        assert_eq!(round.timeout(), 2000);
        for _ in 0..100 {
            round.back_off();
        }
        assert_eq!(round.timeout(), RTO_MOST);
        for n in 0..100 {
            round.start(Seq(100 + n), u64::from(n) * 1000);
            round.acknowledged(Seq(100 + n), u64::from(n) * 1000 + 50);
        }
        assert_eq!(round.timeout(), RTO_LEAST);
    }

    #[test]
    fn new_reno_grows_halves_and_recovers() {
        let mss = 1000;
        let mut congestion = Congestion::new(1000, Seq(0));
        assert_eq!(congestion.window(), 10_000);
        let max = Seq(12_001);
        assert_eq!(congestion.acknowledged(Seq(1001), 1000, max, mss), Loss::None);
        assert_eq!(congestion.window(), 11_000, "slow start");
        let una = Seq(2001);
        assert_eq!(congestion.duplicate(una, max, mss), Loss::None);
        assert_eq!(congestion.duplicate(una, max, mss), Loss::None);
        assert_eq!(congestion.duplicate(una, max, mss), Loss::Noticed);
        assert_eq!(congestion.window(), 5000 + 3000);
        assert_eq!(congestion.duplicate(una, max, mss), Loss::Continues);
        assert_eq!(congestion.window(), 9000);
        assert_eq!(congestion.acknowledged(Seq(5001), 3000, max, mss), Loss::Noticed);
        assert_eq!(congestion.window(), 9000 - 3000 + 1000);
        assert_eq!(congestion.acknowledged(max, 7000, max, mss), Loss::None);
        assert!(!congestion.is_recovering());
        assert_eq!(congestion.window(), 2000, "nothing is under way");
        congestion.timed_out(max, max + 8000, mss, true);
        assert_eq!(congestion.window(), 1000);
        // Slow start up to half of what was under way, then about a segment a round trip.
        let mut acked = max;
        for expected in [2000, 3000, 4000, 4250] {
            acked += 1000;
            let _ = congestion.acknowledged(acked, 1000, acked + 8000, mss);
            assert_eq!(congestion.window(), expected);
        }
    }
}
