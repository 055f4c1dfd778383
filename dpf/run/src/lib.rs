//! Executes compiled packet filters on the host.
//!
//! An [`Arena`] does what a kernel does for `dpf`: it keeps blocks at their places in a
//! linear map, the hash table, and pages of code, and runs that code on frames. It is
//! here for tests and measurements; a process that wants to demultiplex could use it,
//! too.
//!
//! The code is trusted as the compiler in `dpf` is: what it may do is checked by
//! tests that decode it, not when it runs. x86-64 and Linux only.

mod checked;
mod memory;
mod store;

pub use checked::{Checked, Installed, example, near};
use dpf::{BlockId, Filter, Predicate, Tag, Trie, TrieError};
pub use memory::Edge;
use memory::{Code, PAGE, serialise};
use store::Blocks;
pub use store::Piece;

/// Names an installed filter of one [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

/// A trie and all that it needs.
#[derive(Debug)]
pub struct Arena {
    trie: Trie,
    blocks: Blocks,
    /// How many filters there have been.
    age: u64,
}

/// What compiled filters answer.
#[repr(C)]
struct Answer {
    tag: u64,
    rank: u64,
}

type Classify = unsafe extern "sysv64" fn(*const u8, usize, u64, *const u8) -> Answer;

impl Arena {
    /// Room for `capacity` filters, and twice as many heads in the hash table, rounded up to
    /// a power of two.
    ///
    /// # Panics
    /// If memory is short, or cannot be named by 32 bits.
    pub fn new(capacity: usize) -> Self {
        Self::with_buckets(capacity, (capacity.next_power_of_two().ilog2() + 1).max(2))
    }

    /// The same with 2^`bits` heads, `bits` from 2 to 32.
    ///
    /// # Panics
    /// As [`Arena::new`].
    pub fn with_buckets(capacity: usize, bits: u32) -> Self {
        Self { trie: Trie::new(), blocks: Blocks::new(capacity, bits, PAGE), age: 0 }
    }

    /// The same with the code of each filter 4 GiB from that of the next, and the table as
    /// far from the blocks, so that no jump or displacement reaches from one to the other.
    ///
    /// # Panics
    /// As [`Arena::new`], and if there is no room for more than a few thousand.
    pub fn spread(capacity: usize, bits: u32) -> Self {
        Self { trie: Trie::new(), blocks: Blocks::new(capacity, bits, 1 << 32), age: 0 }
    }

    /// Installs a filter, which is younger than all that are there. Errors:
    /// [`TrieError::Duplicate`].
    ///
    /// # Panics
    /// If the arena is full.
    pub fn install(&mut self, filter: &Filter, tag: Tag) -> Result<Id, TrieError> {
        let (id, block) = self.blocks.take(filter);
        let rank = filter.rank(self.age);
        let result = self.trie.insert(&mut self.blocks, filter, block, tag, rank);
        serialise();
        match result {
            Ok(()) => self.age += 1,
            Err(_) => self.blocks.give(id),
        }
        result.map(|()| Id(id))
    }

    /// Removes an installed filter and overwrites what it brought. Errors:
    /// [`TrieError::NotInstalled`].
    pub fn remove(&mut self, id: Id) -> Result<(), TrieError> {
        let (filter, block) = self.blocks.get(id.0).ok_or(TrieError::NotInstalled)?;
        self.trie.remove(&mut self.blocks, &filter, block)?;
        self.blocks.give(id.0);
        serialise();
        Ok(())
    }

    /// The installed filter.
    pub fn filter(&self, id: Id) -> Option<Filter> {
        self.blocks.get(id.0).map(|(filter, _)| filter)
    }

    /// [`Trie::classify`].
    #[inline]
    pub fn classify_interpreted(&self, frame: &[u8]) -> Option<Tag> {
        self.trie.classify(&self.blocks, frame)
    }

    /// The same by the compiled code.
    #[inline]
    pub fn classify(&self, frame: &[u8]) -> Option<Tag> {
        let entry = self.trie.entry()?;
        // SAFETY: the entry of the trie as it is, in pages that are mapped while the
        // arena is; code of `dpf` keeps to this convention and reads only the frame, the
        // buckets and the nodes, all of which are borrowed by this call.
        let answer = unsafe {
            let code = std::mem::transmute::<usize, Classify>(entry as usize);
            code(frame.as_ptr(), frame.len(), 0, self.blocks.base())
        };
        (answer.rank != 0).then_some(Tag(answer.tag as u32))
    }

    /// All code that can be reached, as it would be executed.
    pub fn pieces(&self) -> Vec<Piece> {
        self.blocks.pieces()
    }

    /// Salt and entry of all nodes, as generated code would read them; and of places where
    /// there is none, with a salt that no code asks for.
    pub fn nodes(&self) -> Vec<(u64, u64)> {
        self.blocks.nodes()
    }

    /// Where all code is executed.
    pub fn code(&self) -> std::ops::Range<u64> {
        self.blocks.code()
    }

    /// Where the code starts, if there is any.
    pub fn entry(&self) -> Option<u64> {
        self.trie.entry()
    }

    /// The trie and its storage, for inspection.
    pub fn parts(&self) -> (&Trie, &impl dpf::Inspect) {
        (&self.trie, &self.blocks)
    }
}

/// A [`Predicate`] in executable memory.
#[derive(Debug)]
pub struct Runnable(Code);

impl Runnable {
    /// # Panics
    /// If memory is short.
    pub fn new(predicate: &Predicate) -> Self {
        let mut code = Code::new(1, PAGE);
        code.write(0, 0, predicate.bytes());
        serialise();
        Self(code)
    }

    /// What [`Filter::matches`] answers.
    pub fn matches(&self, frame: &[u8]) -> bool {
        type Matches = unsafe extern "sysv64" fn(*const u8, usize) -> u32;
        // SAFETY: code of `dpf` for a predicate, which keeps to this convention and reads
        // only the frame.
        unsafe {
            let code =
                std::mem::transmute::<*const u8, Matches>(self.0.place(0, 0, dpf::PREDICATE));
            code(frame.as_ptr(), frame.len()) != 0
        }
    }
}

/// The block at a place, which must have a name.
fn block_at(unit: usize) -> BlockId {
    u32::try_from(unit).ok().and_then(BlockId::new).expect("named by 32 bits")
}
