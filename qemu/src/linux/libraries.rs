//! What a program of a package needs to run: its loader and shared libraries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::read::Object;
use object::read::elf::{ElfFile64, ProgramHeader};

use super::packages::Packages;

/// Where Debian's loader looks for libraries; the last because some name it (fio's).
const PLACES: [&str; 5] = [
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu/ceph",
];

/// The files besides `program` that it takes to run it, as (path in the guest, file).
///
/// # Errors
/// A library is in none of the packages. It may be that of a package whose name does not
/// begin as the set says.
pub(super) fn needed(packages: &Packages, program: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut open = vec![packages.file(program)?];
    while let Some(file) = open.pop() {
        let bytes = std::fs::read(&file).with_context(|| format!("{}", file.display()))?;
        let (loader, libraries) = imports(&bytes).with_context(|| format!("{}", file.display()))?;
        if let Some(loader) = loader {
            let file = packages.file(&loader)?;
            found.insert(loader.trim_start_matches('/').to_owned(), file);
        }
        for library in libraries {
            let places = PLACES.iter().map(|place| format!("{place}/{library}"));
            let Some(file) = places.filter_map(|path| packages.file(&path).ok()).next() else {
                bail!("{program} needs {library}, which none of its packages holds");
            };
            let path = format!("lib/{library}");
            if found.insert(path, file.clone()).is_none() {
                open.push(file);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The loader that an ELF file names, and the libraries.
fn imports(elf: &[u8]) -> Result<(Option<String>, Vec<String>)> {
    let elf = ElfFile64::<Endianness>::parse(elf).context("not an ELF file")?;
    let mut loader = None;
    for segment in elf.elf_program_headers() {
        if let Some(path) = segment.interpreter(elf.endian(), elf.data())? {
            loader = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let mut libraries = Vec::new();
    for library in elf.import_libraries()? {
        libraries.push(String::from_utf8_lossy(library?.name()).into_owned());
    }
    Ok((loader, libraries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_program_imports() {
        // This program is dynamically linked itself.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let (loader, libraries) = imports(&own).unwrap();
        assert!(loader.unwrap().starts_with("/lib"));
        assert!(libraries.iter().any(|library| library.starts_with("libc.so")), "{libraries:?}");
        assert!(imports(b"#!/bin/sh").is_err());
    }
}
