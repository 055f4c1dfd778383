//! One filter after the other: the meaning of the language, in a loop.

use anyhow::{Context, Result};
use dpf::Filter;

use super::list::List;
use super::{Bytes, Contender, Task};
use crate::predicates::Predicate;

pub(super) struct Interpreted {
    known: Vec<Filter>,
    installed: List<Filter>,
}

impl Interpreted {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Vec<_> = task.predicates.iter().map(Predicate::filter).collect::<Result<_>>()?;
        let installed = List::with_capacity(known.len());
        let mut interpreted = Self { known, installed };
        (0..task.installed).try_for_each(|tag| interpreted.insert(tag))?;
        Ok(interpreted)
    }
}

impl Contender for Interpreted {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        self.installed.find(|filter| filter.matches(frame))
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let filter = self.known.get(tag as usize).context("no such filter")?;
        self.installed.push(tag, *filter);
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        self.installed.remove(tag)
    }

    fn bytes(&self) -> Bytes {
        Bytes { code: 0, data: self.installed.bytes() }
    }
}
