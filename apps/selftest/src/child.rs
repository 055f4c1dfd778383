//! Environments made of the program's own code, to try in them what ends an
//! environment, or what takes a second one.
//!
//! A child has the program's text and read-only data (the very same frames), a
//! stack, and nothing else: no heap, no statics that can be written, no console.
//! What it runs must do without. It gets one of the program's own time slots, which
//! is parked with an environment that never runs while there is no child.

use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::boot::{SELF, STACK_TOP, U_AREA};
use exo_abi::{
    EnvId, EnvState, EnvStatus, Error, FrameKind, Handle, Pfn, Protection, SystemInfo, UArea,
    UserPtr, VirtAddr, Word,
};
pub use libos::environment::status;
use libos::runtime::Environment;
use libos::sys;

use crate::frames::Frames;
use crate::tables::{Page, Tables};

/// Where applications begin (`apps/app.ld`).
const IMAGE: u64 = 0x40_0000;
/// Most pages of text and read-only data.
const IMAGE_PAGES: u32 = 4096;
/// Pages of a child's stack.
const STACK_PAGES: u32 = 4;
/// Where a child finds the page it shares with its maker.
pub const SHARED: VirtAddr = match VirtAddr::new(0x2100_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};

/// What a child runs. It must not return, and must not touch statics.
pub type Code = extern "C" fn(u64) -> !;

/// Makes children.
pub struct Maker {
    /// The program's frames.
    pub frames: Frames,
    /// The program's page tables.
    pub tables: Tables,
    /// Text and read-only data of the program.
    image: Vec<Page>,
    /// The slot that children run in, and the environment that keeps it meanwhile.
    slot: u32,
    keeper: Cell<Option<Handle>>,
    system: &'static SystemInfo,
    u_area: &'static UArea,
}

/// An environment that was made.
pub struct Child<'a> {
    maker: &'a Maker,
    /// The handle, with every right.
    pub env: Handle,
    /// Its id.
    pub id: EnvId,
    /// The four frames it was made of: object, root table, capabilities, U-area.
    pub parts: Pfn,
    destroyed: bool,
}

impl Maker {
    /// Looks at the own image and sets one of the own slots aside.
    ///
    /// # Errors
    /// What the kernel refuses; [`Error::OutOfRange`] for a program without a slot.
    pub fn new(environment: &Environment) -> Result<Self, Error> {
        let frames = Frames::of(environment);
        let tables = Tables::of(frames, environment.id).ok_or(Error::NoTable)?;
        let mut image = Vec::new();
        for index in 0..IMAGE_PAGES {
            let at = VirtAddr::new(IMAGE).and_then(|at| at.plus(index)).ok_or(Error::BadAddress)?;
            match tables.page(at)? {
                Some(page) if page.protection != Protection::ReadWrite => image.push(page),
                _ => break,
            }
        }
        let system = environment.system;
        let owners = system.slots.owners.iter();
        let (slot, _) = (0..)
            .zip(owners)
            .find(|(_, owner)| owner.load(Relaxed) == environment.id.0)
            .ok_or(Error::OutOfRange)?;
        // SAFETY: the creator mapped the U-area here for good (`app!` relies on
        // it, too); only its atomics are used.
        let u_area = unsafe { &*core::ptr::with_exposed_provenance::<UArea>(U_AREA as usize) };
        let maker = Self { frames, tables, image, slot, keeper: Cell::new(None), system, u_area };
        let keeper = maker.bare()?.keep();
        sys::slots_assign(SELF, slot, 1, keeper)?;
        maker.keeper.set(Some(keeper));
        Ok(maker)
    }

    /// Four frames made into an environment with nothing mapped.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn bare(&self) -> Result<Child<'_>, Error> {
        let parts = self.frames.take(SELF, 4)?;
        let env = sys::env_create(parts, parts.plus(1), parts.plus(2), parts.plus(3))?;
        Ok(Child {
            maker: self,
            env: Handle::from_word(env)?,
            id: EnvId(parts.0),
            parts,
            destroyed: false,
        })
    }

    /// An environment with the program's text, read-only data and a stack, and its
    /// U-area. It has no time yet.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn child(&self) -> Result<Child<'_>, Error> {
        let child = self.bare()?;
        for page in &self.image {
            self.frames.map((child.env, SELF), page.frame, page.at, 1, page.protection)?;
        }
        let stack = self.frames.take(child.env, STACK_PAGES)?;
        let base = VirtAddr::new(STACK_TOP - u64::from(STACK_PAGES) * exo_abi::FRAME_BYTES);
        let space = (child.env, child.env);
        let base = base.ok_or(Error::BadAddress)?;
        self.frames.map(space, stack, base, STACK_PAGES, Protection::ReadWrite)?;
        let u_area = VirtAddr::new(U_AREA).ok_or(Error::BadAddress)?;
        self.frames.map(space, child.parts.plus(3), u_area, 1, Protection::ReadWrite)?;
        Ok(child)
    }

    /// Makes a child, runs `code` in it, and destroys it. Returns how it ended;
    /// `None` if it still ran after `patience` ticks.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn try_out(
        &self,
        code: Code,
        argument: u64,
        patience: u64,
    ) -> Result<Option<EnvStatus>, Error> {
        let child = self.child()?;
        child.start(code, argument)?;
        let status = child.wait(patience)?;
        child.destroy()?;
        Ok(status)
    }

    /// The owner of the slot that children run in; none after the end of a child that was
    /// destroyed with it.
    pub fn slot_owner(&self) -> EnvId {
        let owner = self.system.slots.owners.get(self.slot as usize);
        EnvId(owner.map_or(0, |owner| owner.load(Relaxed)))
    }

    /// The environment that has the slot while there is no child.
    pub fn keeper(&self) -> Option<Handle> {
        self.keeper.get()
    }

    /// The slot that children run in.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Frees what the maker itself holds. The slot is lost: an environment cannot
    /// give time back to its creator.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn close(self) -> Result<(), Error> {
        match self.keeper.take() {
            Some(keeper) => destroy(keeper),
            None => Ok(()),
        }
    }
}

impl Child<'_> {
    /// Maps `frame`, the maker's own, at [`SHARED`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn share(&self, frame: Pfn) -> Result<(), Error> {
        self.share_at(frame, SHARED, Protection::ReadWrite)
    }

    /// Maps `frame`, the maker's own or a published one, at `at`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn share_at(&self, frame: Pfn, at: VirtAddr, protection: Protection) -> Result<(), Error> {
        self.maker.frames.map((self.env, SELF), frame, at, 1, protection)
    }

    /// Gives the child the slot, and lets it run.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn start(&self, code: Code, argument: u64) -> Result<(), Error> {
        let keeper = self.maker.keeper.get().ok_or(Error::WrongState)?;
        sys::slots_assign(keeper, self.maker.slot, 1, self.env)?;
        // As if called: the processor's calling convention wants the stack eight
        // off from a multiple of sixteen at the first instruction.
        let entry = UserPtr(code as usize as u64);
        sys::env_start(self.env, entry, UserPtr(STACK_TOP - 8), argument).map(drop)
    }

    /// How it fares.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn status(&self) -> Result<EnvStatus, Error> {
        status(self.env)
    }

    /// **Blocking** until it has ended, or `patience` ticks have passed: `None`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn wait(&self, patience: u64) -> Result<Option<EnvStatus>, Error> {
        let deadline = libos::time::timestamp().saturating_add(patience);
        loop {
            let seen = exo_abi::EventCount(self.maker.u_area.events.load(Acquire));
            let status = self.status()?;
            match EnvState::from_u32(status.state) {
                Some(EnvState::Exited | EnvState::Faulted) => return Ok(Some(status)),
                _ if libos::time::timestamp() >= deadline => return Ok(None),
                _ => drop(sys::wait(seen, deadline)?),
            }
        }
    }

    /// Its handle, for another environment to destroy it by.
    fn keep(mut self) -> Handle {
        self.destroyed = true;
        self.env
    }

    /// Drops its handle and leaves it running, if it does.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn abandon(mut self) -> Result<(), Error> {
        self.destroyed = true;
        until_done(|| sys::cap_drop(self.env)).map(drop)
    }

    /// Takes the slot back and the child apart.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn destroy(mut self) -> Result<(), Error> {
        self.destroyed = true;
        self.take_apart()
    }

    fn take_apart(&self) -> Result<(), Error> {
        if self.maker.slot_owner() == self.id {
            let keeper = self.maker.keeper.get().ok_or(Error::WrongState)?;
            sys::slots_assign(self.env, self.maker.slot, 1, keeper)?;
        }
        destroy(self.env)
    }

    /// Whether nothing is left of it in the frame table.
    pub fn is_gone(maker: &Maker, id: EnvId) -> bool {
        !maker.frames.all().any(|pfn| {
            maker
                .frames
                .look(pfn)
                .is_some_and(|(kind, owner)| owner == id && kind != FrameKind::Free)
        })
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        if !self.destroyed {
            // A check that drops a child early has something worse to report.
            let _ = self.take_apart();
        }
    }
}

/// Destroys `env` and drops its handle.
///
/// # Errors
/// The kernel's refusal.
pub fn destroy(env: Handle) -> Result<(), Error> {
    until_done(|| sys::env_destroy(env))?;
    until_done(|| sys::cap_drop(env))?;
    Ok(())
}

/// Repeats a call that is done in bounded steps.
///
/// # Errors
/// The kernel's refusal.
pub fn until_done(mut call: impl FnMut() -> Result<u64, Error>) -> Result<u64, Error> {
    loop {
        match call() {
            Err(Error::Again) => {}
            result => return result,
        }
    }
}

/// Ends the calling environment: how a child says what it found.
pub fn exit(code: u64) -> ! {
    loop {
        let _ = sys::exit(code);
    }
}
