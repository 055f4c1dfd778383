//! Memory and capabilities that applications of one manifest share, by name.
//!
//! A `[[share]]` of the manifest has a name, pages, and the applications that have them, each of
//! which finds them with `environment.share("name")`. Root maps the pages for all and owns them, so
//! that none can take them away from another. Each is given the right to put capabilities into the
//! tables of the others; with that, and some words at the beginning of the first page, they
//! exchange doorbells and entry points:
//!
//! | one side | the other |
//! |---|---|
//! | `share.open_bell()` | `share.ring(side)` is an event to it: it wakes from `park` |
//! | `share.offer(entry)` | `share.remote::<A, R>(side)` calls it |
//! | writes `share.words()` | reads them; sleeps in [`condition`](crate::condition) until they say so |
//!
//! **Trust** the other applications of a share may write anything at any time, in the words
//! that exchange handles, too: they can have the caller ring, or call, whatever it could ring or
//! call anyway. They can fill its capability table.

use core::sync::atomic::AtomicU64;

use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, Rights, Word};

use crate::start::{MAX_SIDES, SHARE_HEADER, ShareGrant};
use crate::sys;
use crate::transfer::{Parcel, Remote};

/// What is exchanged.
#[derive(Clone, Copy)]
enum Kind {
    Bell = 0,
    Entry = 1,
}

/// A share of this application.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    grant: ShareGrant<'static>,
    words: &'static [AtomicU64],
}

impl Share {
    /// The share that root has mapped as `grant` says.
    pub(crate) fn new(grant: ShareGrant<'static>) -> Self {
        let bytes = grant.pages as usize * exo_abi::FRAME_BYTES as usize;
        let first = core::ptr::with_exposed_provenance(grant.address as usize);
        // SAFETY: the creator, which has written the start block, mapped so many pages there, read
        // and write, for good. All of it is used as atomics, here and by the other sides.
        let words = unsafe { core::slice::from_raw_parts(first, bytes / size_of::<AtomicU64>()) };
        Self { grant, words }
    }

    /// Its name in the manifest.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.grant.name
    }

    /// The memory, zeroed at first.
    #[must_use]
    pub fn words(&self) -> &'static [AtomicU64] {
        &self.words[SHARE_HEADER..]
    }

    /// Which of the manifest's `apps` this application is, counted from zero.
    #[must_use]
    pub fn side(&self) -> usize {
        usize::from(self.grant.side)
    }

    /// How many applications share it.
    #[must_use]
    pub fn sides(&self) -> usize {
        usize::from(self.grant.sides)
    }

    /// Lets all others ring: makes a doorbell of this application, whose badge is zero.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open_bell(&self) -> Result<(), Error> {
        let bell = Handle::from_word(sys::doorbell_create()?)?;
        self.give(Kind::Bell, bell)
    }

    /// Rings at `side`. False if it has not opened a bell.
    ///
    /// # Errors
    /// The kernel's refusal; it has ended, above all.
    pub fn ring(&self, side: usize) -> Result<bool, Error> {
        let Some(bell) = self.given(Kind::Bell, side) else { return Ok(false) };
        sys::doorbell_ring(bell).map(|_| true)
    }

    /// Lets all others call `entry`, an entry point of this application
    /// ([`transfer::offer`](crate::transfer::offer)).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn offer(&self, entry: Handle) -> Result<(), Error> {
        self.give(Kind::Entry, entry)
    }

    /// The entry point that `side` has offered, if it has, as a function from `A` to `R`. Whether
    /// it is one is between the two.
    #[must_use]
    pub fn remote<A: Parcel, R: Parcel>(&self, side: usize) -> Option<Remote<A, R>> {
        self.entry(side).map(Remote::new)
    }

    /// The same as a capability.
    #[must_use]
    pub fn entry(&self, side: usize) -> Option<Handle> {
        self.given(Kind::Entry, side)
    }

    /// Puts a capability for this environment, with `rights`, into the table of `side`: its handle there.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::OutOfRange`] if there is no such side.
    pub fn introduce(&self, side: usize, rights: Rights) -> Result<u64, Error> {
        let peer = self.grant.peers.get(side).copied().flatten().ok_or(Error::OutOfRange)?;
        let own = Handle::from_word(sys::cap_derive(SELF, rights, 0, 0)?)?;
        sys::cap_grant(own, peer)
    }

    /// Puts `capability` into the tables of all others that have not ended, and says where.
    fn give(&self, kind: Kind, capability: Handle) -> Result<(), Error> {
        let rights = Rights::CALL.with(Rights::GRANT);
        let narrowed = Handle::from_word(sys::cap_derive(capability, rights, 0, 0)?)?;
        for (side, peer) in self.grant.peers.into_iter().enumerate() {
            let Some(peer) = peer else { continue };
            // An application that has ended needs nothing any more.
            if let Ok(handle) = sys::cap_grant(narrowed, peer)
                && let Some(word) = self.word(kind, self.side(), side)
            {
                word.store(handle, core::sync::atomic::Ordering::Release);
            }
        }
        Ok(())
    }

    /// The handle, in the own table, of what `side` has given.
    fn given(&self, kind: Kind, side: usize) -> Option<Handle> {
        let word = self.word(kind, side, self.side())?;
        match word.load(core::sync::atomic::Ordering::Acquire) {
            0 => None,
            word => Handle::from_word(word).ok(),
        }
    }

    fn word(&self, kind: Kind, of: usize, to: usize) -> Option<&'static AtomicU64> {
        let is_side = of < MAX_SIDES && to < MAX_SIDES;
        is_side.then(|| &self.words[(kind as usize * MAX_SIDES + of) * MAX_SIDES + to])
    }
}
