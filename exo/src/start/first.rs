//! The first environment: made by the kernel from image 0 of the boot bundle,
//! with the same operations that environments use to make each other.

use exo_abi::{
    Allowance, EnvId, FRAME_BYTES, Handle, Level, Pfn, Protection, Rights, SLOT_COUNT, UArea,
    VirtAddr, boot,
};
use exo_boot::bundle::Bundle;

use super::machine::Machine;
use crate::capability::{self, CapRef, Kind, Object};
use crate::env::{self, Env, Parts};
use crate::kernel::Kernel;
use crate::memory;
use crate::paging::{self, Mapping};
use crate::schedule;

/// Hands out free frames, lowest first.
struct Taker<'a> {
    kernel: &'a Kernel,
    next: u32,
}

impl Taker<'_> {
    fn take(&mut self, owner: EnvId) -> Pfn {
        loop {
            let pfn = Pfn(self.next);
            assert!(self.next < self.kernel.frames.count(), "no memory for the first environment");
            self.next += 1;
            if self.kernel.frames.take(pfn, 1, owner).is_ok() {
                return pfn;
            }
        }
    }
}

/// Makes the first environment and everything it starts with.
///
/// # Panics
/// If the bundle is unusable: there is nothing to run.
pub(super) fn load(kernel: &Kernel, machine: &Machine) {
    let frames = &kernel.frames;
    let bundle_bytes = (machine.bundle.end - machine.bundle.start) as usize;
    // SAFETY: the loader put the bundle there, `Machine` checked that it lies
    // in memory, and its frames are given to no environment before `load` is done.
    let bytes = unsafe {
        core::slice::from_raw_parts(memory::physical(machine.bundle.start), bundle_bytes)
    };
    let bundle = Bundle::parse(bytes).unwrap_or_else(|error| crate::panic::refuse(error));
    let image = bundle.root().expect("`parse` has found one");

    let bundle_first = Pfn((machine.bundle.start / FRAME_BYTES) as u32);
    let mut taker = Taker { kernel, next: 0 };
    // The parts are donated by an environment that does not exist: number 0.
    let nobody = EnvId(0);
    let parts = Parts {
        object: taker.take(nobody),
        root_table: taker.take(nobody),
        cap_table: taker.take(nobody),
        u_area: taker.take(nobody),
    };
    let env = env::create(kernel, nobody, parts).expect("fresh frames make an environment");
    machine.bundle_frames().for_each(|pfn| assert!(frames.give(pfn, nobody, env.id())));
    endow(kernel, env);

    let mut loader = Loader { kernel, env, taker };
    for segment in image.segments() {
        let protection = match (segment.writable(), segment.executable()) {
            (true, _) => Protection::ReadWrite,
            (false, true) => Protection::ReadExecute,
            (false, false) => Protection::Read,
        };
        loader.map_copy(segment.va, segment.mem_len, segment.data, protection);
    }
    let stack_bytes = u64::from(boot::STACK_PAGES) * FRAME_BYTES;
    loader.map_copy(boot::STACK_TOP - stack_bytes, stack_bytes, &[], Protection::ReadWrite);
    loader.map(boot::U_AREA, parts.u_area, Protection::ReadWrite);
    tell(parts.u_area, [bundle_first.0.into(), bundle_bytes as u64]);

    env::start(kernel, env, image.entry, boot::STACK_TOP, boot::U_AREA)
        .expect("a user entry point");
    for slot in 0..slots(kernel) {
        schedule::assign(kernel, slot, Some(env));
    }
    kernel.first.set(env.id());
}

/// Slots of all processors.
fn slots(kernel: &Kernel) -> u32 {
    (kernel.started().count() * SLOT_COUNT) as u32
}

/// Puts the capabilities for everything into the first environment's table.
fn endow(kernel: &Kernel, env: &Env) {
    let frames = &kernel.frames;
    let sectors = kernel.disk.borrow().as_ref().map_or(0, |disk| disk.sectors);
    for (expected, object) in [
        (boot::FRAMES, Object::range(Kind::Frames, 0, frames.count())),
        (boot::SLOTS, Object::range(Kind::Slots, 0, slots(kernel))),
        (boot::NET, Object::only(Kind::Net)),
        (boot::CONSOLE, Object::only(Kind::Console)),
        (boot::MACHINE, Object::only(Kind::Machine)),
        (boot::DISK, Object::range(Kind::Disk, 0, sectors)),
        (boot::ELEVATION, ring_0()),
    ] {
        let handle =
            capability::insert(frames, &env.capabilities, object, Rights::ALL, CapRef::NONE);
        assert_eq!(handle, Ok::<Handle, _>(expected), "the table is empty");
    }
}

/// All of it: on every processor, without end.
fn ring_0() -> Object {
    let range = Object::range(Kind::Elevation, u32::MAX, u32::MAX);
    Object { badge: Allowance::UNLIMITED, ..range }
}

/// Writes words into the U-area's start block.
fn tell(u_area: Pfn, words: [u64; 2]) {
    let start = memory::frame(u_area).wrapping_add(core::mem::offset_of!(UArea, start));
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: inside the U-area's frame, aligned; the environment does not
        // run yet.
        unsafe { start.cast::<u64>().add(index).write(word) };
    }
}

struct Loader<'a> {
    kernel: &'a Kernel,
    env: &'static Env,
    taker: Taker<'a>,
}

impl Loader<'_> {
    /// Maps one frame, making page tables as needed.
    fn map(&mut self, address: u64, first: Pfn, protection: Protection) {
        let frames = &self.kernel.frames;
        let (owner, root) = (self.env.id(), self.env.root_table.get());
        let at = VirtAddr::new(address).expect("a page of user space");
        for level in (1..=3).rev().filter_map(Level::new) {
            let frame = self.taker.take(owner);
            if paging::install_table(frames, owner, root, at, level, frame).is_err() {
                frames.release(frame);
                self.taker.next = frame.0;
            }
        }
        let mapping = Mapping { owner, first, at, count: 1, protection };
        paging::map(frames, root, mapping, |_| {}).expect("`parse` has found room");
    }

    /// Maps fresh frames for `length` bytes at `address`, filled with `data`.
    fn map_copy(&mut self, address: u64, length: u64, data: &[u8], protection: Protection) {
        let pages = length.div_ceil(FRAME_BYTES);
        let mut chunks = data.chunks(FRAME_BYTES as usize);
        for page in 0..pages {
            let pfn = self.taker.take(self.env.id());
            let chunk = chunks.next().unwrap_or_default();
            // SAFETY: a frame taken just now, and a chunk is at most a frame.
            unsafe { memory::frame(pfn).copy_from_nonoverlapping(chunk.as_ptr(), chunk.len()) };
            self.map(address + page * FRAME_BYTES, pfn, protection);
        }
    }
}
