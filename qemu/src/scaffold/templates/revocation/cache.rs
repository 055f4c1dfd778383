//! Which pages go first when some are wanted back: those that were used least.

/// Pages of the cache.
pub(crate) const PAGES: usize = 64;

/// How often each page was used; nothing of a page that is not there.
pub(crate) struct Cache {
    uses: [Option<u64>; PAGES],
}

impl Cache {
    /// One that has no page yet.
    pub(crate) const fn new() -> Self {
        Self { uses: [None; PAGES] }
    }

    /// The first page that is not there.
    pub(crate) fn missing(&self) -> Option<usize> {
        self.uses.iter().position(Option::is_none)
    }

    /// Notes that `page` is there, and how often it was used.
    pub(crate) fn put(&mut self, page: usize, uses: u64) {
        self.uses[page] = Some(uses);
    }

    /// Takes out the page that was used least.
    pub(crate) fn give(&mut self) -> Option<usize> {
        let there = |(page, uses): (usize, &Option<u64>)| uses.map(|uses| (uses, page));
        let (_, page) = self.uses.iter().enumerate().filter_map(there).min()?;
        self.uses[page] = None;
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_goes_first() {
        let mut cache = Cache::new();
        assert_eq!((cache.missing(), cache.give()), (Some(0), None));
        for (page, uses) in [(0, 7), (1, 2), (2, 9), (3, 2)] {
            cache.put(page, uses);
        }
        assert_eq!(cache.missing(), Some(4));
        assert_eq!([(); 4].map(|()| cache.give()), [Some(1), Some(3), Some(0), Some(2)]);
        assert_eq!((cache.give(), cache.missing()), (None, Some(0)));
    }
}
