//! Protection keys: reaching a page behind one otherwise than through its gate.
//!
//! The attacker is a store here, with a domain and a gate, and its child a client that takes part and
//! runs hand-made code: no page of the attacker's own program is needed in it, and each byte of
//! what it executes is chosen. The kernel has admitted all of that, so what is tried is what
//! admitted code can do.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;

use exo_abi::boot::{SELF, STACK_TOP, U_AREA};
use exo_abi::{
    CLOSED, Error, FRAME_BYTES, FrameKind, GATE_BYTES, Handle, LARGE_PAGES, Pfn, Protection,
    Rights, UArea, Upcall, UpcallArea, UserPtr, VirtAddr, Word, call_number, gate, opened,
};
use libos::sys;
use selftest::child::{Child, until_done};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "use keys without taking part", run: no_part },
    Attack { name: "read a domain before its gate", run: |a| reach(a, &[], READ) },
    Attack { name: "write a domain before its gate", run: |a| reach(a, &[], WRITE) },
    Attack { name: "read a domain after its gate", run: after },
    Attack { name: "jump to every byte of a gate", run: middle },
    Attack { name: "restore the key register by xrstor", run: restore },
    Attack { name: "admit wrpkru at every byte of a page", run: hidden },
    Attack { name: "admit gates of keys of others", run: foreign },
    Attack { name: "admit a gate by a stale key", run: stale },
    Attack { name: "execute wrpkru across two pages", run: seam },
    Attack { name: "execute what was not admitted", run: not_admitted },
    Attack { name: "change code after it was admitted", run: changed },
    Attack { name: "map a domain again", run: again },
    Attack { name: "put pages in the place of a domain's", run: replaced },
    Attack { name: "have the kernel read and write a domain", run: by_the_kernel },
    Attack { name: "keep the rights after an exception", run: exception },
    Attack { name: "keep the rights after a trap flag", run: trap_flag },
    Attack { name: "keep the rights after the end of a slice", run: slice },
    Attack { name: "an exception outside comes back with no rights", run: told },
    Attack { name: "take part after having code", run: late },
];

/// Where things are for the client: its code, the store's gate, the domain; and its stack.
const CODE: u64 = 0x40_0000;
const GATE: u64 = 0x50_0000;
const DOMAIN: u64 = 0x60_0000;
const STACK: u64 = STACK_TOP - FRAME_BYTES;
const WRPKRU: [u8; 3] = [0x0f, 0x01, 0xef];
const PAGE: usize = FRAME_BYTES as usize;

/// Code under construction for the address `0`; `1` are its bytes.
struct Code(u64, Vec<u8>);

/// General registers, with the beginning of `mov register, imm64`.
const RAX: [u8; 2] = [0x48, 0xb8];
const RCX: [u8; 2] = [0x48, 0xb9];
const RSI: [u8; 2] = [0x48, 0xbe];
const R8: [u8; 2] = [0x49, 0xb8];
const R9: [u8; 2] = [0x49, 0xb9];

/// `rbx` from the domain; and into it, after `mov rax, DOMAIN`.
const READ: &[u8] = &[0x48, 0x8b, 0x18];
const WRITE: &[u8] = &[0x48, 0x89, 0x18];
/// What the store does behind its gate: counts in the domain. After `mov rax, DOMAIN`.
const COUNTS: &[u8] = &[0x48, 0x8b, 0x18, 0x48, 0xff, 0x00];
/// Reads what `r9` points to.
const FOLLOWS: &[u8] = &[0x49, 0x8b, 0x19];
/// `dec rcx; jnz` back to it.
const WAITS: &[u8] = &[0x48, 0xff, 0xc9, 0x75, 0xfb];

impl Code {
    fn at(address: u64) -> Self {
        Self(address, Vec::new())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.1.extend_from_slice(bytes);
        self
    }

    fn load(self, register: [u8; 2], value: u64) -> Self {
        self.bytes(&register).bytes(&value.to_le_bytes())
    }

    /// Sets the three registers of `wrpkru`.
    fn rights(self, rights: u32) -> Self {
        self.bytes(&[0x31, 0xc9, 0x31, 0xd2, 0xb8]).bytes(&rights.to_le_bytes())
    }

    /// A gate as it is meant to be used.
    fn gate(self, rights: u32) -> Self {
        self.rights(rights).bytes(&gate(rights))
    }

    /// Goes to `target`, which comes back by `r8`.
    fn call(self, target: u64) -> Self {
        const LENGTH: u64 = 22;
        let back = self.0 + self.1.len() as u64 + LENGTH;
        self.load(R8, back).load(RAX, target).bytes(&[0xff, 0xe0])
    }

    /// Ends the environment, with what is in `rbx`.
    fn exit(self) -> Self {
        self.bytes(&[0x48, 0x89, 0xdf]).system_call("exit")
    }

    fn system_call(self, name: &str) -> Self {
        let number = call_number(name) as u32;
        self.bytes(&[0xb8]).bytes(&number.to_le_bytes()).bytes(&[0x0f, 0x05])
    }

    /// Reads the domain, and ends with what was there.
    fn steals(self) -> Self {
        self.load(RAX, DOMAIN).bytes(READ).exit()
    }
}

/// A client about to run, and the store's frames.
struct Client<'a> {
    attacker: &'a Attacker,
    child: Child<'a>,
    gate: Pfn,
    domain: Pfn,
}

/// Why nothing can be tried here, if so.
fn key(attacker: &Attacker) -> Result<(Handle, u32), Verdict> {
    attacker.environment.start.key.ok_or_else(|| Verdict::not_tried("no protection key"))
}

/// Writes `bytes` into a fresh frame of `owner`.
pub(crate) fn frame_with(
    attacker: &Attacker,
    owner: Handle,
    at: usize,
    bytes: &[u8],
) -> Result<Pfn, Error> {
    let frame = attacker.frames.take(owner, 1)?;
    let window = attacker.window()?;
    sys::map(SELF, owner, frame, window, 1, Protection::ReadWrite)?;
    let place = core::ptr::with_exposed_provenance_mut::<u8>(window.get() as usize + at);
    assert!(at + bytes.len() <= PAGE);
    // SAFETY: mapped just now, read and write, and nothing else refers to it.
    unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    sys::unmap(SELF, window, 1)?;
    Ok(frame)
}

/// Where the client begins.
fn entry() -> selftest::child::Code {
    // SAFETY: the address of hand-made code, which is never called here: the child begins there.
    unsafe { core::mem::transmute::<u64, selftest::child::Code>(CODE) }
}

fn page(address: u64) -> Result<VirtAddr, Error> {
    VirtAddr::new(address).ok_or(Error::BadAddress)
}

impl<'a> Client<'a> {
    /// A client that will run `code`, beside a gate that leads to `behind`.
    fn new(attacker: &'a Attacker, code: Code, behind: &[u8]) -> Result<Self, Error> {
        let (keys, key) = attacker.environment.start.key.ok_or(Error::NoDevice)?;
        let child = attacker.maker.bare()?;
        let env = child.env;
        sys::env_guard(env)?;
        for at in [CODE, GATE, DOMAIN, STACK, U_AREA] {
            attacker.frames.cover(env, page(at)?)?;
        }
        let text = frame_with(attacker, env, 0, &code.1)?;
        sys::code_admit(env, text, Handle::NONE)?;
        sys::map(env, env, text, page(CODE)?, 1, Protection::ReadExecute)?;
        let store = Code::at(GATE).gate(opened(key)).load(RAX, DOMAIN).bytes(behind);
        let store = store.gate(CLOSED).bytes(&[0x41, 0xff, 0xe0]);
        let gate = frame_with(attacker, SELF, 0, &store.1)?;
        sys::code_admit(SELF, gate, keys)?;
        sys::map(env, SELF, gate, page(GATE)?, 1, Protection::ReadExecute)?;
        let domain = frame_with(attacker, SELF, 0, &7_u64.to_le_bytes())?;
        sys::map_keyed(env, SELF, domain, page(DOMAIN)?, Protection::ReadWrite, key)?;
        let stack = attacker.frames.take(env, 1)?;
        sys::map(env, env, stack, page(STACK)?, 1, Protection::ReadWrite)?;
        sys::map(env, env, child.parts.plus(3), page(U_AREA)?, 1, Protection::ReadWrite)?;
        Ok(Self { attacker, child, gate, domain })
    }

    /// Has it told of exceptions and slices at `entry`.
    fn tell(&self, entry: u64) -> Result<(), Error> {
        let window = self.attacker.window()?;
        sys::map(SELF, self.child.env, self.child.parts.plus(3), window, 1, Protection::ReadWrite)?;
        let area = window.get() as usize + offset_of!(UArea, upcall);
        // SAFETY: the child's U-area, mapped just now; its words are atomics.
        let area = unsafe { &*core::ptr::with_exposed_provenance::<UpcallArea>(area) };
        let wanted = Upcall::SliceEnd as u32 | Upcall::SliceBegin as u32;
        area.wanted.store(wanted, core::sync::atomic::Ordering::Relaxed);
        area.stack.store(STACK_TOP - 2048, core::sync::atomic::Ordering::Relaxed);
        area.entry.store(entry, core::sync::atomic::Ordering::Relaxed);
        sys::unmap(SELF, window, 1).map(drop)
    }

    /// Ends it, and gives the store's frames back.
    fn close(self) -> Result<(), Error> {
        self.child.destroy()?;
        self.attacker.frames.give(self.gate, 1)?;
        self.attacker.frames.give(self.domain, 1)
    }

    /// Lets it run: what it died of, or what it ended with.
    fn run(self, vectors: &[u32]) -> Attempt {
        self.child.start(entry(), 0)?;
        let status = self.child.wait(PATIENCE)?;
        self.close()?;
        Ok(Verdict::died(status, vectors))
    }
}

/// A client with the code `code` and the usual gate, which must die by one of `vectors`.
fn client(attacker: &Attacker, code: Code, vectors: &[u32]) -> Attempt {
    if let Err(verdict) = key(attacker) {
        return Ok(verdict);
    }
    Client::new(attacker, code, COUNTS)?.run(vectors)
}

extern "C" fn writes_the_register(_: u64) -> ! {
    // SAFETY: ends this environment, or changes a register that means nothing to it.
    unsafe {
        core::arch::asm!(".byte 0x0f, 0x01, 0xef", in("eax") 0, in("ecx") 0, in("edx") 0);
    }
    selftest::child::exit(0)
}

fn no_part(attacker: &mut Attacker) -> Attempt {
    let verdict = attacker.victim(writes_the_register, 0, &[6])?;
    let at = attacker.window()?;
    let frame = attacker.frames.take(SELF, 1)?;
    let keyed = sys::map_keyed(SELF, SELF, frame, at, Protection::ReadWrite, 1);
    attacker.frames.give(frame, 1)?;
    let keyed = Verdict::refused(keyed, Error::WrongState);
    Ok(if keyed.is_repelled() { verdict } else { keyed })
}

/// Runs `first`, and then reads or writes the domain.
fn reach(attacker: &mut Attacker, first: &[u8], access: &[u8]) -> Attempt {
    let code = Code::at(CODE).bytes(first).load(RAX, DOMAIN).bytes(access).exit();
    client(attacker, code, &[14])
}

/// The gate works, or else the rest would show nothing: the client gets what the store counts.
fn after(attacker: &mut Attacker) -> Attempt {
    if let Err(verdict) = key(attacker) {
        return Ok(verdict);
    }
    let twice = Code::at(CODE).call(GATE).call(GATE).exit();
    let control = Client::new(attacker, twice, COUNTS)?;
    control.child.start(entry(), 0)?;
    let status = control.child.wait(PATIENCE)?.ok_or(Error::Again)?;
    control.close()?;
    if (status.vector, status.code) != (0, 8) {
        let text = alloc::format!("exception {}, {}: the gate fails", status.vector, status.code);
        return Ok(Verdict::breach(text));
    }
    client(attacker, Code::at(CODE).call(GATE).steals(), &[14])
}

fn middle(attacker: &mut Attacker) -> Attempt {
    let (_, key) = match key(attacker) {
        Ok(key) => key,
        Err(verdict) => return Ok(verdict),
    };
    let length = 2 * (GATE_BYTES as u64 + 9) + 10 + COUNTS.len() as u64;
    let mut last = Verdict::breach("nothing");
    for rights in [0, opened(key), CLOSED] {
        for byte in 0..length {
            let code = Code::at(CODE).rights(rights);
            let back = CODE + code.1.len() as u64 + 10 + 10 + 3;
            // The jump goes by `r9`: `eax` holds the rights.
            let code = code.load(R8, back).load(R9, GATE + byte).bytes(&[0x41, 0xff, 0xe1]);
            last = client(attacker, code.steals(), &[6, 13, 14])?;
            if !last.is_repelled() {
                return Ok(last);
            }
        }
    }
    Ok(last)
}

fn restore(attacker: &mut Attacker) -> Attempt {
    // `xrstor [rsi]` of an area that holds zeros, for the key register alone.
    let code = Code::at(CODE).load(RSI, STACK).bytes(&[0x31, 0xd2, 0xb8, 0, 2, 0, 0]);
    let plain = client(attacker, code.bytes(&[0x0f, 0xae, 0x2e]).steals(), &[6])?;
    if !plain.is_repelled() {
        return Ok(plain);
    }
    let code = Code::at(CODE).load(RSI, STACK).bytes(&[0x31, 0xd2, 0xb8, 0, 2, 0, 0]);
    // And `xrstors`, which ring 3 may not use.
    client(attacker, code.bytes(&[0x0f, 0xc7, 0x1e]).steals(), &[6, 13])
}

/// Tries to admit a frame of the attacker's own with `bytes` at `at`.
fn admit(attacker: &Attacker, (at, bytes): (usize, &[u8]), keys: Handle) -> Result<u64, Error> {
    let frame = frame_with(attacker, SELF, at, bytes)?;
    let admitted = sys::code_admit(SELF, frame, keys);
    if admitted.is_err() {
        attacker.frames.give(frame, 1)?;
    }
    admitted
}

fn hidden(attacker: &mut Attacker) -> Attempt {
    let frame = attacker.frames.take(SELF, 1)?;
    let at = attacker.window()?;
    let place = core::ptr::with_exposed_provenance_mut::<u8>(at.get() as usize);
    // Some of all places, and all of the last.
    let places = (0..PAGE - 2).filter(|at| at % 61 == 0 || *at > PAGE - 16);
    let results: Vec<_> = places
        .map(|offset| {
            sys::map(SELF, SELF, frame, at, 1, Protection::ReadWrite)?;
            // SAFETY: the page just mapped.
            unsafe {
                place.write_bytes(0x90, PAGE);
                place.add(offset).cast::<[u8; 3]>().write(WRPKRU);
            }
            sys::unmap(SELF, at, 1)?;
            sys::code_admit(SELF, frame, Handle::NONE)
        })
        .collect();
    attacker.frames.give(frame, 1)?;
    Ok(Verdict::every(results.into_iter(), &[Error::NoRight]))
}

fn foreign(attacker: &mut Attacker) -> Attempt {
    let (keys, own) = match key(attacker) {
        Ok(key) => key,
        Err(verdict) => return Ok(verdict),
    };
    let mut tries = vec![];
    for key in (1..16).filter(|key| *key != own) {
        tries.push(admit(attacker, (3, &gate(opened(key))), keys));
        tries.push(admit(attacker, (3, &gate(opened(key) & opened(own))), keys));
    }
    tries.push(admit(attacker, (3, &gate(opened(own))), Handle::NONE));
    tries.push(admit(attacker, (3, &gate(0)), keys));
    // Cut off by the end of the page, and with another jump behind.
    tries.push(admit(attacker, (PAGE - GATE_BYTES + 1, &gate(CLOSED)[..GATE_BYTES - 1]), keys));
    let mut other = gate(CLOSED);
    other[9] = 0x04;
    tries.push(admit(attacker, (3, &other), keys));
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn stale(attacker: &mut Attacker) -> Attempt {
    let (keys, key) = match key(attacker) {
        Ok(key) => key,
        Err(verdict) => return Ok(verdict),
    };
    let derive = || sys::cap_derive(keys, Rights::CALL, key.into(), 1);
    let copy = Handle::from_word(derive()?)?;
    until_done(|| sys::cap_revoke(keys))?;
    let revoked = admit(attacker, (3, &gate(opened(key))), copy);
    let made_up = Handle::new(copy.index(), copy.generation() + 1);
    let tries = [revoked, admit(attacker, (3, &gate(opened(key))), made_up)];
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn seam(attacker: &mut Attacker) -> Attempt {
    let (mut tries, mut children) = (vec![], vec![]);
    for split in 1..3 {
        let client = match Client::new(attacker, Code::at(CODE).exit(), COUNTS) {
            Err(Error::NoDevice) => return Ok(Verdict::not_tried("no protection key")),
            client => client?,
        };
        let env = client.child.env;
        let (low, high) = (page(CODE + 2 * FRAME_BYTES)?, page(CODE + 3 * FRAME_BYTES)?);
        let before = frame_with(attacker, env, PAGE - split, &WRPKRU[..split])?;
        let behind = frame_with(attacker, env, 0, &WRPKRU[split..])?;
        for frame in [before, behind] {
            sys::code_admit(env, frame, Handle::NONE)?;
        }
        let map = |frame, at| sys::map(env, env, frame, at, 1, Protection::ReadExecute);
        map(before, low)?;
        tries.push(map(behind, high));
        sys::unmap(env, low, 1)?;
        map(behind, high)?;
        tries.push(map(before, low));
        children.push(client);
    }
    children.into_iter().try_for_each(Client::close)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn not_admitted(attacker: &mut Attacker) -> Attempt {
    let client = match Client::new(attacker, Code::at(CODE).exit(), COUNTS) {
        Err(Error::NoDevice) => return Ok(Verdict::not_tried("no protection key")),
        client => client?,
    };
    let (env, spot) = (client.child.env, page(CODE + FRAME_BYTES)?);
    let plain = frame_with(attacker, env, 0, &WRPKRU)?;
    let mut tries = vec![];
    for (owner, frame) in [(env, plain), (env, client.child.parts.plus(3)), (SELF, client.domain)] {
        tries.push(sys::map(env, owner, frame, spot, 1, Protection::ReadExecute));
    }
    if let Ok(large) = attacker.frames.take_large(env) {
        let at = page(0x1_0000_0000)?;
        attacker.frames.cover_large(env, at)?;
        tries.push(sys::map(env, env, large, at, LARGE_PAGES, Protection::ReadExecute));
    }
    client.close()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn changed(attacker: &mut Attacker) -> Attempt {
    let client = match Client::new(attacker, Code::at(CODE).exit(), COUNTS) {
        Err(Error::NoDevice) => return Ok(Verdict::not_tried("no protection key")),
        client => client?,
    };
    let (at, gate) = (attacker.window()?, client.gate);
    let writable = sys::map(SELF, SELF, gate, at, 1, Protection::ReadWrite);
    // The kernel writes it no more than others do.
    sys::map(SELF, SELF, gate, at, 1, Protection::Read)?;
    let status = sys::env_status(SELF, UserPtr(at.get()));
    sys::unmap(SELF, at, 1)?;
    let given = sys::frames_free(gate, 1);
    let grown = sys::cap_grow(gate);
    let kind = attacker.frames.look(gate).map(|(kind, _)| kind);
    client.close()?;
    let refusals = [Error::NoRight, Error::BadPointer, Error::InUse, Error::NotOwned];
    let tries = [writable, status, given, grown];
    let verdict = Verdict::every(tries.into_iter(), &refusals);
    Ok(if kind == Some(FrameKind::Text) { verdict } else { Verdict::breach("it is memory again") })
}

/// Makes a system call in a client, with `words` as its arguments, and ends with its answer, which must
/// be one of `wanted`. A third argument that is none is the domain's frame.
fn answer(attacker: &Attacker, name: &str, words: &[Option<u64>], wanted: &[Error]) -> Attempt {
    const REGISTERS: [[u8; 2]; 6] = [[0x48, 0xbf], RSI, [0x48, 0xba], [0x49, 0xba], R8, R9];
    // mov rdx, rdi
    let mut code = Code::at(CODE).bytes(&[0x48, 0x89, 0xfa]);
    for (register, word) in REGISTERS.into_iter().zip(words) {
        if let Some(word) = word {
            code = code.load(register, *word);
        }
    }
    // mov rbx, rax
    let code = code.system_call(name).bytes(&[0x48, 0x89, 0xc3]).exit();
    let client = match Client::new(attacker, code, COUNTS) {
        Err(Error::NoDevice) => return Ok(Verdict::not_tried("no protection key")),
        client => client?,
    };
    let domain = client.domain;
    client.child.start(entry(), domain.into_word())?;
    let status = client.child.wait(PATIENCE)?.ok_or(Error::Again)?;
    client.close()?;
    let code = Error::from_code(status.code);
    Ok(Verdict::refused_for(code.map_or(Ok(0), Err), wanted))
}

fn again(attacker: &mut Attacker) -> Attempt {
    let (own, spot) = (Some(SELF.into_word()), Some(CODE + FRAME_BYTES));
    let with = |owner: Option<u64>, wanted| {
        let words = [own, owner, None, spot, Some(1), Some(Protection::ReadWrite as u64)];
        answer(attacker, "map", &words, &[wanted])
    };
    // As its own; and by a handle that would be the store's.
    let as_own = with(own, Error::NotOwned)?;
    if !as_own.is_repelled() {
        return Ok(as_own);
    }
    with(Some(Handle::first(1).into_word()), Error::BadHandle)
}

/// What stands behind a gate, and what it works with, stays where the store has mapped it.
fn replaced(attacker: &mut Attacker) -> Attempt {
    let mut last = Verdict::breach("nothing");
    for at in [GATE, DOMAIN] {
        let words = [Some(SELF.into_word()), Some(at), Some(1)];
        last = answer(attacker, "unmap", &words, &[Error::NoRight])?;
        if !last.is_repelled() {
            return Ok(last);
        }
    }
    Ok(last)
}

fn by_the_kernel(attacker: &mut Attacker) -> Attempt {
    let (own, refused) = (Some(SELF.into_word()), [Error::BadPointer]);
    let written = answer(attacker, "env_status", &[own, Some(DOMAIN)], &refused)?;
    if !written.is_repelled() {
        return Ok(written);
    }
    answer(attacker, "batch", &[Some(DOMAIN), Some(1)], &refused)
}

/// Code that handles an upcall by stealing, behind `code`; and where that is.
fn with_handler(code: Code) -> (Code, u64) {
    let entry = CODE + 2048;
    let mut bytes = code.1;
    bytes.resize(2048, 0xcc);
    let handler = Code::at(entry).steals();
    bytes.extend_from_slice(&handler.1);
    (Code(CODE, bytes), entry)
}

/// A client with a handler calls the gate, behind which is `behind`: it must die by one of `vectors`.
fn upcalled(attacker: &Attacker, code: Code, behind: &[u8], vectors: &[u32]) -> Attempt {
    let (code, entry) = with_handler(code);
    let client = match Client::new(attacker, code, behind) {
        Err(Error::NoDevice) => return Ok(Verdict::not_tried("no protection key")),
        client => client?,
    };
    client.tell(entry)?;
    client.run(vectors)
}

fn exception(attacker: &mut Attacker) -> Attempt {
    // A wild pointer into the gate: at 0x9000, of which the store reads.
    let code = Code::at(CODE).load(R9, 0x9000).call(GATE).exit();
    let client = upcalled(attacker, code, FOLLOWS, &[14])?;
    Ok(client)
}

fn trap_flag(attacker: &mut Attacker) -> Attempt {
    // pushfq; or dword [rsp], 0x100; popfq: the next instruction but one traps; the handler
    // is told of that first one, and steals.
    let flag = [0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d];
    let code = Code::at(CODE).bytes(&flag).call(GATE).exit();
    upcalled(attacker, code, COUNTS, &[1, 14])
}

fn slice(attacker: &mut Attacker) -> Attempt {
    // Some hundred slices behind the gate, or before it: the handler has no rights either way.
    let wait = Code::at(0).load(RCX, 100_000_000).bytes(WAITS);
    let code = Code::at(CODE).call(GATE).steals();
    upcalled(attacker, code, &wait.1, &[14])
}

fn told(attacker: &mut Attacker) -> Attempt {
    // ud2: the handler reads the domain, and that fault, in an upcall, ends it.
    upcalled(attacker, Code::at(CODE).bytes(&[0x0f, 0x0b]), COUNTS, &[14])
}

fn late(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.child()?;
    let guarded = sys::env_guard(child.env);
    child.destroy()?;
    let own = sys::env_guard(SELF);
    let refusals = [Error::WrongState, Error::NoRight, Error::NoDevice];
    Ok(Verdict::every([guarded, own].into_iter(), &refusals))
}
