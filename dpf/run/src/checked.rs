//! Merged filters beside the list of them, which says what the answer must be.

use dpf::{Filter, MAX_FRAME, Step, Tag, witness};

use crate::{Arena, Edge, Id};

/// An [`Arena`] that is compared with the list of its filters whenever something is done
/// with it. Whatever differs is a panic.
#[derive(Debug)]
pub struct Checked {
    arena: Arena,
    edge: Edge,
    installed: Vec<Installed>,
    next: u32,
}

/// A filter of the list.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    id: Id,
    /// Counts installations, from 0.
    pub tag: Tag,
    /// The filter.
    pub filter: Filter,
    rank: u64,
}

impl Checked {
    /// With an arena in which nothing is installed.
    ///
    /// # Panics
    /// If memory is short.
    pub fn new(arena: Arena) -> Self {
        Self { arena, edge: Edge::new(), installed: Vec::new(), next: 0 }
    }

    /// Installs a filter, unless it is there; and checks the structure. It is then the last
    /// of [`Checked::installed`].
    ///
    /// # Panics
    /// If something does not hold, or the arena is full.
    pub fn install(&mut self, filter: &Filter) -> Option<Tag> {
        let twice = self.installed.iter().any(|other| other.filter == *filter);
        let tag = Tag(self.next);
        let result = self.arena.install(filter, tag);
        assert_eq!(result.is_err(), twice, "refused if it is there: {filter:?}");
        let id = result.ok();
        if let Some(id) = id {
            self.next += 1;
            let rank = filter.rank(tag.0.into());
            self.installed.push(Installed { id, tag, filter: *filter, rank });
        }
        self.check();
        id.map(|_| tag)
    }

    /// Removes the filter at this place of the list, to which the last one moves; and checks
    /// the structure.
    ///
    /// # Panics
    /// If something does not hold, or there are not so many filters.
    pub fn remove(&mut self, index: usize) -> Installed {
        let removed = self.installed.swap_remove(index);
        assert_eq!(self.arena.remove(removed.id), Ok(()), "removed: {:?}", removed.filter);
        self.check();
        removed
    }

    fn check(&self) {
        let (trie, store) = self.arena.parts();
        assert_eq!(trie.check(store), Ok(self.installed.len()));
    }

    /// Code, interpreter and list agree on the filter that takes `frame`, wherever in a page it is.
    ///
    /// # Panics
    /// If they do not, or the frame is longer than a page.
    pub fn classify(&mut self, frame: &[u8]) {
        let matching = self.installed.iter().filter(|it| it.filter.matches(frame));
        let best = matching.map(|it| it.rank).max();
        let interpreted = self.arena.classify_interpreted(frame);
        let taker = interpreted.and_then(|tag| self.installed.iter().find(|it| it.tag == tag));
        assert_eq!(taker.is_some(), interpreted.is_some(), "it is installed");
        assert_eq!(taker.map(|it| it.rank), best, "interpreted {frame:?}");
        assert!(taker.is_none_or(|it| it.filter.matches(frame)), "interpreted {frame:?}");
        let last = self.arena.classify(self.edge.place(frame));
        assert_eq!(last, interpreted, "compiled {frame:?}");
        let first = self.arena.classify(self.edge.place_first(frame));
        assert_eq!(first, interpreted, "compiled {frame:?}");
    }

    /// The filters, in no particular order.
    pub fn installed(&self) -> &[Installed] {
        &self.installed
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }
}

/// A frame that matches.
///
/// # Panics
/// If there is none ([`dpf::exact::sound`]).
pub fn example(filter: &Filter) -> Vec<u8> {
    let mut frame = [0; MAX_FRAME];
    let length = witness(filter, filter, &mut frame).expect("some frame matches");
    frame[..length].to_vec()
}

/// Frames that match, and that nearly do: one byte shorter, longer, one bit wrong.
///
/// # Panics
/// As [`example`].
pub fn near(filter: &Filter) -> Vec<Vec<u8>> {
    let example = example(filter);
    let mut frames = vec![example.clone(), example[..example.len() - 1].to_vec()];
    frames.push([&example[..], &[0; 9]].concat());
    let interesting = filter.steps().flat_map(|step| match step {
        Step::Atom(atom) => atom.offset..atom.offset + u16::from(atom.width),
        Step::Shift(shift) => shift.offset..shift.offset + 1,
    });
    for (i, at) in interesting.enumerate() {
        if let Some(byte) = example.get(usize::from(at)) {
            let mut frame = example.clone();
            frame[usize::from(at)] = if i % 3 == 0 { !byte } else { byte ^ 1 << (i % 8) };
            frames.push(frame);
        }
    }
    frames
}
