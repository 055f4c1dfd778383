//! Environments: an address space, capabilities and a processor state, in one
//! donated frame.
//!
//! The kernel knows no more of an environment than protection needs. Its
//! number is the frame its object lies in; there is no table of environments
//! that could fill up.

use core::cell::Cell;
use core::mem::offset_of;

use exo_abi::{
    EnvId, EnvState, EnvStatus, Error, FrameKind, Handle, MAX_CORES, Pfn, Rights, UArea,
};

use super::context::{Context, VectorState};
use super::elevated::Elevated;
use super::transfer::Transfer;
use crate::capability::{self, BADGE_END, CapRef, CapSpace, Kind, Object, Slot};
use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// The stages of a destruction, in order. Stage and position are kept in the environment, so
/// that the caller may stop and resume between any two steps.
pub(crate) mod stage {
    pub(crate) const STOP: u32 = 0;
    pub(crate) const LEAVE: u32 = 1;
    pub(crate) const GATE: u32 = 2;
    pub(crate) const PAGE_TABLES: u32 = 3;
    pub(crate) const CHILDREN: u32 = 4;
    pub(crate) const SILENCED: u32 = 5;
    pub(crate) const BINDINGS: u32 = 6;
    pub(crate) const SCOPES: u32 = 7;
    pub(crate) const CAPABILITIES: u32 = 8;
    pub(crate) const CHECK: u32 = 9;
    pub(crate) const FRAMES: u32 = 10;
}

/// An environment.
#[repr(C)]
pub struct Env {
    /// What it may do. First, so that the space can be found from its owner's number.
    pub capabilities: CapSpace,
    /// Saved registers of its two activities, while another environment runs: what
    /// it does otherwise, and what a transfer began.
    saved: [Cell<Context>; 2],
    vectors: [VectorState; 2],
    /// Root page table.
    pub root_table: Cell<Pfn>,
    /// The U-area's frame.
    pub u_area: Cell<Pfn>,
    pub(crate) area: Cell<Option<&'static UArea>>,
    /// Badges put into its event ring so far.
    pub(crate) rung: Cell<u32>,
    /// Events so far; the U-area shows a copy.
    pub events: Cell<u64>,
    /// When a sleeping environment wakes without an event, or zero.
    pub deadline: Cell<u64>,
    state: Cell<EnvState>,
    /// Upcalls to be made when it runs next, as bits.
    pub pending: Cell<u32>,
    /// Ticks of the time-stamp counter that it took and was not given: for each slice of
    /// them it loses a slot.
    pub debt: Cell<u64>,
    /// What protected control transfers are about.
    pub(crate) transfer: Transfer,
    /// What it sleeps for, other than an event.
    pub predicate: Predicate,
    /// A frame that is being taken from it, or zero, and where the search for mappings of that
    /// goes on.
    pub(crate) taking: Cell<(Pfn, u32)>,
    /// Whether its code runs in ring 0.
    pub elevated: Elevated,
    /// The key register while it does not run; zero: it takes no part in protection keys.
    pub keys: Cell<u32>,
    /// Cause of death.
    pub(crate) ended: Cell<EnvStatus>,
    /// The environment that is told when this one ends, and with which it is destroyed.
    pub creator: Cell<EnvId>,
    /// First of the environments it created; of those among them that map
    /// nothing any more because they are being destroyed with it; and this one's
    /// place in its creator's lists. Frame 0 ends a list.
    pub(crate) children: Cell<Pfn>,
    pub(crate) silenced: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
    /// First of the bindings it owns.
    pub bindings: Cell<Pfn>,
    /// The same for its disk bindings.
    pub disk_bindings: Cell<Pfn>,
    /// For each processor one bit for each of its slots that the environment owns.
    pub slots: [Cell<u64>; MAX_CORES],
    /// The processor it ran on last.
    pub core: Cell<u32>,
    /// How far destruction has come: [`stage`] and position.
    pub(crate) destruction: Cell<(u32, u32)>,
    pub(crate) id: Cell<u32>,
}

const _: () = assert!(offset_of!(Env, capabilities) == 0);

// SAFETY: repr(C), within a frame (checked by `object::create`), zero is a
// valid value of every field (`Pfn`, integers, `CapRef::NONE`, `EnvState::New`, no
// reference, a `dpf::Filter` of no atoms, which is numbers too), and all fields are cells or made
// of them.
unsafe impl KernelObject for Env {
    const KIND: FrameKind = FrameKind::Env;
}

impl Env {
    /// The environment's number.
    pub fn id(&self) -> EnvId {
        EnvId(self.id.get())
    }

    /// What it is doing.
    #[inline]
    pub fn state(&self) -> EnvState {
        self.state.get()
    }

    /// Changes what it is doing. The schedule must be told: see `slots::set_state`.
    #[inline]
    pub(crate) fn set_state(&self, state: EnvState) {
        self.state.set(state);
    }

    /// What it is doing, and why it ended if it did.
    pub fn status(&self) -> EnvStatus {
        EnvStatus { state: self.state.get() as u32, ..self.ended.get() }
    }

    /// The saved registers of the activity that runs when the environment does.
    #[inline]
    pub fn context(&self) -> &Cell<Context> {
        &self.saved[usize::from(self.transfer.serving())]
    }

    /// Its vector registers.
    #[inline]
    pub fn vectors(&self) -> &VectorState {
        &self.vectors[usize::from(self.transfer.serving())]
    }

    /// Whether its slots are worth a look: it can run, or waits for one that may,
    /// or for a condition that may hold.
    #[inline]
    pub fn may_run(&self) -> bool {
        match self.state() {
            EnvState::Ready | EnvState::Calling => true,
            EnvState::Waiting => self.predicate.is_set(),
            _ => false,
        }
    }

    /// The live capability behind a handle, if it has `needed` rights. One for an object or
    /// an entry that is gone is stale.
    ///
    /// # Errors
    /// [`Error::BadHandle`], [`Error::NoRight`].
    pub fn lookup(
        &self,
        frames: &FrameTable,
        handle: Handle,
        needed: Rights,
    ) -> Result<(CapRef, &'static Slot), Error> {
        let (place, slot) = capability::occupied(frames, &self.capabilities, handle)?;
        if is_gone(frames, slot.object()) {
            return Err(Error::BadHandle);
        }
        if slot.rights().allows(needed) { Ok((place, slot)) } else { Err(Error::NoRight) }
    }

    /// Its U-area, as long as it can run. Its owner may write it at any time, but all that
    /// the kernel looks at are atomics.
    #[inline]
    pub fn area(&self) -> Option<&'static UArea> {
        self.area.get()
    }
}

/// Whether what a capability names is gone: its object, or for an entry that life of it.
pub fn is_gone(frames: &FrameTable, named: Object) -> bool {
    let entry = || {
        let env: &Env = object::get_live(frames, Pfn(named.first), named.extent)?;
        env.transfer.entry(named.badge / BADGE_END, named.life)
    };
    named.is_stale(frames) || named.kind == Kind::Entry && entry().is_none()
}

/// What a sleeping environment waits for.
#[repr(C)]
pub struct Predicate {
    pub(crate) filter: Cell<dpf::Filter>,
    /// One more than the address of what it is tried on; zero: there is none.
    pub(crate) memory: Cell<u64>,
    /// The decision in which it was looked at last.
    pub(crate) tried: Cell<u64>,
}

impl Predicate {
    /// Whether there is one.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.memory.get() != 0
    }

    /// Takes it away.
    #[inline]
    pub fn clear(&self) {
        self.memory.set(0);
    }
}
