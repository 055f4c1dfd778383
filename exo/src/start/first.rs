//! The first environment: made by the kernel as the first page of the boot image says,
//! with the same operations that environments use to make each other.

use exo_abi::{
    Allowance, EnvId, Error, FRAME_BYTES, Handle, Level, Pfn, Protection, Rights, SLOT_COUNT,
    UArea, VirtAddr, Word, boot,
};
use exo_boot::launch::{Launch, MAGIC};

use super::machine::Machine;
use crate::arch::keys;
use crate::capability::{self, CapRef, Kind, Object};
use crate::env::{self, Env, Parts};
use crate::kernel::Kernel;
use crate::memory;
use crate::paging::{self, Mapping};
use crate::schedule;

/// Makes the first environment and everything it starts with.
///
/// # Panics
/// If the boot image is unusable: there is nothing to run.
pub(super) fn load(kernel: &Kernel, machine: &Machine) {
    let image = &machine.image;
    // SAFETY: the loader put the image there, `Machine` checked that it lies in memory, whole
    // pages of which are mapped, and its frames are given to no environment yet. Any
    // bytes are numbers.
    let launch = unsafe { memory::physical(image.start).cast::<Launch>().read() };
    assert_eq!(launch.magic, MAGIC, "the initial ramdisk is no boot image of this version");

    let mut taker = Taker { kernel, next: 0 };
    // The parts are donated by an environment that does not exist.
    let nobody = EnvId::NONE;
    let parts = Parts {
        object: taker.take(nobody),
        root_table: taker.take(nobody),
        cap_table: taker.take(nobody),
        u_area: taker.take(nobody),
    };
    let env = env::create(kernel, nobody, parts).expect("fresh frames make an environment");
    machine.image_frames().for_each(|pfn| assert!(kernel.frames.give(pfn, nobody, env.id())));
    endow(kernel, env);

    let first = Pfn((image.start / FRAME_BYTES) as u32);
    let mut page = first.plus(1);
    for run in launch.runs {
        let protection = Protection::from_word(run.protection.into()).expect("a protection");
        for number in 0..u64::from(run.pages) {
            map(&mut taker, env, run.at + number * FRAME_BYTES, page, protection);
            page = page.plus(1);
        }
    }
    map(&mut taker, env, boot::U_AREA, parts.u_area, Protection::ReadWrite);
    let rest = image.end.saturating_sub(page.address());
    tell(parts.u_area, [first.0.into(), page.0.into(), rest]);

    env::start(kernel, env, launch.entry, boot::STACK_TOP, boot::U_AREA)
        .expect("a user entry point");
    for slot in 0..slots(kernel) {
        schedule::assign(kernel, slot, Some(env));
    }
    kernel.first.set(env.id());
}

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

/// Maps a page of `env`, with page tables as needed.
fn map(taker: &mut Taker<'_>, env: &Env, address: u64, first: Pfn, protection: Protection) {
    let frames = &taker.kernel.frames;
    let (owner, root) = (env.id(), env.root_table.get());
    let at = VirtAddr::new(address).expect("a page of user space");
    let mapping = Mapping { owner, first, at, count: 1, protection, ..Mapping::NONE };
    while let Err(error) = paging::map(frames, root, mapping, |_| {}) {
        assert_eq!(error, Error::NoTable, "page {address:#x} of the boot image");
        // The highest that is missing.
        let table = taker.take(owner);
        let install = |level| paging::install_table(frames, owner, root, at, level, table);
        assert!((1..=3).rev().filter_map(Level::new).any(|level| install(level).is_ok()));
    }
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
        (boot::KEYS, Object::range(Kind::Keys, 1, keys::count().saturating_sub(1))),
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
fn tell(u_area: Pfn, words: [u64; 3]) {
    let start = memory::frame(u_area).wrapping_add(core::mem::offset_of!(UArea, start));
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: inside the U-area's frame, aligned; the environment does not
        // run yet.
        unsafe { start.cast::<u64>().add(index).write(word) };
    }
}
