//! The program's time slots: lent to each crew, and taken back.
//!
//! An environment can give slots to those it controls only, and not take any for
//! itself. So what is lent comes from, and returns to, an environment that never
//! runs. What a child gives away to one of its own is lost when that is destroyed;
//! when too little is left, the maker gives away its own slices.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{EnvId, Error, Handle, SystemInfo};
use libos::sys;
use selftest::child::Maker;

use crate::place::CREW;

/// Of so many slots the maker keeps one.
const KEPT: usize = 4;

/// Slots to lend.
pub(crate) struct Slots {
    system: &'static SystemInfo,
    keeper: (Handle, EnvId),
    lent: Vec<u32>,
}

impl Slots {
    /// Sets slots of `id`, the caller, aside.
    pub(crate) fn new(
        maker: &Maker,
        system: &'static SystemInfo,
        id: EnvId,
    ) -> Result<Self, Error> {
        let keeper = maker.bare()?;
        let named = (keeper.env, keeper.id);
        // Kept as long as the program lives.
        core::mem::forget(keeper);
        let mut slots = Self { system, keeper: named, lent: Vec::new() };
        let own = (0..system.slots.owners.len() as u32).filter(|slot| slots.owner(*slot) == id);
        let own: Vec<u32> = own.collect();
        for (index, slot) in own.into_iter().enumerate() {
            if index % KEPT != 0 {
                sys::slots_assign(SELF, slot, 1, named.0)?;
                slots.lent.push(slot);
            }
        }
        Ok(slots)
    }

    fn owner(&self, slot: u32) -> EnvId {
        let owners = &self.system.slots.owners;
        EnvId(owners.get(slot as usize).map_or(0, |owner| owner.load(Relaxed)))
    }

    /// Spreads them over the crew. Returns how many there were.
    pub(crate) fn lend(&self, crew: &[(Handle, EnvId); CREW]) -> Result<usize, Error> {
        let left = self.lent.iter().filter(|slot| self.owner(**slot) == self.keeper.1);
        let mut count = 0;
        for (slot, (env, _)) in left.zip(crew.iter().cycle()) {
            sys::slots_assign(self.keeper.0, *slot, 1, *env)?;
            count += 1;
        }
        Ok(count)
    }

    /// Takes back what the crew still has, or only one of it.
    pub(crate) fn take_back(&self, crew: &[(Handle, EnvId); CREW], only: Option<Handle>) {
        for slot in &self.lent {
            let owner = self.owner(*slot);
            if let Some((env, _)) = crew.iter().find(|(_, id)| *id == owner)
                && only.is_none_or(|only| only == *env)
            {
                // Refused if it was given away, or its owner destroyed, just now.
                let _ = sys::slots_assign(*env, *slot, 1, self.keeper.0);
            }
        }
    }
}
