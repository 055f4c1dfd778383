//! A domain, as its owner makes it and has others map it.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use exo_abi::boot::SELF;
use exo_abi::{
    EnvState, Error, FRAME_BYTES, FrameKind, Handle, Pages, Pfn, Protection, VirtAddr, Word,
};

use super::lock::Number;
use super::shared::Shared;
use super::{BOARD, GATE, JOIN, MEMORY, MOST_SCRATCH, Mapped, STACK, STACK_PAGES, Serve, page};
use crate::environment;
use crate::memory::layout::{IMAGE, Window};
use crate::memory::{MemoryError, Range};
use crate::runtime::Environment;
use crate::sys;
use crate::transfer::Message;

/// Pages that are mapped for a visitor in one step.
const STEP: Pages = 32;

/// What visitors find on the board.
#[repr(C)]
pub(super) struct Board {
    /// Where the value is that all share, or zero.
    pub(super) shared: AtomicUsize,
}

/// What a visitor finds on its ticket.
#[repr(C)]
pub(super) struct Ticket {
    /// Its number.
    pub(super) number: AtomicU64,
    /// Bytes of its scratch memory.
    pub(super) scratch: AtomicUsize,
}

/// Memory and code for visitors.
pub struct Domain {
    key: u32,
    image: Range,
    gate: Pfn,
    board: (&'static Board, Pfn),
    memory: Range,
    visitors: Vec<Visitor>,
}

/// Room for one visitor at a time.
#[derive(Clone, Copy)]
struct Visitor {
    /// The environment that has it.
    env: Option<Handle>,
    /// Frames of stack, ticket and scratch memory.
    parts: Range,
    /// Pages that are mapped for it.
    done: Pages,
}

/// A run of pages of the domain.
#[derive(Clone, Copy)]
struct Part {
    first: Pfn,
    at: VirtAddr,
    count: Pages,
    protection: Protection,
    keyed: bool,
}

impl Domain {
    /// A domain with `memory` pages for all and places for `visitors`, each with `scratch` pages of its own;
    /// and the memory. `serve` stands behind the gate.
    ///
    /// `None` if processors have no keys, the manifest grants none ("keys"), or the program is not linked
    /// for it.
    ///
    /// # Errors
    /// [`MemoryError`].
    ///
    /// # Safety
    /// `serve` may be called by visitors with anything, at any time, on several processors at once. It
    /// must use no statics that can be written, no system calls and no heap.
    pub unsafe fn new(
        environment: &Environment,
        (memory, scratch, visitors): (Pages, Pages, u32),
        serve: Serve,
    ) -> Result<Option<(Self, &'static mut [u8])>, MemoryError> {
        let Some((keys, key)) = environment.start.key else { return Ok(None) };
        let Some(image) = admitted(environment) else { return Ok(None) };
        let own = environment.memory;
        let scratch = scratch.min(MOST_SCRATCH);
        let gate = page::code(key, super::TICKET.get(), serve as usize as u64);
        let gate = own.admit_code(&gate, keys)?;
        let end = BOARD.get() + FRAME_BYTES;
        let (board, board_frame) = own.map_at(Window { start: BOARD, end }, 1)?;
        // SAFETY: a page, read and write, for good; all of it is used as atomics.
        let board = unsafe { &*board.as_ptr().cast::<Board>() };
        let mut places = Vec::new();
        for number in 1..=u64::from(visitors) {
            let count = STACK_PAGES + 1 + scratch;
            let (bytes, first) = own.map_device_run(count)?;
            let ticket = bytes.cast::<u8>().as_ptr();
            let ticket = ticket.wrapping_add((STACK_PAGES as u64 * FRAME_BYTES) as usize);
            // SAFETY: within the pages just mapped, and all of it atomics.
            let ticket = unsafe { &*ticket.cast::<Ticket>() };
            ticket.number.store(number, Relaxed);
            ticket.scratch.store(scratch as usize * FRAME_BYTES as usize, Relaxed);
            places.push(Visitor { env: None, parts: Range { first, count }, done: 0 });
        }
        let (bytes, first) = own.map_at(MEMORY, memory)?;
        let memory = Range { first, count: memory };
        let board = (board, board_frame);
        Ok(Some((Self { key, image, gate, board, memory, visitors: places }, bytes)))
    }

    /// Tells visitors where the value is that all share.
    pub fn open<T>(&self, shared: &Shared<T>) {
        self.board.0.shared.store(shared.address().get(), Relaxed);
    }

    /// Serves a protected call of the visitor `number`, if that wants to join: the reply.
    pub fn join(&mut self, number: Number, message: &Message) -> Option<Message> {
        let [JOIN, env, ..] = *message else { return None };
        let mapped = Handle::from_word(env).and_then(|env| self.map_more(number, env));
        Some(Mapped::pack(mapped))
    }

    /// Maps some pages more for `env`, in place of the visitor `number`, if that has ended. No allocation.
    ///
    /// # Errors
    /// [`Error::Busy`] if the place is another's that has not ended; the kernel's refusal:
    /// [`Error::WrongState`] for an environment that takes no part in keys.
    fn map_more(&mut self, number: Number, env: Handle) -> Result<Mapped, Error> {
        let index = usize::try_from(number.0.wrapping_sub(1)).map_err(|_| Error::OutOfRange)?;
        let visitor = *self.visitors.get(index).ok_or(Error::OutOfRange)?;
        let mut visitor = match visitor.env {
            Some(other) if other == env => visitor,
            Some(other) if !has_ended(other) => return Err(Error::Busy),
            other => {
                if let Some(other) = other {
                    let _ = sys::cap_drop(other);
                }
                Visitor { env: Some(env), done: 0, ..visitor }
            }
        };
        let mapped = self.step(&mut visitor, env);
        if visitor.done == 0 && mapped.is_err() {
            // It has not come to be one.
            visitor.env = None;
        }
        if let Some(place) = self.visitors.get_mut(index) {
            *place = visitor;
        }
        mapped
    }

    fn step(&self, visitor: &mut Visitor, env: Handle) -> Result<Mapped, Error> {
        let parts = self.parts(visitor);
        let all: Pages = parts.iter().map(|part| part.count).sum();
        for _ in 0..STEP.min(all - visitor.done) {
            let mut rest = visitor.done;
            let part = parts.iter().find(|part| {
                let within = rest < part.count;
                rest -= if within { 0 } else { part.count };
                within
            });
            let part = part.ok_or(Error::OutOfRange)?;
            let (frame, at) = (part.first.plus(rest), part.at.plus(rest));
            let at = at.ok_or(Error::BadAddress)?;
            let mapped = if part.keyed {
                sys::map_keyed(env, SELF, frame, at, part.protection, self.key)
            } else {
                sys::map(env, SELF, frame, at, 1, part.protection)
            };
            match mapped {
                Ok(_) => visitor.done += 1,
                Err(Error::NoTable) => return Ok(Mapped::NoTable(at)),
                Err(error) => return Err(error),
            }
        }
        Ok(if visitor.done == all { Mapped::All } else { Mapped::Left(all - visitor.done) })
    }

    /// All that is mapped for a visitor. First something that only those have that take part in keys; the
    /// gate comes last: without it nothing of the rest is of use.
    fn parts(&self, visitor: &Visitor) -> [Part; 5] {
        let keyed = |Range { first, count }: Range, at| {
            let protection = Protection::ReadWrite;
            Part { first, at, count, protection, keyed: true }
        };
        let code = |Range { first, count }: Range, at| {
            let protection = Protection::ReadExecute;
            Part { first, at, count, protection, keyed: false }
        };
        let one = |first| Range { first, count: 1 };
        [
            keyed(one(self.board.1), BOARD),
            code(self.image, IMAGE.start),
            keyed(visitor.parts, STACK),
            keyed(self.memory, MEMORY.start),
            code(one(self.gate), GATE),
        ]
    }

    /// Gives the visitor `number` the rest of this slice. Whether it has ended: then it got none.
    pub fn wait_for(&self, number: Number) -> bool {
        let place = usize::try_from(number.0.wrapping_sub(1)).ok();
        let visitor = place.and_then(|place| self.visitors.get(place));
        let Some(env) = visitor.and_then(|visitor| visitor.env) else { return true };
        if has_ended(env) {
            return true;
        }
        // It may run already, on another processor.
        if sys::slice_donate(env).is_err() {
            let _ = sys::slice_yield();
        }
        false
    }
}

/// Whether `env` runs no more.
fn has_ended(env: Handle) -> bool {
    match environment::status(env) {
        Err(error) => error == Error::BadHandle,
        Ok(status) => matches!(
            EnvState::from_u32(status.state),
            Some(EnvState::Exited | EnvState::Faulted | EnvState::Dying)
        ),
    }
}

/// The frames of the own code, if it is admitted and lies where that of domains does.
fn admitted(environment: &Environment) -> Option<Range> {
    let here = admitted as *const () as usize as u64;
    if !(IMAGE.start.get()..IMAGE.end).contains(&here) {
        return None;
    }
    let (start, own) = (environment.start, environment.id.0);
    let frames = start.first_frame.0..start.first_frame.0 + start.frame_count;
    let is_code = |frame: &u32| {
        environment.frame_table.get(*frame as usize).is_some_and(|info| {
            info.kind.load(Relaxed) == FrameKind::Text as u8 && info.owner.load(Relaxed) == own
        })
    };
    // Root has taken them in one run.
    let first = frames.clone().find(is_code)?;
    let count = (first..frames.end).take_while(is_code).count() as Pages;
    Some(Range { first: Pfn(first), count })
}
