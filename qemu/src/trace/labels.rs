//! What the guest's instructions are part of, from the programs' debug information.
//!
//! Every instruction has a label: in the kernel how it was entered, or which step of a packet's
//! journey it is, or what it does that a reader of a timeline wants to see; in an application the
//! step, the beginning and the end of upcalls, and its own probes.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context, Result, anyhow, bail, ensure};
use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags};

use super::journal::at;
use crate::bench::layout::{self, NEUTRAL, Place, Section};
use crate::bench::rows::{Charge, Row, last_part};
use crate::bench::steps::Steps;
use crate::bench::table::{Chain, Frame, judge, symbol_at};
use crate::{guest, workspace};

/// What some code is part of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    /// The program, by its name.
    pub(crate) image: String,
    /// What is known of it.
    pub(crate) code: Code,
    /// The step of a packet's journey; none if it is none, or serves several.
    pub(crate) row: Option<Row>,
}

/// What is known of some code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    /// No program's: the firmware's, or made at run time.
    Unknown,
    /// The kernel's.
    Kernel,
    /// Where system calls enter the kernel.
    Enter,
    /// The entry of the system call of this number.
    Call(u64),
    /// Where an exception or an interrupt of this number enters the kernel.
    Vector(u8),
    /// Part of the kernel that does this.
    Does(Deed),
    /// An application's.
    User,
    /// Where its upcalls begin.
    Upcall,
    /// The last instruction of an upcall.
    UpcallEnd,
    /// A probe of this name.
    Probe(String),
}

/// What the kernel does that a timeline shows as a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// Waits for an interrupt.
    Halts,
    /// Ends the slice.
    EndsSlice,
    /// Ends an environment for an exception.
    Faults,
    /// Begins an environment.
    Starts,
    /// Ends an environment.
    Ends,
    /// Asks for frames and slots back.
    AsksBack,
    /// Takes a frame.
    Takes,
    /// Lets an environment's code run in ring 0.
    Elevates,
    /// Ends that.
    Lowers,
}

/// A file and a function of the kernel, and what it does.
const DEEDS: &[(&str, &str, Deed)] = &[
    ("exo/src/arch/cpu.rs", "halt_until_interrupt", Deed::Halts),
    ("exo/src/trap.rs", "slice_ends", Deed::EndsSlice),
    ("exo/src/trap.rs", "fault", Deed::Faults),
    ("exo/src/env/lifecycle.rs", "start", Deed::Starts),
    ("exo/src/env/lifecycle.rs", "end", Deed::Ends),
    ("exo/src/env/revocation.rs", "request", Deed::AsksBack),
    ("exo/src/env/revocation.rs", "enforce", Deed::Takes),
    ("exo/src/elevation/mod.rs", "begin", Deed::Elevates),
    ("exo/src/elevation/mod.rs", "end", Deed::Lowers),
];

/// Where system calls enter the kernel, by the last part of a symbol.
const ENTRIES: &[&str] = &["syscall_entry", "call_entry", "direct_entry"];
/// The functions that serve one system call each, by its number; and last one for numbers that are
/// none.
const CALLS: &str = "exo::calls::entry::CALLS";
/// The first of 256 stubs, a vector each.
const STUBS: &str = "vector_stubs";
/// Bytes of a stub.
const STUB: u64 = 16;
/// Where an application's upcalls begin.
const UPCALL: &str = "libos::upcall::entry::entry";
/// Bytes of the instruction an upcall ends with, `ret 128`.
const UPCALL_END: u64 = 3;
/// The section that tells of probes: the address of each, eight bytes, and its name, which a zero
/// ends.
const PROBES: &str = ".exo_probes";

/// What the kernel keeps of each processor, and the function that sets which environment's
/// upcall words are in it.
const CORES: &str = "exo::arch::percpu::CORES";
const SETTER: (&str, &str) = ("exo/src/arch/percpu.rs", "set_upcalls");

/// The guest's code by label.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    sections: Vec<Section>,
    all: Vec<Label>,
    numbers: HashMap<Label, u32>,
    cores: Cores,
}

/// Where the kernel keeps what it keeps of each processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cores {
    /// Its virtual address.
    pub(super) address: u64,
    /// Bytes for each processor.
    pub(super) stride: u64,
    /// Where in these the address of the running environment's upcall words is.
    pub(super) upcalls: u64,
}

/// A program while it is read.
struct Program<'a> {
    image: &'a str,
    loader: &'a Loader,
    steps: &'a Steps,
    kernel: bool,
    stubs: u64,
    calls: Vec<(Range<u64>, u64)>,
    upcall: Range<u64>,
    probes: HashMap<u64, String>,
}

impl Labels {
    /// Reads the kernel and the programs in ring 3, which must have been built.
    pub(crate) fn of_programs<'a>(images: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let steps = Steps::of_workspace()?;
        let mut labels = Self::default();
        // Code that no program has, and code that several have at one address: see `layout`.
        let unknown = Label { image: String::new(), code: Code::Unknown, row: None };
        labels.all.extend([unknown.clone(), unknown]);
        for image in std::iter::once(guest::KERNEL).chain(images) {
            let path = workspace::guest_elf(image);
            labels.add(image, &path, &steps).with_context(|| format!("{}", path.display()))?;
        }
        labels.ensure_complete()?;
        Ok(labels)
    }

    /// The label of that number.
    pub(crate) fn get(&self, number: u32) -> &Label {
        self.all.get(number as usize).unwrap_or(&self.all[0])
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        layout::encode(&self.sections)
    }

    pub(super) fn cores(&self) -> Cores {
        self.cores
    }

    fn number(&mut self, label: Label) -> u32 {
        if let Some(number) = self.numbers.get(&label) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push(label.clone());
        self.numbers.insert(label, number);
        number
    }

    fn add(&mut self, image: &str, path: &Path, steps: &Steps) -> Result<()> {
        let root = workspace::root().to_str().context("the source tree's path is not text")?;
        let bytes = std::fs::read(path).context("cannot read it")?;
        let elf = object::File::parse(&*bytes).context("not an ELF file")?;
        let loader = Loader::new(path).map_err(|error| anyhow!("debug information: {error}"))?;
        let find = |wanted: &str| {
            elf.symbols().find_map(|symbol| {
                let name = addr2line::demangle_auto(symbol.name().ok()?.into(), None);
                (without_hash(&name) == wanted).then(|| (symbol.address(), symbol.size()))
            })
        };
        let kernel = image == guest::KERNEL;
        let stubs = match kernel {
            true => find(STUBS).context("has no vectors")?.0,
            false => 0,
        };
        let calls = match kernel {
            true => calls(&elf, find(CALLS).context("has no table of system calls")?)?,
            false => Vec::new(),
        };
        let upcall = find(UPCALL).map_or(0..0, |(address, size)| address..address + size);
        let probes = match elf.section_by_name(PROBES) {
            Some(section) => probes(section.data()?).context("its probes make no sense")?,
            None => HashMap::new(),
        };
        if kernel {
            let (address, size) = find(CORES).context("has no data of processors")?;
            let stride = size / exo_abi::MAX_CORES as u64;
            self.cores = Cores { address, stride, upcalls: 0 };
        }
        let loader = &loader;
        let program = Program { image, loader, steps, kernel, stubs, calls, upcall, probes };
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            if !sh_flags.contains(object::elf::SHF_EXECINSTR) {
                continue;
            }
            let (code, first) = (section.data()?.to_vec(), section.address());
            let mut places = vec![Place::new(0, NEUTRAL); code.len()];
            let mut decoder = Decoder::with_ip(64, &code, first, DecoderOptions::NONE);
            while decoder.can_decode() {
                let instruction = decoder.decode();
                let address = instruction.ip();
                let chain = Chain::at(loader, address);
                let frames = chain.frames(root);
                if kernel
                    && is(&frames, SETTER)
                    && instruction.mnemonic() == Mnemonic::Mov
                    && instruction.op0_kind() == OpKind::Memory
                    && instruction.segment_prefix() == Register::GS
                {
                    self.cores.upcalls = instruction.memory_displacement64();
                }
                let (label, row) = program.label(address, &frames);
                let place = Place::new(self.number(label), row);
                let offset = (address - first) as usize;
                places[offset..offset + instruction.len()].fill(place);
            }
            self.sections.push(Section { address: first, code, places });
        }
        Ok(())
    }

    /// Fails if code that the timeline is made of was not found: it has another name now.
    fn ensure_complete(&self) -> Result<()> {
        let has = |wanted: &Code| self.all.iter().any(|label| label.code == *wanted);
        for (file, function, deed) in DEEDS {
            ensure!(has(&Code::Does(*deed)), "the kernel has no code of {file} {function}");
        }
        for code in [Code::Enter, Code::Vector(14)] {
            ensure!(has(&code), "no code is known as {code:?}");
        }
        for call in exo_abi::SYSCALLS {
            let found = has(&Code::Call(exo_abi::call_number(call.name)));
            ensure!(found, "the kernel has no code that serves `{}`", call.name);
        }
        if self.cores.upcalls == 0 {
            bail!("the kernel's code does not tell where it keeps which environment runs");
        }
        Ok(())
    }
}

impl Program<'_> {
    /// The label of an instruction, and what the plugin does there.
    fn label(&self, address: u64, frames: &[Frame<'_>]) -> (Label, u8) {
        let symbol = symbol_at(self.loader, address);
        let symbol = without_hash(&symbol);
        let row = match judge(frames, symbol, self.steps).1 {
            Charge::To(row) => Some(row),
            Charge::Neutral => None,
        };
        let code =
            if self.kernel { self.ring_0(address, symbol, frames) } else { self.ring_3(address) };
        let at = match code {
            Code::Upcall => at::UPCALL,
            Code::Probe(_) => at::PROBE,
            Code::Kernel | Code::User if row.is_none() => NEUTRAL,
            _ => at::LABEL,
        };
        // What is no step is told by the call, or by nothing.
        let row = row.filter(|row| row.step().is_some());
        (Label { image: self.image.to_owned(), code, row }, at)
    }

    fn ring_0(&self, address: u64, symbol: &str, frames: &[Frame<'_>]) -> Code {
        let stub = address.wrapping_sub(self.stubs) / STUB;
        if let Ok(vector) = u8::try_from(stub) {
            return Code::Vector(vector);
        }
        // The function's own instructions; what is inlined into it is labelled as it is elsewhere.
        let call = self.calls.iter().find(|(code, _)| frames.len() <= 1 && code.contains(&address));
        if let Some((_, number)) = call {
            return Code::Call(*number);
        }
        if ENTRIES.contains(&last_part(symbol)) {
            return Code::Enter;
        }
        let deed = DEEDS.iter().find(|(file, function, _)| is(frames, (file, function)));
        deed.map_or(Code::Kernel, |(.., deed)| Code::Does(*deed))
    }

    fn ring_3(&self, address: u64) -> Code {
        if let Some(name) = self.probes.get(&address) {
            return Code::Probe(name.clone());
        }
        match &self.upcall {
            upcall if upcall.is_empty() => Code::User,
            upcall if address == upcall.start => Code::Upcall,
            upcall if address == upcall.end - UPCALL_END => Code::UpcallEnd,
            _ => Code::User,
        }
    }
}

/// Where the functions lie that serve a system call each, and its number, from the table that the
/// kernel's entry calls through.
fn calls(elf: &object::File<'_>, (address, size): (u64, u64)) -> Result<Vec<(Range<u64>, u64)>> {
    let holds = |section: &object::Section<'_, '_>| {
        (section.address()..section.address() + section.size()).contains(&address)
    };
    let section = elf.sections().find(holds).context("its table of system calls is nowhere")?;
    let data =
        section.data_range(address, size)?.context("its table of system calls is cut off")?;
    let sizes: HashMap<u64, u64> = elf
        .symbols()
        .filter(|symbol| symbol.size() != 0)
        .map(|symbol| (symbol.address(), symbol.size()))
        .collect();
    let functions = data.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let numbered = functions.zip(0..).take(exo_abi::SYSCALLS.len());
    let range = |(start, number): (u64, u64)| {
        let size =
            sizes.get(&start).with_context(|| format!("no function serves call {number}"))?;
        Ok((start..start + size, number))
    };
    numbered.map(range).collect()
}

/// Whether the function is in the chain, or what it is written in.
fn is(frames: &[Frame<'_>], (file, function): (&str, &str)) -> bool {
    frames.iter().any(|frame| frame.file == Some(file) && last_part(frame.function) == function)
}

/// A symbol without the hash that is behind it in one of the two ways of mangling.
fn without_hash(symbol: &str) -> &str {
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => symbol,
    }
}

/// The probes that a program's section tells of.
fn probes(mut bytes: &[u8]) -> Option<HashMap<u64, String>> {
    let mut all = HashMap::new();
    while !bytes.is_empty() {
        let (address, rest) = bytes.split_first_chunk::<8>()?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        let name = std::str::from_utf8(&rest[..end]).ok()?;
        all.insert(u64::from_le_bytes(*address), name.to_owned());
        bytes = &rest[end + 1..];
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_addresses_with_names() {
        let bytes = b"\x10\0\x40\0\0\0\0\0parsed\0\x20\0\x40\0\0\0\0\0sent\0";
        let found = probes(bytes).unwrap();
        assert_eq!((found[&0x40_0010].as_str(), found[&0x40_0020].as_str()), ("parsed", "sent"));
        assert_eq!(found.len(), 2);
        assert_eq!(probes(&bytes[..bytes.len() - 1]), None, "no end");
        assert_eq!(probes(&[1, 2]), None);
        assert_eq!(probes(&[]), Some(HashMap::new()));
    }

    #[test]
    fn hashes_are_no_part_of_a_name() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hello"), "a::hello");
    }

    #[test]
    fn what_the_kernel_does_is_in_its_source() {
        for (file, function, _) in DEEDS.iter().chain([&(SETTER.0, SETTER.1, Deed::Halts)]) {
            let text = std::fs::read_to_string(workspace::root().join(file)).unwrap();
            assert!(text.contains(&format!("fn {function}")), "{file} has no {function}");
        }
    }
}
