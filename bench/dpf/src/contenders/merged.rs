//! This system's merged filters, interpreted or as the code that is made of them.

use anyhow::{Context, Result, anyhow};
use dpf::{Block, Filter, SLOT, SLOTS, Tag};
use dpf_run::{Arena, Id};

use super::{Bytes, Contender, Task};
use crate::predicates::Predicate;

pub(super) struct Merged<const COMPILED: bool> {
    known: Vec<Filter>,
    arena: Arena,
    installed: Vec<Option<Id>>,
}

impl<const COMPILED: bool> Merged<COMPILED> {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Vec<_> = task.predicates.iter().map(Predicate::filter).collect::<Result<_>>()?;
        let (arena, installed) = (Arena::new(known.len()), vec![None; known.len()]);
        let mut merged = Self { known, arena, installed };
        (0..task.installed).try_for_each(|tag| merged.insert(tag))?;
        Ok(merged)
    }
}

impl<const COMPILED: bool> Contender for Merged<COMPILED> {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        let tag = match COMPILED {
            true => self.arena.classify(frame),
            false => self.arena.classify_interpreted(frame),
        };
        tag.map(|tag| tag.0)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let filter = self.known.get(tag as usize).context("no such filter")?;
        let id = self.arena.install(filter, Tag(tag)).map_err(|error| anyhow!("{error}"))?;
        *self.installed.get_mut(tag as usize).context("no such filter")? = Some(id);
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        let id = self.installed.get_mut(tag as usize).and_then(Option::take);
        self.arena.remove(id.context("not installed")?).map_err(|error| anyhow!("{error}"))
    }

    /// What owners bring, whether it is used or not, and the hash table.
    fn bytes(&self) -> Bytes {
        let filters = self.installed.iter().flatten().count();
        let heads = 2 * self.known.len().next_power_of_two() * size_of::<u32>();
        Bytes {
            code: (filters * SLOT * SLOTS) as u64,
            data: (filters * size_of::<Block>() + heads) as u64,
        }
    }
}
