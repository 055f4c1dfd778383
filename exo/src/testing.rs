//! A kernel over simulated memory, for tests on the host: the real frame table,
//! environments and calls; no processor.

use std::cell::{Cell, RefCell};

use exo_abi::{EnvId, FRAME_BYTES, FrameKind, Pfn, Rights, VirtAddr};

pub(crate) use crate::calls::Reply;
use crate::calls::{self, Caller};
use crate::capability::{self, CapRef, Kind, Object};
use crate::clock::{Clock, Rate};
use crate::disk::device::{DISK_FRAMES, Device};
use crate::env::{self, Env, Parts};
use crate::frames::FrameTable;
use crate::kernel::Kernel;
use crate::memory;
use crate::net::Net;
use crate::net::nic::{NIC_FRAMES, Nic};
use crate::net::scope::Scope;
use crate::net::storage::Merged;
use crate::object;
use crate::paging::{ROOT_LEVEL, Table};
use crate::start::virtio;
use crate::state::State;
use crate::virtio::transport::Transport;
use crate::work::BUDGET;

/// Frames of the simulated machine.
pub(crate) const FRAMES: u32 = 2048;
/// First frame that is free.
pub(crate) const FIRST_FREE: u32 = 512;
/// The network interface's memory.
pub(crate) const NIC_FIRST: Pfn = Pfn(64);
/// The simulated interface's registers.
pub(crate) const REGISTERS: Pfn = Pfn(32);
/// The simulated disk's memory, registers, and size.
pub(crate) const DISK_FIRST: Pfn = Pfn(40);
const DISK_REGISTERS: Pfn = Pfn(33);
pub(crate) const DISK_SECTORS: u32 = 1000;
/// Where the scope that holds everything lies.
pub(crate) const NETWORK: Pfn = Pfn(10);
/// The simulated interface's address.
pub(crate) const STATION: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A machine with one environment that owns everything.
pub(crate) fn machine() -> (&'static Kernel, &'static Env) {
    memory::host::provide(FRAMES);
    // SAFETY: frames 16 to 23 hold 2048 entries of 16 bytes, zero and shared for
    // ever like all simulated memory.
    let entries =
        unsafe { std::slice::from_raw_parts(memory::frame(Pfn(16)).cast(), FRAMES as usize) };
    let mut frames = FrameTable::new(entries);
    for frame in 0..FIRST_FREE {
        frames.describe(Pfn(frame), FrameKind::Kernel, 0);
    }
    let (root_table, info_frame) = (Pfn(8), Pfn(9));
    frames.describe(root_table, FrameKind::PageTable, ROOT_LEVEL);
    frames.describe(info_frame, FrameKind::Info, 0);
    frames.describe(NETWORK, FrameKind::Memory, 0);
    let network = Scope::everything(&frames, NETWORK);
    // SAFETY: a zeroed frame, shared for ever; all fields are atomics.
    let info = unsafe { &*memory::frame(info_frame).cast() };
    let kernel = Box::leak(Box::new(Kernel {
        state: State::new(
            frames,
            info,
            info_frame,
            [root_table, Pfn(0)],
            Clock::new(Rate::told(1, 1), 1_000_000_000, u64::MAX),
        ),
        net: RefCell::new(Net::new(Some(interface()))),
        disk: RefCell::new(Some(disk())),
        network,
        merged: {
            let heads = vec![dpf::NodeId::NONE; FRAMES as usize].leak();
            // SAFETY: leaked for it, and zero.
            unsafe { Merged::new(heads.as_mut_ptr(), FRAMES.ilog2(), 7) }
        },
    }));
    let mut mac = [0; 8];
    mac[..6].copy_from_slice(&STATION);
    kernel.info.mac.store(u64::from_le_bytes(mac), std::sync::atomic::Ordering::Relaxed);
    let nobody = EnvId(0);
    kernel.frames.take(Pfn(FIRST_FREE), 4, nobody).expect("free frames");
    let parts = |first: u32| Parts {
        object: Pfn(first),
        root_table: Pfn(first + 1),
        cap_table: Pfn(first + 2),
        u_area: Pfn(first + 3),
    };
    let root = env::create(kernel, nobody, parts(FIRST_FREE)).expect("an environment");
    for (kind, count) in [(Kind::Frames, FRAMES), (Kind::Slots, 64), (Kind::Net, 0)] {
        capability::insert(
            &kernel.frames,
            &root.capabilities,
            Object::range(kind, 0, count),
            Rights::ALL,
            CapRef::NONE,
        )
        .expect("room in the table");
    }
    kernel.first.set(root.id());
    kernel.info.tsc_hz.store(1_000_000_000, std::sync::atomic::Ordering::Relaxed);
    kernel.info.cores.store(1, std::sync::atomic::Ordering::Relaxed);
    kernel.info.keys.store(exo_abi::KEYS, std::sync::atomic::Ordering::Relaxed);
    kernel.here().current.set(root.id());
    kernel.here().running.set(Some(root));
    (kernel, root)
}

/// The registers of a device of type `id` in plain memory, with the first words of its
/// configuration: they read back what was written, and start with what drivers look for.
fn registers(frame: Pfn, id: u32, features: u32, config: [u32; 2]) -> Transport {
    let registers = memory::frame(frame).cast::<u32>();
    let presets = [
        (0x00, u32::from_le_bytes(*b"virt")),
        (0x04, 2),
        (0x08, id),
        (0x10, features),
        (0x34, 256),
        (0x100, config[0]),
        (0x104, config[1]),
    ];
    for (offset, value) in presets {
        // SAFETY: inside a frame of simulated memory that only this test uses.
        unsafe { registers.byte_add(offset).write(value) };
    }
    // SAFETY: as good as mapped registers, as far as drivers see.
    unsafe { Transport::new(registers.cast()) }
}

fn interface() -> Nic {
    let mut words = [0; 4];
    words[..4].copy_from_slice(&STATION[..4]);
    let low = u32::from_le_bytes(words);
    let high = u32::from(STATION[4]) | u32::from(STATION[5]) << 8;
    const { assert!(NIC_FIRST.0 + NIC_FRAMES <= FIRST_FREE) };
    // SAFETY: the interface's frames are zeroed and its own.
    unsafe { virtio::nic(registers(REGISTERS, 1, u32::MAX, [low, high]), NIC_FIRST) }
        .expect("a network interface")
}

fn disk() -> Device {
    disk_with(u32::MAX).expect("a disk")
}

/// The simulated disk, started (again) with these features.
pub(crate) fn disk_with(features: u32) -> Option<Device> {
    const { assert!(DISK_FIRST.0 + DISK_FRAMES <= NIC_FIRST.0) };
    // SAFETY: the disk's frames are zeroed and its own.
    unsafe {
        virtio::disk(registers(DISK_REGISTERS, 2, features | 1, [DISK_SECTORS, 0]), DISK_FIRST)
    }
}

/// Calls the kernel as `env`.
pub(crate) fn call(
    kernel: &Kernel,
    env: &'static Env,
    name: &str,
    arguments: &[u64],
) -> Result<u64, exo_abi::Error> {
    explained(kernel, env, name, arguments).map_err(|(error, _)| error)
}

/// The same, with what comes with an error.
pub(crate) fn explained(
    kernel: &Kernel,
    env: &'static Env,
    name: &str,
    arguments: &[u64],
) -> Result<u64, (exo_abi::Error, u64)> {
    match reply(kernel, env, name, arguments) {
        Reply::Done(result) => result.map_err(|error| (error, 0)),
        Reply::Refused(error, value) => Err((error, value)),
        Reply::Aside(error) => Err((error, 0)),
        _ => panic!("{name} does not return to its caller"),
    }
}

thread_local! {
    /// What an entry may do in this thread's machine.
    static STINT: Cell<u32> = const { Cell::new(BUDGET) };
}

/// From now on an entry may do as little as this, so that small things take many.
pub(crate) fn stint(work: u32) {
    STINT.set(work);
}

/// The same for a call that may not return to its caller.
pub(crate) fn reply(kernel: &Kernel, env: &'static Env, name: &str, arguments: &[u64]) -> Reply {
    let mut words = [0; 6];
    words[..arguments.len()].copy_from_slice(arguments);
    let work = &kernel.here().work;
    work.begin();
    work.spend(BUDGET - STINT.get());
    calls::call::<false>(Caller { kernel, env }, exo_abi::call_number(name), |index| words[index])
}

/// Root's handles, in the order `machine` makes them.
pub(crate) const OWN: u64 = 1 << 32;
pub(crate) const ALL_FRAMES: u64 = OWN | 1;
pub(crate) const ALL_SLOTS: u64 = OWN | 2;
pub(crate) const NET: u64 = OWN | 3;

/// A child of root made from the four frames from `first` on, and its handle.
pub(crate) fn child(kernel: &Kernel, root: &'static Env, first: u32) -> (&'static Env, u64) {
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, first.into(), 4]).expect("free frames");
    let parts: Vec<u64> = (first..first + 4).map(u64::from).collect();
    let handle = call(kernel, root, "env_create", &parts).expect("an environment");
    (object::get(&kernel.frames, Pfn(first)).expect("the environment"), handle)
}

/// Destroys a child, however many steps it takes.
pub(crate) fn destroy(
    kernel: &Kernel,
    root: &'static Env,
    handle: u64,
) -> Result<(), exo_abi::Error> {
    loop {
        match call(kernel, root, "env_destroy", &[handle]) {
            Err(exo_abi::Error::Again) => {}
            result => return result.map(drop),
        }
    }
}

/// Installs the tables that reach `address` in `space`, from frames `first` on
/// taken for it.
pub(crate) fn tables(kernel: &Kernel, root: &'static Env, space: u64, address: u64, first: u32) {
    for (level, frame) in [(3, first), (2, first + 1), (1, first + 2)] {
        call(kernel, root, "frames_take", &[ALL_FRAMES, space, frame.into(), 1]).expect("free");
        call(kernel, root, "table_install", &[space, address, level, frame.into()])
            .expect("a table");
    }
}

/// How many frames are free.
pub(crate) fn free_frames(kernel: &Kernel) -> usize {
    (0..kernel.frames.count())
        .filter(|frame| kernel.frames.kind(Pfn(*frame)) == Some(FrameKind::Free))
        .count()
}

/// Address of page `number` of user space.
pub(crate) fn page(number: u64) -> VirtAddr {
    VirtAddr::new(number * FRAME_BYTES).expect("a user page")
}

/// The root table of an environment.
pub(crate) fn root_of(kernel: &Kernel, env: &Env) -> &'static Table {
    object::get(&kernel.frames, env.root_table.get()).expect("a root table")
}
