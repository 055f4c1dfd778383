//! What is always true between two entries into the kernel, and a checker of it.
//!
//! Release kernels do not contain this module. It is compiled for tests on the host
//! and, with `--cfg exo_check`, into the kernel that `cargo exo fuzz` boots. There
//! everything the kernel knows is looked at before every [`EVERY`]th call, before the
//! one that ends the machine, and before whatever follows a call of an environment that
//! is being destroyed. What does not hold is a panic that names the invariant and the
//! frame, after the last calls that came before it.
//!
//! The checker shares no arithmetic with what it checks: it reads page tables as
//! words, counts anew what the frame table counts, and follows every link in both
//! directions. It takes milliseconds with the lock held, and is for finding mistakes,
//! not for surviving them.
//!
//! **Memory** ([`memory`])
//! - M1: The frame table counts for each frame the present leaf entries that map it,
//!   over all page tables; an entry for 2 MiB maps 512 frames.
//! - M2: It counts for each page table the entries in it that are present, of a root
//!   table in the half that is the user's.
//! - M3: A frame's pins are the bindings' runs it lies in, the requests that are with the
//!   disk and name it and, if it is a page table, the entries that map it.
//! - M4: A free frame has no owner, no mappings and no pins.
//! - M5: No entry is writable and executable; every entry is ring 3's.
//! - M6: Only plain memory (also that being taken away) and U-areas are mapped writable,
//!   and besides them only page tables and what the kernel publishes are mapped.
//! - M7: An entry that is no leaf names a page table one level down, of the same owner,
//!   that no other entry names, and every page table but a root is named. Root tables
//!   end in the kernel's half.
//! - M8: The environment that pays for a frame exists; no environment pays for the kernel's
//!   frames.
//! - M9: Ring 0 can execute a frame if it is the code of a filter, and else write it:
//!   never both (in the guest).
//! - M10: The page below each stack of ring 0 is not mapped (in the guest).
//!
//! **Objects** ([`objects`])
//! - O1: Every root table, U-area and part of a capability table is named by the
//!   environment that pays for it, and has the kind it is named as.
//! - O2: Every binding is once in its owner's list, its run is the owner's memory, and
//!   its frame is its owner's.
//! - O3: Every filter is once in its binding's list, and its owner is the binding's.
//! - O4: Every environment but the first is once in one of its creator's lists; those
//!   that are silenced are being destroyed and have no family.
//! - O5: An environment is dying exactly if its destruction has begun, but for one that may leave a
//!   gate before.
//! - O6: A frame is being taken away exactly if its owner is the one that is to lose it.
//! - O7: Of each account at most as many packets are with the device as the device has,
//!   and of those that lie in a binding's run exactly as many; the device's slots are either
//!   free or with it.
//! - O8: Every scope but the kernel's is once in its parent's list, one deeper than that, and
//!   its code is its owner's; every binding that has a scope is once in the scope's list.
//! - O9: Every disk binding is once in its owner's list, and its ring is the owner's memory; of
//!   each as many requests are with the disk as it counts, for its sectors and in its owner's
//!   memory.
//!
//! **Capabilities** ([`capabilities`])
//! - C1: The free list of a table has every empty slot once and no other, but for those
//!   that have had their last generation; empty slots
//!   have no rights and nothing below them, and no slot's generation is zero.
//! - C2: Parents, first children and siblings name each other both ways, and no
//!   capability is its own ancestor.
//! - C3: A capability's rights are among its parent's, if both are for the same kind of
//!   thing; otherwise it is a binding's and its parent the network's or the disk's.
//! - C4: Its range lies in its parent's, or it is for the same object.
//! - C5: None lies deeper than anything may be derived, and nothing is marked as being revoked
//!   in an empty slot.
//!
//! **Processor time** ([`time`])
//! - S1: The published owner of a slot and the environment's own mask agree.
//! - S2: A slot is marked ready exactly if its owner may be able to run.
//! - S3: An environment runs on one processor at most, which has its page tables loaded,
//!   and is ready then, or dying.
//! - S4: Page tables that a processor has loaded belong to an environment that exists,
//!   and are whole.
//! - S5: Some processor expects the deadline of every sleeper that has slots.
//! - S6: Only a sleeper has a predicate, or one that is dying.
//!
//! **Transfers** ([`time`])
//! - T1: An environment that calls is the caller of its callee, and the callee serves.
//! - T2: An environment that has a caller serves it, and the caller calls.
//! - T3: An orphan serves and has no caller; an environment that serves knows a chain within
//!   bounds.

mod capabilities;
mod disk;
mod links;
mod memory;
mod objects;
#[cfg(exo_guest)]
mod recent;
mod tally;
#[cfg(test)]
mod tests;
mod time;

use exo_abi::Pfn;

use crate::env::Env;
use crate::kernel::Kernel;
use crate::object;
use crate::state::env::stage;

/// An invariant that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which: the letter and number of the list above.
    pub name: &'static str,
    /// What about it.
    pub what: &'static str,
    /// The frame where it shows; for a slot of a capability table its frame.
    pub frame: Pfn,
    /// What was found, and what should have been there, if that is a number.
    pub found: (u64, u64),
}

type Outcome = Result<(), Broken>;

/// [`Broken`] unless `holds`.
fn ensure(holds: bool, name: &'static str, what: &'static str, frame: Pfn) -> Outcome {
    if holds { Ok(()) } else { Err(Broken { name, what, frame, found: (0, 0) }) }
}

/// [`Broken`] unless the numbers are the same.
fn same(name: &'static str, what: &'static str, frame: Pfn, found: (u64, u64)) -> Outcome {
    if found.0 == found.1 { Ok(()) } else { Err(Broken { name, what, frame, found }) }
}

/// Every frame number.
fn frames(kernel: &Kernel) -> impl Iterator<Item = Pfn> {
    (0..kernel.frames.count()).map(Pfn)
}

/// Every environment.
fn environments(kernel: &Kernel) -> impl Iterator<Item = &'static Env> + '_ {
    frames(kernel).filter_map(|pfn| object::get(&kernel.frames, pfn))
}

/// Whether the parts of `env` are all still there. From the check of its frames on they are given back,
/// in the order of frame numbers.
fn is_whole(env: &Env) -> bool {
    env.destruction.get().0 < stage::CHECK
}

/// Checks everything. To be called between two entries: what a call is in the midst
/// of need not hold.
///
/// # Errors
/// The first that does not hold.
pub fn all(kernel: &Kernel) -> Result<(), Broken> {
    // Links between environments first: the rest follows them.
    objects::check(kernel)?;
    memory::check(kernel)?;
    capabilities::check(kernel)?;
    time::check(kernel)
}

#[cfg(exo_guest)]
pub use guest::{EVERY, entered};

#[cfg(exo_guest)]
mod guest {
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

    use exo_abi::{EnvState, SYSCALLS};

    use super::recent;
    use crate::kernel::Kernel;
    use crate::say;

    /// Calls from one check to the next: 1000, or what `EXO_CHECK_EVERY` says when the
    /// kernel is built.
    pub const EVERY: u64 = match option_env!("EXO_CHECK_EVERY") {
        Some(text) => match u64::from_str_radix(text, 10) {
            Ok(number) if number > 0 => number,
            _ => panic!("EXO_CHECK_EVERY is a number above zero"),
        },
        None => 1000,
    };

    /// Checks done so far.
    static DONE: AtomicU64 = AtomicU64::new(0);
    /// Whether the last call was one of an environment that is being destroyed. It can
    /// make one if it runs on another processor, and what it does is soon past.
    static AFTER_DYING: AtomicBool = AtomicBool::new(false);

    /// A call has come in, and nothing is done about it yet.
    pub fn entered(kernel: &Kernel, number: u64, words: [u64; 6]) {
        let calls = kernel.info.calls.load(Relaxed);
        let name = SYSCALLS.get(number as usize).map_or("", |entry| entry.name);
        let first = kernel.here().current.get() == kernel.first.get();
        let is_last = first && name == "machine_exit";
        let running = kernel.here().running.get();
        let dying = running.is_some_and(|env| env.state() == EnvState::Dying);
        let after_one = AFTER_DYING.swap(dying, Relaxed);
        if is_last || after_one || calls.is_multiple_of(EVERY) {
            DONE.fetch_add(1, Relaxed);
            if let Err(broken) = super::all(kernel) {
                recent::print();
                let super::Broken { name, what, frame, found: (found, wanted) } = broken;
                let place = frame.0;
                if found != wanted {
                    say!("check: {found:#x} should be {wanted:#x}");
                }
                panic!(
                    "invariant {name} does not hold after {calls} calls: {what} (frame {place:#x})"
                );
            }
        }
        recent::note(kernel, number, words);
        if is_last {
            // A line that an environment printed may be half out.
            crate::arch::serial::flush(&kernel.console);
            say!("check: {} checks in {calls} calls", DONE.load(Relaxed));
        }
    }
}
