//! A child from an image.

use alloc::string::String;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{EnvId, EnvState, EnvStatus, Error, Handle, Pages, Rights, SystemInfo, Word};
use exo_bundle::Bundle;

use super::{Builder, PARTS};
use crate::memory::guest::Memory;
use crate::memory::layout::PROGRAMS;
use crate::memory::{BATCH, MemoryError, Range};
use crate::runtime::Environment;
use crate::sched::Park;
use crate::start::StartBlock;
use crate::sys;

/// What to make of an image.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// One of `images` in the manifest.
    pub image: &'a str,
    /// What the child is called on the console: at most 16 bytes.
    pub name: &'a str,
    /// Page frames that it may take, those for program, stack and page tables included. They are
    /// the maker's, in one run, and no more used by it while the child is there.
    pub frames: Pages,
    /// Of the maker's time slots.
    pub slots: u32,
    /// Found by `environment.argument`.
    pub arguments: &'a [&'a str],
}

/// Why there is no child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnError {
    /// The manifest grants no image of that name.
    NoImage,
    /// So many frames are not free in one run.
    OutOfFrames,
    /// The maker has not so many slots beside one for itself.
    OutOfSlots,
    /// Name and arguments are too long.
    TooLong,
    /// The kernel's refusal; [`Error::OutOfRange`] if the child's frames do not suffice for its program.
    Refused(Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImage => f.write_str("no such image: see `images` in the manifest"),
            Self::OutOfFrames => f.write_str("not so many page frames in one run"),
            Self::OutOfSlots => f.write_str("not so many time slots"),
            Self::TooLong => f.write_str("name or arguments are too long"),
            Self::Refused(Error::OutOfRange) => f.write_str("too few page frames for the program"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for SpawnError {}

impl From<Error> for SpawnError {
    fn from(error: Error) -> Self {
        match error {
            Error::TooMuch => Self::TooLong,
            error => Self::Refused(error),
        }
    }
}

/// A child. It ends with this.
pub struct Child {
    env: Handle,
    range: Range,
    memory: Memory,
    system: &'static SystemInfo,
    /// Capabilities that were derived for it.
    derived: [Option<Handle>; 2],
}

impl Environment {
    /// Makes a child and lets it run.
    ///
    /// **Cost** two crossings for each 64 pages of the program, and some for each capability.
    ///
    /// # Errors
    /// [`SpawnError`]; nothing is left of it then.
    pub fn spawn(&self, program: &Program<'_>) -> Result<Child, SpawnError> {
        let images = self.programs().ok_or(SpawnError::NoImage)?;
        let image = images.image(program.image).ok_or(SpawnError::NoImage)?;
        let memory = self.memory;
        let range = memory
            .set_aside(self.frame_table, program.frames)
            .map_err(|_: MemoryError| SpawnError::OutOfFrames)?;
        let window = memory.reserve(BATCH).map_err(|_| SpawnError::OutOfFrames);
        let made = window.and_then(|window| Ok(Builder::new(self.start.frames, range, window)?));
        let builder = made.inspect_err(|_| memory.take_back(range))?;
        // From here on what was made is destroyed with the child.
        let mut child =
            Child { env: builder.env(), range, memory, system: self.system, derived: [None; 2] };
        builder.load(&image)?;
        let (first, count) = (u64::from(range.first.0), u64::from(range.count));
        let rights = Rights::TAKE.with(Rights::GRANT);
        let frames = child.give(0, self.start.frames, rights, first, count)?;
        let console = self
            .start
            .console
            .map(|console| child.give(1, console, Rights::PRINT.with(Rights::GRANT), 0, 0));
        let arguments: String = program.arguments.join("\0");
        builder.tell(&StartBlock {
            name: program.name,
            frames,
            first_frame: range.first,
            frame_count: range.count,
            console: console.transpose()?,
            net: None,
            machine: None,
            disk: None,
            elevation: None,
            key: None,
            address: None,
            arguments: &arguments,
            shares: &[],
            programs: 0,
            ..self.start
        })?;
        self.give_slots(program.slots, &child)?;
        builder.start(image.entry)?;
        Ok(child)
    }

    /// The images that the manifest grants.
    fn programs(&self) -> Option<Bundle<'static>> {
        let bytes = usize::try_from(self.start.programs).ok().filter(|&bytes| bytes > 0)?;
        let first = core::ptr::with_exposed_provenance(PROGRAMS.start.get() as usize);
        // SAFETY: the creator, which has written the start block, mapped so many bytes there, read-only
        // and for good, and nothing writes to them.
        Bundle::parse(unsafe { core::slice::from_raw_parts(first, bytes) }).ok()
    }

    /// Gives `child` so many of the own slots.
    fn give_slots(&self, count: u32, child: &Child) -> Result<(), SpawnError> {
        let own = slots_of(self.system, self.id);
        let left = own.clone().count() as u32;
        if count == 0 || left <= count {
            return Err(SpawnError::OutOfSlots);
        }
        // Spread over the own ones, so that neither waits long for the other.
        let step = (left / count).max(1) as usize;
        for slot in own.step_by(step).take(count as usize) {
            sys::slots_assign(SELF, slot, 1, child.env)?;
        }
        Ok(())
    }
}

/// The slots that an environment owns, of all processors.
fn slots_of(system: &SystemInfo, id: EnvId) -> impl Iterator<Item = u32> + Clone {
    let owners = (0_u32..).zip(&system.slots.owners);
    owners.filter(move |(_, owner)| owner.load(Relaxed) == id.0).map(|(slot, _)| slot)
}

impl Child {
    /// Its number, as in the frame table.
    #[must_use]
    pub fn id(&self) -> EnvId {
        EnvId(self.range.first.plus(self.range.count - PARTS).0)
    }

    /// The frames that it has and may take.
    #[must_use]
    pub fn frames(&self) -> Range {
        self.range
    }

    /// How it fares.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn status(&self) -> Result<EnvStatus, Error> {
        super::status(self.env)
    }

    /// Sleeps until it has ended, and says how.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn wait(&mut self, park: &mut impl Park) -> Result<EnvStatus, Error> {
        loop {
            let seen = park.seen();
            let status = self.status()?;
            let state = EnvState::from_u32(status.state);
            if matches!(state, Some(EnvState::Exited | EnvState::Faulted)) {
                return Ok(status);
            }
            park.park(seen, None);
        }
    }

    /// The capability of it: to grant it others, or to have its slots changed.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.env
    }

    /// Puts a narrowed `source` into its table; it is kept as number `index` of those to be dropped.
    fn give(
        &mut self,
        index: usize,
        source: Handle,
        rights: Rights,
        first: u64,
        count: u64,
    ) -> Result<Handle, Error> {
        let narrowed = Handle::from_word(sys::cap_derive(source, rights, first, count)?)?;
        self.derived[index] = Some(narrowed);
        Handle::from_word(sys::cap_grant(narrowed, self.env)?)
    }
}

impl Drop for Child {
    /// Destroys it, and all that it made; its frames and slots are the maker's again.
    fn drop(&mut self) {
        for slot in slots_of(self.system, self.id()) {
            let _ = sys::slots_assign(self.env, slot, 1, SELF);
        }
        while sys::env_destroy(self.env) == Err(Error::Again) {}
        let _ = sys::cap_drop(self.env);
        for handle in self.derived.into_iter().flatten() {
            let _ = sys::cap_drop(handle);
        }
        self.memory.take_back(self.range);
    }
}
