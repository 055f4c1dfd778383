//! From an ELF executable to an [`Image`]: loadable segments, laid out flat.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use exo_bundle::{EXEC, PAGE, READ, WRITE};
use object::Endianness;
use object::elf::{EM_X86_64, ET_EXEC, FileHeader64, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use super::{Image, Segment};

type Header = FileHeader64<Endianness>;

impl Image {
    /// Reads the ELF executable at `path` as the image `name`.
    pub fn from_elf_file(name: &str, path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::from_elf(name, &bytes).with_context(|| format!("{}", path.display()))
    }

    /// Takes what a statically linked x86-64 ELF executable wants in memory.
    ///
    /// A segment that does not start on a page is extended downwards with zeros;
    /// the linker has left that part of the page alone, else the result would
    /// overlap its neighbour and be refused.
    pub fn from_elf(name: &str, elf: &[u8]) -> Result<Self> {
        let header = Header::parse(elf).context("not an ELF file")?;
        let endian = header.endian()?;
        ensure!(
            header.e_machine(endian) == EM_X86_64 && header.e_type(endian) == ET_EXEC,
            "not an x86-64 executable with fixed addresses"
        );
        let mut segments = Vec::new();
        for program in header.program_headers(endian, elf)? {
            match program.p_type(endian) {
                PT_LOAD if program.p_memsz(endian) > 0 => {}
                PT_INTERP | PT_DYNAMIC => bail!("dynamically linked"),
                _ => continue,
            }
            let Ok(contents) = program.data(endian, elf) else {
                bail!("a segment lies outside of the file");
            };
            let flags = program.p_flags(endian);
            let below = program.p_vaddr(endian) % PAGE;
            let mut data = vec![0; below as usize];
            data.extend(contents);
            let mut kept = READ;
            kept |= if flags.contains(PF_W) { WRITE } else { 0 };
            kept |= if flags.contains(PF_X) { EXEC } else { 0 };
            segments.push(Segment {
                va: program.p_vaddr(endian) - below,
                mem_len: program.p_memsz(endian).checked_add(below).context("segment too long")?,
                flags: kept,
                data,
            });
        }
        segments.sort_by_key(|segment| segment.va);
        Ok(Self { name: name.to_owned(), entry: header.e_entry(endian), segments })
    }
}
