//! What the kernel publishes, and the environments as it shows them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, bail};
use exo_abi::{ABI_VERSION, FrameInfo, FrameKind, MAX_CORES, SLOT_COUNT, SystemInfo, UArea};
use libos::start::StartBlock;

use super::memory::Memory;

/// The kernel's pages in a machine's memory.
#[derive(Clone, Copy)]
pub(crate) struct Published<'m> {
    pub(crate) info: &'m SystemInfo,
    pub(crate) frames: &'m [FrameInfo],
    memory: &'m Memory,
}

/// An environment, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The number of the frame that its object lies in.
    pub(crate) id: u32,
    /// What its creator calls it; root is called so, and what has no name by its number.
    pub(crate) name: String,
    /// Its IPv4 address, if it was given one.
    pub(crate) address: Option<[u8; 4]>,
    /// The frame of its U-area, if it has one.
    pub(crate) u_area: Option<u32>,
    /// Frames that it pays for, by kind: of each kind as many as its number says.
    pub(crate) frames: [u32; KINDS],
    /// Slots that it owns, of each processor.
    pub(crate) slots: [u32; MAX_CORES],
    /// Events so far.
    pub(crate) events: u64,
    /// Frames that were taken from it so far.
    pub(crate) repossessed: u64,
    /// Runs of pinned frames: number of the first, and how many.
    pub(crate) pinned: Vec<(u32, u32)>,
}

/// Kinds of frames.
const KINDS: usize = FrameKind::Text as usize + 1;

impl Environment {
    /// Frames of that kind that it pays for.
    pub(crate) fn of_kind(&self, kind: FrameKind) -> u32 {
        self.frames[kind as usize]
    }

    /// All frames that it pays for.
    pub(crate) fn all_frames(&self) -> u32 {
        self.frames.iter().sum()
    }
}

impl<'m> Published<'m> {
    /// Finds the pages.
    ///
    /// # Errors
    /// There are none: the machine has not booted so far, or runs another kernel.
    pub(crate) fn find(memory: &'m Memory) -> Result<Self> {
        for frame in 0..memory.frames() {
            let Some(info) = memory.at::<SystemInfo>(frame) else { continue };
            if info.abi_version.load(Relaxed) != ABI_VERSION {
                continue;
            }
            let (first, count) = (info.frame_table.load(Relaxed), info.frame_count.load(Relaxed));
            // The table is as long as memory, and says of this page that it is one of these.
            let Some(frames) = memory.slice::<FrameInfo>(first, count as usize) else { continue };
            let is_info = |frame: u32| {
                let entry = frames.get(frame as usize);
                entry.is_some_and(|entry| entry.kind.load(Relaxed) == FrameKind::Info as u8)
            };
            if count <= memory.frames() && is_info(frame) && is_info(first) {
                return Ok(Self { info, frames, memory });
            }
        }
        bail!("no kernel of this version is at work in the machine")
    }

    /// All environments, in the order of their numbers.
    pub(crate) fn environments(&self) -> Vec<Environment> {
        let mut all: BTreeMap<u32, Environment> = BTreeMap::new();
        for (number, frame) in (0..).zip(self.frames) {
            let owner = frame.owner.load(Relaxed);
            let Some(kind) = FrameKind::from_u8(frame.kind.load(Relaxed)) else { continue };
            if kind == FrameKind::Env {
                all.entry(number).or_default().id = number;
            }
            if owner == 0 {
                continue;
            }
            let environment = all.entry(owner).or_default();
            environment.frames[kind as usize] += 1;
            if kind == FrameKind::Memory && frame.pins.load(Relaxed) != 0 {
                match environment.pinned.last_mut() {
                    Some((first, count)) if *first + *count == number => *count += 1,
                    _ => environment.pinned.push((number, 1)),
                }
            }
            if kind == FrameKind::UArea {
                self.read_u_area(number, &mut all);
            }
        }
        for (index, slot) in self.info.slots.owners.iter().enumerate() {
            if let Some(owner) = all.get_mut(&slot.load(Relaxed)) {
                owner.slots[index / SLOT_COUNT] += 1;
            }
        }
        // The frame of an environment is its creator's or its own; what is no environment any more
        // has no object.
        all.retain(|&id, environment| environment.id == id && id != 0);
        let root = all.keys().next().copied();
        for environment in all.values_mut().filter(|environment| environment.name.is_empty()) {
            environment.name = match Some(environment.id) == root {
                true => "root".to_owned(),
                false => format!("#{}", environment.id),
            };
        }
        all.into_values().collect()
    }

    /// What a U-area says of its environment.
    fn read_u_area(&self, frame: u32, all: &mut BTreeMap<u32, Environment>) {
        let Some(bytes) = self.memory.copy(frame, 0, size_of::<UArea>()) else { return };
        let word =
            |offset: usize| bytes[offset..].first_chunk().copied().map_or(0, u64::from_le_bytes);
        let id = word(std::mem::offset_of!(UArea, id)) as u32;
        let environment = all.entry(id).or_default();
        environment.u_area = Some(frame);
        environment.events = word(std::mem::offset_of!(UArea, events));
        let revocation = std::mem::offset_of!(UArea, revocation);
        environment.repossessed =
            word(revocation + std::mem::offset_of!(exo_abi::Revocation, count));
        let start = bytes[std::mem::offset_of!(UArea, start)..].first_chunk();
        if let Some(start) = start.and_then(StartBlock::read) {
            environment.name = start.name.to_owned();
            environment.address = start.address;
        }
    }
}
