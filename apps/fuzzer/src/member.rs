//! What a child does: call the kernel until it has called often enough.
//!
//! It runs without heap, without writable statics, and on a short stack; whatever it
//! stands on may be taken from it by itself or by its fellows, and then it faults,
//! which is an end like any other.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, SYSCALLS, call_number};
use selftest::child::exit;
use selftest::random::Random;
use selftest::server::area;

use crate::place::{CREW, FAULTED, GRANTED, SERVICE_STACK, Told, board};
use crate::upcall;

/// The first slots of a child's table hold itself and what its maker gave it.
const GIVEN: u32 = CREW as u32 + 3;

/// A child, as it knows itself.
pub(crate) struct Member {
    /// Which of the crew.
    pub(crate) index: usize,
    /// Its environment's number.
    pub(crate) id: u32,
    pub(crate) random: Random,
    /// Handles it has made, as on the board.
    pub(crate) known: [u64; 16],
    next: usize,
}

/// Makes a call that may be a protected one: those come back with the other side's
/// values in the registers that functions otherwise leave as they were.
///
/// The second result is the handle of what was granted with a reply, or zero.
fn enter(number: u64, arguments: [u64; 6]) -> (Result<u64, Error>, u64) {
    let (code, value, grant): (u64, u64, u64);
    // SAFETY: as in `libos::sys::raw`; what the other side may have changed is restored from
    // the stack; its pointer the kernel restores.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "push rbp",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "syscall",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbp",
            "pop rbx",
            inlateout("rax") number => code,
            inlateout("rdi") arguments[0] => _,
            inlateout("rsi") arguments[1] => grant,
            inlateout("rdx") arguments[2] => value,
            inlateout("r10") arguments[3] => _,
            inlateout("r8") arguments[4] => _,
            inlateout("r9") arguments[5] => _,
            out("rcx") _,
            out("r11") _,
            clobber_abi("C"),
        );
    }
    let error = || Error::from_code(code).unwrap_or(Error::NoSuchCall);
    (if code == 0 { Ok(value) } else { Err(error()) }, grant)
}

impl Member {
    /// Makes a call and counts it; notes a handle that it returns.
    pub(crate) fn call(&mut self, number: u64, mut words: [u64; 6]) -> Result<u64, Error> {
        let name = SYSCALLS.get(number as usize).map_or("", |entry| entry.name);
        match name {
            // The end comes soon enough.
            "exit" if self.random.below(256) != 0 => return Err(Error::WrongState),
            // Sleeps end by themselves, most of them at once.
            "wait" => words[1] = self.deadline(),
            "net_wait" => words[2] = self.deadline(),
            "wait_until" => words[3] = self.deadline(),
            // Slots given to an environment that is then destroyed have no owner.
            "slots_assign" if self.random.below(4) != 0 => return Err(Error::WrongState),
            // Without what it was given it could not do much more.
            "cap_drop" if words[0] as u32 <= GIVEN && self.random.below(64) != 0 => {
                return Err(Error::WrongState);
            }
            // They would fill the table before anything else does.
            "entry_create" | "cap_badge" | "doorbell_create" if self.random.below(4) != 0 => {
                return Err(Error::WrongState);
            }
            _ => {}
        }
        if let Some(made) = board().made.get(self.index) {
            made.fetch_add(1, Relaxed);
        }
        let (result, grant) = enter(number, words);
        if name == "transfer_call" {
            self.is_granted(grant);
        }
        if let Ok(value) = result {
            if let Some(count) = board().succeeded.get(number as usize) {
                count.fetch_add(1, Relaxed);
            }
            let told = match name {
                "env_create" => Told::Env,
                "net_bind" => Told::Binding,
                "net_scope" => Told::Net,
                "entry_create" => Told::Entry,
                "doorbell_create" => Told::Doorbell,
                "disk_bind" => Told::DiskBinding,
                "cap_derive" | "cap_badge" => Told::Other,
                _ => return result,
            };
            self.note(told, value);
        }
        result
    }

    /// Remembers what was granted with a call or reply, if something was, or drops it.
    fn is_granted(&mut self, grant: u64) {
        if grant == 0 {
            return;
        }
        if let Some(count) = board().succeeded.get(GRANTED) {
            count.fetch_add(1, Relaxed);
        }
        // What it is for may be guessed.
        let kinds = [Told::Other, Told::Env, Told::Frames, Told::Entry, Told::Binding];
        match kinds.get(self.random.below(8) as usize) {
            Some(kind) => self.note(*kind, grant),
            None => drop(self.call(call_number("cap_drop"), [grant, 0, 0, 0, 0, 0])),
        }
    }

    /// Causes an exception on purpose, with flags that may be in the kernel's way.
    pub(crate) fn faults(&mut self) {
        let upcall = &area().upcall;
        upcall.stack.store(SERVICE_STACK.get() + 2048, Relaxed);
        upcall.entry.store(upcall::entry as *const () as u64, Relaxed);
        for _ in 0..1 + self.random.below(8) {
            let chosen = self.random.word();
            let flags = (0..).zip(upcall::FLAGS).filter(|(bit, _)| chosen >> bit & 1 == 1);
            upcall.masked.store(0, Relaxed);
            // SAFETY: the entry was named and upcalls were allowed just now; an environment
            // that changes that ends this child, and may.
            unsafe { upcall::fault_with(flags.map(|(_, flag)| flag).sum()) };
            if let Some(count) = board().succeeded.get(FAULTED) {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    /// Remembers a handle.
    pub(crate) fn note(&mut self, told: Told, handle: u64) {
        if let Some(place) = self.known.get_mut(self.next % 16) {
            *place = handle | (told as u64) << 56;
        }
        self.next += 1;
    }

    fn deadline(&mut self) -> u64 {
        match self.random.below(4) {
            0 => libos::time::timestamp() + self.random.below(1 << 18),
            _ => 1,
        }
    }

    /// A call with arguments made for it.
    pub(crate) fn random_call(&mut self) {
        let number = self.random.below(SYSCALLS.len() as u64 + 1);
        let words = self.words(number);
        let _ = self.call(number, words);
    }

    fn new(index: usize, stream: u64) -> Self {
        let seed = board().seed.load(Relaxed);
        let mut random = Random::new(seed ^ (index as u64) << 32 ^ stream << 48);
        random.word();
        Self { index, id: area().id.load(Relaxed), random, known: [0; 16], next: 0 }
    }
}

/// What child `index` runs.
pub(crate) extern "C" fn runs(index: u64) -> ! {
    let mut member = Member::new(index as usize, 0);
    let Some(made) = board().made.get(member.index) else { exit(1) };
    member.settles();
    while made.load(Relaxed) < board().budget.load(Relaxed) {
        match member.random.below(3) {
            0 => member.sequence(),
            _ => member.random_call(),
        }
    }
    exit(0)
}

/// What a child runs when it is called by another, and perhaps granted something.
pub(crate) extern "C" fn serves(_: u64, grant: u64) -> ! {
    let id = area().id.load(Relaxed);
    let index = (0..CREW).find(|index| {
        let of = board().told.get(*index).and_then(|row| row.first());
        of.is_some_and(|word| word.load(Relaxed) as u32 == id)
    });
    let index = index.unwrap_or(0);
    let stream = board().made.get(index).map_or(0, |made| made.load(Relaxed));
    let mut member = Member::new(index, 1 + stream);
    member.is_granted(grant);
    for _ in 0..member.random.below(4) {
        member.random_call();
    }
    loop {
        let words = match member.random.below(3) {
            0 => member.words(call_number("transfer_reply")),
            _ => [0; 6],
        };
        let _ = member.call(call_number("transfer_reply"), words);
    }
}
