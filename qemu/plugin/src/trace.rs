//! Tracing: an event whenever the guest comes to code with another label.
//!
//! Which label an instruction has is in the table; which environment the processor is for is
//! read from the guest's memory, where the kernel keeps it for its own entries. So neither
//! kernel nor application has any code for it.
//!
//! All processors take turns in one thread (the command runs the guest with `-icount`), so that an
//! increment is a load and a store.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

use crate::journal::{CAPACITY, EVENT_WORDS, Event, at, word};
use crate::layout::{NEUTRAL, Place};
use crate::words::Words;

/// Most processors.
const CPUS: usize = 8;
/// How often to look whether the other side has made room.
const GLANCE: Duration = Duration::from_micros(100);

/// The words of the journal; none until [`map`].
static WORDS: Words = Words::new();
/// Where in this process the guest's physical memory begins; zero: not known yet.
static MEMORY: AtomicUsize = AtomicUsize::new(0);
/// The last label on each processor, and whether it was user space's.
static LAST: [AtomicU32; CPUS] = [const { AtomicU32::new(u32::MAX) }; CPUS];
static LAST_USER: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];

/// Events go into `words`.
pub(crate) fn map(words: &'static [AtomicU64]) {
    WORDS.map(words);
    if let Some(ready) = words.get(word::READY) {
        ready.store(1, Release);
    }
}

/// Code at the virtual address `address` was found at `place` in this process.
pub(crate) fn found(address: u64, place: usize) {
    if MEMORY.load(Relaxed) == 0
        && place != 0
        && let Some(physical) = address.checked_sub(read(word::KERNEL_BASE))
        && physical < read(word::MEMORY)
    {
        MEMORY.store(place.wrapping_sub(physical as usize), Relaxed);
    }
}

#[inline]
fn words() -> &'static [AtomicU64] {
    WORDS.all()
}

fn read(index: usize) -> u64 {
    words().get(index).map_or(0, |word| word.load(Relaxed))
}

/// The word at a physical address of the guest.
fn physical(address: u64) -> Option<u64> {
    let memory = MEMORY.load(Relaxed);
    let inside = address.checked_add(8).is_some_and(|end| end <= read(word::MEMORY));
    if memory == 0 || !inside || !address.is_multiple_of(8) {
        return None;
    }
    // SAFETY: `memory` is where QEMU has mapped the guest's memory, which is there as long as the
    // guest runs, and the word lies in it. The guest's processors take turns with this thread.
    Some(unsafe {
        std::ptr::with_exposed_provenance::<u64>(memory + address as usize).read_volatile()
    })
}

/// The physical address of the upcall words of the environment that has processor `cpu`.
fn upcalls(cpu: usize) -> Option<u64> {
    let core = read(word::CORES).checked_sub(read(word::KERNEL_BASE))?;
    let area = physical(core + read(word::STRIDE) * cpu as u64 + read(word::UPCALLS))?;
    // Those of no environment are in the kernel's image, which is beyond.
    area.checked_sub(read(word::DIRECT_MAP)).filter(|&address| address < read(word::MEMORY))
}

/// An instruction is about to be executed, of user space or of the kernel.
#[inline]
pub(crate) fn instruction(cpu: u32, place: Place, user: bool) {
    let words = words();
    let Some(executed) = words.get(word::EXECUTED) else { return };
    let now = executed.load(Relaxed);
    executed.store(now.wrapping_add(1), Relaxed);
    let cpu = cpu as usize % CPUS;
    let label = place.function();
    if label == LAST[cpu].load(Relaxed) {
        return;
    }
    // What is for whatever calls it is no event, unless ring 3 is entered or left there.
    let neutral = matches!(place.row(), NEUTRAL | at::PROBE);
    if neutral && LAST_USER[cpu].load(Relaxed) == user {
        return;
    }
    LAST[cpu].store(label, Relaxed);
    LAST_USER[cpu].store(user, Relaxed);
    if words[word::WANTED].load(Relaxed) != 0 {
        arrive(now, cpu, place, user);
    }
}

#[cold]
fn arrive(now: u64, cpu: usize, place: Place, user: bool) {
    let area = upcalls(cpu);
    let value = match (place.row(), area) {
        (at::UPCALL, Some(area)) => {
            let word = |offset: usize| physical(area + read(offset)).unwrap_or(0);
            word(word::REASON) | word(word::VECTOR) << 32
        }
        _ => 0,
    };
    emit(now, cpu, (place.function(), user), area, value);
}

/// The instruction before this moment was a probe, and stored to the physical address `address`.
pub(crate) fn probe(cpu: u32, place: Place, user: bool, address: u64) {
    if read(word::WANTED) != 0 {
        let cpu = cpu as usize % CPUS;
        let now = read(word::EXECUTED);
        let code = (place.function(), user);
        emit(now, cpu, code, upcalls(cpu), physical(address).unwrap_or(0));
    }
}

fn emit(now: u64, cpu: usize, (label, user): (u32, bool), area: Option<u64>, value: u64) {
    let words = words();
    let produced = words[word::PRODUCED].load(Relaxed);
    while produced.wrapping_sub(words[word::CONSUMED].load(Acquire)) >= CAPACITY as u64 {
        std::thread::sleep(GLANCE);
    }
    let space = area.map_or(0, |area| (area >> 12) as u32);
    let event = Event { at: now, label, cpu: cpu as u8, user, space, value };
    let first = word::EVENTS + produced as usize % CAPACITY * EVENT_WORDS;
    for (word, value) in words[first..].iter().zip(event.words()) {
        word.store(value, Relaxed);
    }
    // Release: a reader that sees this sees the event.
    words[word::PRODUCED].store(produced + 1, Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::BYTES;

    fn label(number: u32, row: u8) -> Place {
        Place::new(number, row)
    }

    /// All in one test: the journal is the process's.
    #[test]
    fn an_event_for_each_change_of_label() {
        instruction(0, label(1, at::LABEL), false);
        let words: Vec<_> = (0..BYTES / 8).map(|_| AtomicU64::new(0)).collect();
        let words: &'static [AtomicU64] = words.leak();
        // Memory of the guest: the words of a processor at 0x40, those of an upcall at 0x1080.
        let memory: &'static mut [u64] = vec![0_u64; 0x400].leak();
        let base = 0xffff_ffff_8000_0000_u64;
        memory[0x48 / 8] = 0xffff_8000_0000_1080;
        memory[0x1090 / 8] = 1;
        memory[0x1098 / 8] = 14;
        let set = |index: usize, value: u64| words[index].store(value, Relaxed);
        set(word::KERNEL_BASE, base);
        set(word::DIRECT_MAP, 0xffff_8000_0000_0000);
        set(word::MEMORY, 0x2000);
        set(word::CORES, base + 0x40);
        set(word::STRIDE, 0x20);
        set(word::UPCALLS, 8);
        set(word::REASON, 0x10);
        set(word::VECTOR, 0x18);
        map(words);
        assert_eq!(read(word::READY), 1);
        found(0x1000, 0x5000);
        assert_eq!(physical(0x48), None, "nothing is known of memory yet");
        found(base + 0x100, memory.as_mut_ptr().expose_provenance() + 0x100);
        assert_eq!(physical(0x48), Some(0xffff_8000_0000_1080));
        assert_eq!((physical(0x1ffc), physical(0x2000), physical(3)), (None, None, None));

        instruction(0, label(9, at::LABEL), false);
        assert_eq!((read(word::EXECUTED), read(word::PRODUCED)), (1, 0), "not wanted");
        set(word::WANTED, 1);
        for (place, user) in [
            (label(2, at::LABEL), false),
            (label(2, at::LABEL), false),
            (label(3, NEUTRAL), false),  // for its caller
            (label(4, NEUTRAL), true),   // but ring 3 is entered
            (label(5, at::PROBE), true), // tells itself
            (label(6, at::UPCALL), true),
        ] {
            instruction(0, place, user);
        }
        probe(0, label(5, at::PROBE), true, 0x1098);
        instruction(1, label(6, at::LABEL), true);
        let events: Vec<_> = (0..read(word::PRODUCED) as usize)
            .map(|index| {
                let first = word::EVENTS + index * EVENT_WORDS;
                Event::of_words([read(first), read(first + 1), read(first + 2)])
            })
            .collect();
        let event = |at, label, value| Event { at, label, cpu: 0, user: true, space: 1, value };
        let expected = [
            Event { user: false, ..event(1, 2, 0) },
            event(4, 4, 0),
            event(6, 6, 1 | 14 << 32),
            event(7, 5, 14),
            Event { cpu: 1, space: 0, ..event(7, 6, 0) },
        ];
        assert_eq!(events, expected);

        // A full ring holds the guest until there is room.
        set(word::CONSUMED, read(word::PRODUCED).wrapping_sub(CAPACITY as u64));
        let held = std::thread::spawn(|| instruction(0, label(2, at::LABEL), false));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(read(word::PRODUCED), 5);
        set(word::CONSUMED, read(word::PRODUCED));
        held.join().unwrap();
        assert_eq!(read(word::PRODUCED), 6);
    }
}
