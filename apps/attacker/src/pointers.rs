//! Wild pointers and lengths, in every call that takes a pointer; and calls that do
//! not exist.

use alloc::vec::Vec;

use exo_abi::boot::{SELF, U_AREA};
use exo_abi::{Error, Protection, SYSCALLS, USER_TOP, UserPtr};
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "have wild addresses printed", run: print_wild },
    Attack { name: "have kernel memory printed", run: print_kernel },
    Attack { name: "print over the end of a mapping", run: print_over_end },
    Attack { name: "print lengths that wrap around", run: print_wrap },
    Attack { name: "have a status written to wild addresses", run: status_wild },
    Attack { name: "have a status written to read-only pages", run: status_read_only },
    Attack { name: "have a status written over the end of a mapping", run: status_over_end },
    Attack { name: "install a filter from wild addresses", run: filter_wild },
    Attack { name: "install a filter of a wild length", run: filter_length },
    Attack { name: "call numbers that do not exist", run: unknown_calls },
];

/// Addresses no environment may read.
const WILD: [u64; 16] = [
    0,
    8,
    0x6000_0000_0000,
    USER_TOP,
    USER_TOP - 1,
    USER_TOP + 0xfff,
    0x0000_8000_0000_0000,
    0x0000_8000_0040_0000,
    0x8000_0000_0000_0000,
    0xffff_7fff_ffff_ffff,
    0xffff_8000_0000_0000,
    0xffff_8000_0020_0000,
    0xffff_8000_fee0_0000,
    0xffff_ffff_8020_0000,
    u64::MAX - 63,
    u64::MAX,
];

fn console(attacker: &Attacker) -> Result<exo_abi::Handle, Error> {
    attacker.environment.start.console.ok_or(Error::NoDevice)
}

fn print_wild(attacker: &mut Attacker) -> Attempt {
    let console = console(attacker)?;
    let prints = WILD
        .into_iter()
        .flat_map(|at| [1, 64, 1024, 4096].map(|n| sys::console_write(console, UserPtr(at), n)));
    Ok(Verdict::every(prints, &[Error::BadPointer]))
}

fn print_kernel(attacker: &mut Attacker) -> Attempt {
    let console = console(attacker)?;
    let mut random = attacker.random;
    let places = (0..4000).map(|_| {
        let image = 0xffff_ffff_8020_0000 + random.below(0x20_0000);
        let memory = 0xffff_8000_0000_0000 + random.below(1 << 32);
        if random.word() & 1 == 0 { image } else { memory }
    });
    let prints = places.map(|at| sys::console_write(console, UserPtr(at), 8));
    Ok(Verdict::every(prints, &[Error::BadPointer]))
}

fn print_over_end(attacker: &mut Attacker) -> Attempt {
    let console = console(attacker)?;
    let (at, beyond) = (attacker.window()?, attacker.window()?);
    let frame = attacker.frames.page(at)?;
    let prints = [1, 2, 8, 63]
        .map(|inside| sys::console_write(console, UserPtr(beyond.get() - inside), inside + 1));
    attacker.frames.drop_page(at, frame)?;
    Ok(Verdict::every(prints.into_iter(), &[Error::BadPointer]))
}

fn print_wrap(attacker: &mut Attacker) -> Attempt {
    let console = console(attacker)?;
    let prints = [u64::MAX, u64::MAX - 7, 1 << 63, USER_TOP, u64::MAX - 4095]
        .into_iter()
        .flat_map(|at| [64, 1 << 32, 1 << 63, u64::MAX].map(|length| (at, length)))
        .map(|(at, length)| sys::console_write(console, UserPtr(at), length));
    Ok(Verdict::every(prints, &[Error::BadPointer]))
}

fn status_wild(_: &mut Attacker) -> Attempt {
    let writes = WILD.into_iter().map(|at| sys::env_status(SELF, UserPtr(at)));
    Ok(Verdict::every(writes, &[Error::BadPointer]))
}

fn status_read_only(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    sys::map(SELF, SELF, attacker.maker.tables.root, at, 1, Protection::Read)?;
    let frame_table = attacker.frames.table.as_ptr().expose_provenance() as u64;
    let code = status_read_only as *const () as u64;
    let places = [0x40_0000, code, U_AREA + 4096, frame_table, frame_table + 4000, at.get()];
    let writes: Vec<_> = places.into_iter().map(|at| sys::env_status(SELF, UserPtr(at))).collect();
    sys::unmap(SELF, at, 1)?;
    Ok(Verdict::every(writes.into_iter(), &[Error::BadPointer]))
}

fn status_over_end(attacker: &mut Attacker) -> Attempt {
    let (at, beyond) = (attacker.window()?, attacker.window()?);
    let frame = attacker.frames.page(at)?;
    let writes = [1, 8, 100, exo_abi::EnvStatus::BYTES as u64 - 1]
        .map(|inside| sys::env_status(SELF, UserPtr(beyond.get() - inside)));
    attacker.frames.drop_page(at, frame)?;
    Ok(Verdict::every(writes.into_iter(), &[Error::BadPointer]))
}

fn filter_wild(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let object = attacker.frames.take(SELF, 2)?;
    let installs = WILD.into_iter().flat_map(|at| {
        [1, 21, dpf::MAX_WIRE as u64].map(|length| {
            sys::filter_install(nic.binding, UserPtr(at), length, object, object.plus(1))
        })
    });
    let verdict = Verdict::every(installs, &[Error::BadPointer]);
    attacker.frames.give(object, 2)?;
    Ok(verdict)
}

fn filter_length(attacker: &mut Attacker) -> Attempt {
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let object = attacker.frames.take(SELF, 2)?;
    let code = UserPtr(0x40_0000);
    let most = dpf::MAX_WIRE as u64;
    let installs = [0, most + 1, 4096, 1 << 32, 1 << 63, u64::MAX]
        .map(|length| sys::filter_install(nic.binding, code, length, object, object.plus(1)));
    attacker.frames.give(object, 2)?;
    Ok(Verdict::every(installs.into_iter(), &[Error::TooMuch, Error::BadFilter]))
}

fn unknown_calls(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    let known = SYSCALLS.len() as u64;
    let near = known..known + 1000;
    let far = (0..20_000).map(|_| random.word()).filter(|number| *number >= known);
    let calls = near.chain(far).map(|number| sys::raw(number, [number; 6]));
    Ok(Verdict::every(calls, &[Error::NoSuchCall]))
}
