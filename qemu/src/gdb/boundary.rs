//! How a debugger gets from the kernel's frames to those of the environment that it serves.
//!
//! Where ring 3 enters, the kernel saves its registers at a place that no compiler knows of, so no
//! debug information tells it. It is told here, as call frame information (DWARF 5, 6.4) for the
//! instructions that call the kernel's Rust code, in an object file that has nothing else. The frames are
//! marked as those of signal handlers are: behind them a stack may go on anywhere.

use anyhow::{Context, Result, ensure};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic};
use object::write::Object;
use object::{
    Architecture, BinaryFormat, Endianness, Object as _, ObjectSection, ObjectSymbol, SectionKind,
};

/// A register, by its number in DWARF, and how many words below the end of what was saved it lies.
type Saved = (u8, u8);

/// What lies where while a call is served.
struct Layout {
    /// The register from which the end of what was saved is found, and how many bytes it is away.
    end: (u8, u8),
    saved: &'static [Saved],
    /// Registers that are lost.
    lost: &'static [u8],
}

const RBX: u8 = 3;
const RSP: u8 = 7;
const RIP: u8 = 16;

/// `serve_call!` in `exo/src/arch/syscall.rs`.
const CALL: Layout = Layout {
    end: (RSP, 80),
    saved: &[(RSP, 1), (RIP, 3), (6, 4), (RBX, 5), (12, 6), (13, 7), (14, 8), (15, 9)],
    lost: &[0, 1, 2, 4, 5, 8, 9, 10, 11],
};

/// `trap_common` in `exo/src/arch/vectors.rs`: a `Context`, to which `rbx` points.
const TRAP: Layout = Layout {
    end: (RBX, 176),
    saved: &[
        (RSP, 2),
        (RIP, 5),
        (0, 8),
        (RBX, 9),
        (2, 10),
        (1, 11),
        (4, 12),
        (5, 13),
        (6, 14),
        (8, 15),
        (9, 16),
        (10, 17),
        (11, 18),
        (12, 19),
        (13, 20),
        (14, 21),
        (15, 22),
    ],
    lost: &[],
};

/// Where such calls are: the symbol that begins the code, and the one they lead to, if there are others.
const ENTRIES: [(&str, &Layout); 3] =
    [("syscall_entry", &CALL), ("call_entry", &CALL), ("trap_common", &TRAP)];

/// An object file with the frame information of the kernel in `elf`.
///
/// # Errors
/// The kernel is not built as it was when this was written.
pub(super) fn object(elf: &[u8]) -> Result<Vec<u8>> {
    let elf = object::File::parse(elf)?;
    let mut frames = Vec::new();
    for (name, layout) in ENTRIES {
        let calls = calls(&elf, name)?;
        ensure!(!calls.is_empty(), "the kernel's {name} calls nothing");
        let information = common(layout);
        let at = u32::try_from(frames.len())?;
        frames.extend(information);
        for (address, length) in calls {
            frames.extend(description(at, address, length));
        }
    }
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    // gdb looks at no file that has nothing to load.
    let code = object.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
    object.append_section_data(code, &[0], 1);
    let section = object.add_section(Vec::new(), b".debug_frame".to_vec(), SectionKind::Debug);
    object.append_section_data(section, &frames, 8);
    Ok(object.write()?)
}

/// The calls in the code that begins at a symbol and ends with the return to ring 3, each by address
/// and length, the first byte behind it included.
fn calls(elf: &object::File<'_>, name: &str) -> Result<Vec<(u64, u64)>> {
    let symbol = elf.symbols().find(|symbol| {
        let mangled = symbol.name().unwrap_or_default();
        let plain = addr2line::demangle_auto(mangled.into(), None);
        plain == name || plain.split("::").any(|part| part == name)
    });
    let start = symbol.with_context(|| format!("the kernel has no {name}"))?.address();
    let holds = |section: &object::Section<'_, '_>| {
        (section.address()..section.address() + section.size()).contains(&start)
    };
    let section = elf.sections().find(holds).context("it lies in no section")?;
    let code = section.data()?;
    let code = code.get((start - section.address()) as usize..).unwrap_or_default();
    let mut calls = Vec::new();
    let mut returned = false;
    for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                // For a signal frame gdb looks at the address of return itself, not before it.
                calls.push((instruction.ip(), instruction.len() as u64 + 1));
            }
            // What refuses a number lies behind the return of the others, and jumps back.
            FlowControl::UnconditionalBranch if returned => break,
            FlowControl::Return if instruction.mnemonic() == Mnemonic::Iretq => break,
            FlowControl::Return => returned = true,
            _ => {}
        }
    }
    Ok(calls)
}

/// A common information entry, padded to whole words.
fn common(layout: &Layout) -> Vec<u8> {
    const WORD: u8 = 0x78; // -8, by which offsets are multiplied
    let mut entry = vec![0xff; 4];
    // Version, augmentation: a signal frame, with addresses as they are.
    entry.extend(b"\x01zRS\0");
    entry.extend([1, WORD, RIP, 1, 0]);
    entry.extend([0x0c, layout.end.0]); // DW_CFA_def_cfa
    entry.extend(unsigned(layout.end.1.into()));
    for &(register, words) in layout.saved {
        entry.extend([0x80 | register, words]); // DW_CFA_offset
    }
    for &register in layout.lost {
        entry.extend([0x07, register]); // DW_CFA_undefined
    }
    with_length(entry)
}

/// A frame description entry that refers to the common one at `common`.
fn description(common: u32, address: u64, length: u64) -> Vec<u8> {
    let mut entry = common.to_le_bytes().to_vec();
    entry.extend(address.to_le_bytes());
    entry.extend(length.to_le_bytes());
    entry.push(0); // no augmentation data
    with_length(entry)
}

fn with_length(mut entry: Vec<u8>) -> Vec<u8> {
    // DW_CFA_nop is zero.
    entry.resize((entry.len() + 4).next_multiple_of(8) - 4, 0);
    let mut whole = (entry.len() as u32).to_le_bytes().to_vec();
    whole.append(&mut entry);
    whole
}

/// LEB128.
fn unsigned(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
