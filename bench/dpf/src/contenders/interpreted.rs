//! One filter after the other: the meaning of the language, in a loop.

use anyhow::{Context, Result};
use dpf::Filter;

use super::{Bytes, Contender, Task};
use crate::predicates::Predicate;

pub(super) struct Interpreted {
    known: Vec<Filter>,
    installed: Vec<(u32, Filter)>,
}

impl Interpreted {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Vec<_> = task.predicates.iter().map(Predicate::filter).collect::<Result<_>>()?;
        let mut installed = Vec::with_capacity(known.len());
        installed.extend((0..task.installed).zip(known.iter().copied()));
        Ok(Self { known, installed })
    }
}

impl Contender for Interpreted {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        self.installed.iter().find(|(_, filter)| filter.matches(frame)).map(|&(tag, _)| tag)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let filter = self.known.get(tag as usize).context("no such filter")?;
        self.installed.push((tag, *filter));
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        let at = self.installed.iter().rposition(|(other, _)| *other == tag);
        self.installed.remove(at.context("not installed")?);
        Ok(())
    }

    fn bytes(&self) -> Bytes {
        Bytes { code: 0, data: (self.installed.len() * size_of::<(u32, Filter)>()) as u64 }
    }
}
