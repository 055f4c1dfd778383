//! What a batch takes before the guest's first sleep, from there to its last, and after that.
//!
//! A guest that waits for its disk sleeps in the middle of its answers. Where it does, it has asked
//! the disk for something; so its sleeps divide what it does where no symbol does.

use super::super::counter::Counts;

/// Sums of batches.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    /// Only batches with so many sleeps before the one that ends it count, if this is told.
    pub(crate) sleeps: Option<usize>,
    /// Until the first sleep, up to the last of those in the middle, and from there on.
    pub(crate) sums: [Counts; 3],
    /// Batches that counted, and that did not.
    pub(crate) counted: u32,
    pub(crate) dropped: u32,
    /// What was counted up to now, and what between the sleeps of the current batch.
    last: Counts,
    parts: Vec<Counts>,
}

impl Phases {
    /// Of batches with so many sleeps.
    pub(crate) fn of(sleeps: Option<usize>) -> Self {
        Self { sleeps, ..Self::default() }
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, now: Counts) {
        self.last = now;
        self.parts.clear();
    }

    /// The guest sleeps.
    pub(super) fn sleep(&mut self, now: Counts) {
        self.parts.push(now.since(&self.last));
        self.last = now;
    }

    /// It sleeps, and has answered everything.
    pub(super) fn end(&mut self, now: Counts) {
        self.sleep(now);
        let middle = self.parts.len() - 1;
        if middle == 0 || self.sleeps.is_some_and(|sleeps| sleeps != middle) {
            self.dropped += 1;
            return;
        }
        self.counted += 1;
        for (index, part) in self.parts.drain(..).enumerate() {
            let phase = if index == 0 { 0 } else { 1 + usize::from(index == middle) };
            self.sums[phase].add(&part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_divide_a_batch() {
        let counts = |total| Counts { total, matrix: vec![total], ..Counts::default() };
        let mut phases = Phases::of(Some(2));
        for (begin, sleeps, end) in
            [(0, &[10, 30][..], 60), (100, &[140], 200), (300, &[301, 303], 306), (400, &[], 500)]
        {
            phases.begin(counts(begin));
            sleeps.iter().for_each(|&at| phases.sleep(counts(at)));
            phases.end(counts(end));
        }
        assert_eq!((phases.counted, phases.dropped), (2, 2));
        assert_eq!(phases.sums.each_ref().map(|sum| sum.total), [11, 22, 33]);
        assert_eq!(phases.sums[2].matrix, [33]);
    }
}
