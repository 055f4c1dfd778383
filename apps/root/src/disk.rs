//! The disk: its table of extents is root's, and so is what applications get of it.

use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, Handle, Rights, SystemInfo, UArea, Word, boot};
use libos::disk::{Blocking, Extent, Kernel, blocking};
use libos::memory::guest::Memory;
use libos::sched::KernelPark;
use libos::sys;
use root::extents::{RESERVED_BYTES, SECTOR, Table};
use root::manifest::DiskShare;

/// Sectors that are filled with zeros at a time: 16 MiB.
const ZEROES: u32 = 1 << 15;
/// Pages of the buffer through which root writes.
const BUFFER: u32 = 16;

/// The disk and its table.
pub(crate) struct Extents {
    table: Table,
    disk: Blocking<Kernel, KernelPark>,
}

impl Extents {
    /// Reads the table of the machine's disk, if there is a disk.
    pub(crate) fn open(
        u_area: &'static UArea,
        system: &SystemInfo,
    ) -> Result<Option<Self>, String> {
        let sectors = system.disk_sectors.load(Relaxed) as u32;
        if sectors == 0 {
            return Ok(None);
        }
        let whole = Extent { first: 0, sectors };
        let (memory, park) = (Memory::get(), KernelPark::new(u_area));
        let disk = blocking(memory, park, boot::DISK, whole, BUFFER);
        let mut disk = disk.map_err(|error| format!("the disk cannot be bound: {error}"))?;
        let mut area = [0; RESERVED_BYTES];
        disk.read(0, &mut area).map_err(|error| format!("the disk cannot be read: {error}"))?;
        let (table, _) = Table::read(&area, sectors)
            .map_err(|problem| format!("{problem} (cargo exo disk check FILE)"))?;
        Ok(Some(Self { table, disk }))
    }

    /// The extent that an application is to have: a capability for it, and where it lies. It is in
    /// the table then.
    pub(crate) fn claim(&mut self, share: &DiskShare) -> Result<(Handle, Extent), String> {
        let claim = self.table.claim(&share.name, share.sectors);
        let claim = claim.map_err(|refusal| self.explain(share, &refusal.to_string()))?;
        let (first, sectors) = (claim.extent.first, claim.extent.sectors);
        if !claim.fresh.is_empty() {
            let written = self.clear(claim.fresh).and_then(|()| self.write_table());
            written.map_err(|error| self.explain(share, &error.to_string()))?;
        }
        let rights = Rights::READ.with(Rights::WRITE).with(Rights::GRANT);
        let derived = sys::cap_derive(boot::DISK, rights, first.into(), sectors.into());
        let derived = derived.and_then(Handle::from_word);
        let derived = derived.map_err(|error| self.explain(share, &error.to_string()))?;
        Ok((derived, Extent { first, sectors }))
    }

    /// What to tell the manifest's author: with all that is on the disk.
    fn explain(&self, share: &DiskShare, problem: &str) -> String {
        let DiskShare { name, sectors } = share;
        let bytes = u64::from(*sectors) * SECTOR as u64;
        let mut text = format!(
            "disk = \"{name}\" of {sectors} sectors, {bytes} bytes at least: {problem}; the disk has"
        );
        for extent in self.table.extents() {
            text += &format!(" \"{}\" ({} sectors)", extent.name, extent.sectors);
        }
        if self.table.extents().is_empty() {
            text += " no extent";
        }
        text + &format!(", {} sectors in all", self.table.sectors())
    }

    /// Fills sectors with zeros, by the device itself if it can.
    fn clear(&mut self, sectors: core::ops::Range<u32>) -> Result<(), Error> {
        let mut first = sectors.start;
        while first < sectors.end {
            let count = ZEROES.min(sectors.end - first);
            match self.disk.write_zeroes(first, count) {
                Err(Error::BadArgument) => {
                    let zeros = [0; 8 * SECTOR];
                    for at in (first..first + count).step_by(8) {
                        let here = 8.min(first + count - at) as usize;
                        self.disk.write(at, &zeros[..here * SECTOR])?;
                    }
                }
                result => result?,
            }
            first += count;
        }
        self.disk.flush()
    }

    fn write_table(&mut self) -> Result<(), Error> {
        let (first, bytes) = self.table.next_copy();
        self.disk.write(first, &bytes)?;
        self.disk.flush()
    }
}
