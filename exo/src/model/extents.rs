//! Extents: which environment has a ring to which sectors.
//!
//! What the device does with requests is not here: nothing is put into the rings.

use exo_abi::{Error, Rights};

use super::request::{Answer, Reasons};
use super::world::{BindingName, CapName, DiskBinding, EnvName, Frame, Thing, World};
use crate::testing::DISK_SECTORS;

/// Sectors of the disk.
pub(super) const SECTORS: u32 = DISK_SECTORS;

impl World {
    pub(super) fn disk_bind(
        &mut self,
        by: EnvName,
        disk: CapName,
        ring: Frame,
        object: Frame,
    ) -> Answer {
        let mut why = Reasons::default();
        let cap = self.find(by, disk, Rights::NONE, &mut why);
        why.when(cap.is_some_and(|cap| !matches!(cap.thing, Thing::Disk(..))), Error::BadHandle);
        why.when(self.is_full(by), Error::TableFull);
        why.when(self.is_deep(disk), Error::TooMuch);
        self.check_donation(object, by, &mut why);
        why.when(ring == object, Error::BadArgument);
        why.when(!self.is_memory_of(ring, by), Error::NotOwned);
        let Some(cap) = cap else { return Err(why) };
        why.none()?;
        let name = BindingName(self.fresh());
        self.disk_bindings.insert(name, DiskBinding { owner: by, object, ring });
        // As much as the extent allows, and it cannot be granted.
        let rights = cap.rights.only(Rights::READ.with(Rights::WRITE)).with(Rights::SYNC);
        Ok(Some(self.hold(by, Thing::DiskBinding(name), rights, Some(disk))))
    }

    /// It needs no capability: what the binding is made of is the owner's.
    pub(super) fn disk_unbind(&mut self, by: EnvName, object: Frame) -> Answer {
        let mine = |binding: &DiskBinding| binding.object == object && binding.owner == by;
        if !self.disk_bindings.values().any(mine) {
            return Err(Error::NotOwned.into());
        }
        self.disk_bindings.retain(|_, binding| !mine(binding));
        Ok(None)
    }
}
