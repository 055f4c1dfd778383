//! Visiting a domain: the call, and what a serving function finds.

use core::arch::asm;
use core::num::NonZeroUsize;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{Error, USER_TOP};

use super::domain::{Board, Ticket};
use super::lock::Number;
use super::shared::Shared;
use super::{Answer, BOARD, CONSENT, GATE, JOIN, Mapped, SCRATCH, TICKET};
use crate::environment::space;
use crate::memory::layout::DOMAIN;
use crate::memory::shared::SharedBytes;
use crate::share::Share;
use crate::sys;
use crate::transfer::Message;

/// The way into the domain that this environment can visit.
#[derive(Debug)]
pub struct Gate(());

/// What a visitor gives besides words and bytes to read.
#[derive(Debug)]
pub enum Value<'a> {
    /// Bytes to be read.
    Read(&'a [u8]),
    /// Room for bytes to be written.
    Write(&'a mut [u8]),
}

impl Gate {
    /// Becomes a visitor of the domain of `side`, which serves [`JOIN`] at its entry point. That
    /// is trusted with all that this environment has from now on. `None` if it has no domain, or this
    /// environment does not take part in keys.
    ///
    /// **Cost** a protected call for some pages of the domain each.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::NotFree`] if there are no frames for page tables.
    pub fn join(share: &Share, side: usize) -> Result<Option<Self>, Error> {
        let Some(owner) = share.remote::<Message, Message>(side) else { return Ok(None) };
        let consent = share.introduce(side, CONSENT)?;
        let mut tables = 0;
        loop {
            match owner.call([JOIN, consent, 0, 0, 0, 0]).map(|reply| Mapped::unpack(&reply)) {
                Ok(Some(Mapped::All)) => return Ok(Some(Self(()))),
                Ok(Some(Mapped::Left(_))) => {}
                // (For as many gibibytes as there may be.)
                Ok(Some(Mapped::NoTable(at))) if tables < 40_000 => {
                    space::install(SELF, at, &mut space::own_frame)?;
                    tables += 1;
                }
                Ok(Some(Mapped::Later)) | Err(Error::Busy) => drop(sys::slice_yield()?),
                Ok(_) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Visits: the owner's function runs, and answers.
    #[inline]
    pub fn visit(&mut self, words: [u64; 3], bytes: &[u8], value: Value<'_>) -> Answer {
        let (at, len) = match value {
            Value::Read(bytes) => (bytes.as_ptr().cast_mut(), bytes.len()),
            Value::Write(room) => (room.as_mut_ptr(), room.len()),
        };
        let lens = bytes.len().min(u32::MAX as usize) | len.min(u32::MAX as usize) << 32;
        let (first, second);
        // SAFETY: the gate keeps what a function keeps; the function behind it, which is trusted, reads and
        // writes no other memory of this environment than what it is given here.
        unsafe {
            asm!(
                "call {gate}",
                gate = in(reg) GATE.get(),
                inlateout("rdi") words[0] => first,
                inlateout("rsi") words[1] => second,
                in("r10") words[2],
                in("r11") bytes.as_ptr(),
                in("r8") at,
                in("r9") lens,
                clobber_abi("C"),
            );
        }
        Answer(first, second)
    }
}

/// What a serving function finds: everything else that it may use are its arguments.
#[derive(Debug)]
pub struct Inside {
    /// Which visitor it is.
    pub number: Number,
    /// Memory that this visit uses alone. It holds what earlier visits left.
    pub scratch: &'static mut [u8],
}

impl Inside {
    /// The visit that runs.
    ///
    /// # Safety
    /// Only at the beginning of a serving function, once.
    #[must_use]
    #[inline]
    pub unsafe fn here() -> Self {
        let ticket = core::ptr::with_exposed_provenance::<Ticket>(TICKET.get() as usize);
        // SAFETY: behind the gate it is mapped, and its owner has filled it; nothing changes it.
        let ticket = unsafe { &*ticket };
        let first = core::ptr::with_exposed_provenance_mut(SCRATCH.get() as usize);
        let bytes = ticket.scratch.load(Relaxed);
        // SAFETY: so many pages are mapped there behind the key, and an environment is in one visit
        // at a time.
        let scratch = unsafe { core::slice::from_raw_parts_mut(first, bytes) };
        Self { number: Number(ticket.number.load(Relaxed)), scratch }
    }

    /// What all share. `None` if the owner has not opened yet.
    ///
    /// # Safety
    /// It must be a `T`.
    #[must_use]
    #[inline]
    pub unsafe fn shared<T>(&self) -> Option<Shared<T>> {
        // SAFETY: as for the ticket.
        let board = unsafe { &*core::ptr::with_exposed_provenance::<Board>(BOARD.get() as usize) };
        let address = NonZeroUsize::new(board.shared.load(Relaxed))?;
        // SAFETY: what the owner has published, of the type that the caller vouches for.
        Some(unsafe { Shared::at(address, self.number) })
    }

    /// The visitor's memory at `at`. `None` if any of it is the domain's. If it is not mapped, or not so,
    /// using it ends the visitor.
    ///
    /// # Safety
    /// Nothing else may refer to it while it is used: it is the visitor's, whose other code rests.
    #[must_use]
    #[inline]
    pub unsafe fn foreign(at: u64, len: u32) -> Option<SharedBytes<'static>> {
        let end = at.checked_add(len.into())?;
        if end > USER_TOP || (at < DOMAIN.end && end > DOMAIN.start.get()) {
            return None;
        }
        let first = core::ptr::with_exposed_provenance_mut(at as usize);
        // SAFETY: as this function's; it may be changed by others that map it, which this type allows.
        Some(unsafe { SharedBytes::from_raw(first, len as usize) })
    }
}
