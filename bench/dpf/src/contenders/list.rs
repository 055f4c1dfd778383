//! Filters that are searched one after the other, from the one that came first.

use anyhow::{Context, Result};

/// Filters of one form, with their tags.
pub(super) struct List<T>(Vec<(u32, T)>);

impl<T> List<T> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The tag of the first that `matches`.
    #[inline]
    pub(super) fn find(&self, mut matches: impl FnMut(&T) -> bool) -> Option<u32> {
        self.0.iter().find(|(_, filter)| matches(filter)).map(|&(tag, _)| tag)
    }

    pub(super) fn push(&mut self, tag: u32, filter: T) {
        self.0.push((tag, filter));
    }

    /// Removes the one that came last, if there are several.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn remove(&mut self, tag: u32) -> Result<()> {
        let at = self.0.iter().rposition(|&(other, _)| other == tag);
        self.0.remove(at.context("not installed")?);
        Ok(())
    }

    pub(super) fn filters(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, filter)| filter)
    }

    /// Bytes of the list itself.
    pub(super) fn bytes(&self) -> u64 {
        (self.0.len() * size_of::<(u32, T)>()) as u64
    }
}
