//! Turns the addresses of a backtrace into functions, files and lines.
//!
//! The guest prints `SPEAKER: backtrace: IMAGE ADDRESS…`, innermost address first,
//! and has no debug information. The host has: in the ELF file of that name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use addr2line::Loader;

use crate::workspace;

/// Looks addresses up in the guest's programs, each of which is loaded once.
pub struct Symboliser {
    dir: PathBuf,
    images: HashMap<String, Option<Loader>>,
}

/// A console line that is a backtrace.
#[derive(Debug, PartialEq, Eq)]
struct Backtrace<'a> {
    image: &'a str,
    addresses: Vec<u64>,
}

impl Default for Symboliser {
    fn default() -> Self {
        Self::new(&workspace::guest_elf(""))
    }
}

impl Symboliser {
    /// Looks for the programs in the directory `dir`, an ELF file each.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), images: HashMap::new() }
    }

    /// The frames of a backtrace line, one printable line each, innermost first;
    /// nothing if `line` is not a backtrace.
    ///
    /// The first address is taken as it is. The others are return addresses, and
    /// what counts is the call before them. Inlined functions get lines of their own.
    pub fn explain(&mut self, line: &str) -> Vec<String> {
        let Some(backtrace) = Backtrace::parse(line) else { return Vec::new() };
        let mut lines = Vec::new();
        for (index, &address) in backtrace.addresses.iter().enumerate() {
            let sought = address.saturating_sub(u64::from(index > 0));
            let found = self.frames(backtrace.image, sought);
            if found.is_empty() {
                lines.push(format!("{index:4}: {address:#x} (no symbol)"));
            }
            for (depth, frame) in found.iter().enumerate() {
                match depth {
                    0 => lines.push(format!("{index:4}: {frame}")),
                    _ => lines.push(format!("      {frame}")),
                }
            }
        }
        lines
    }

    /// The functions at an address, innermost first; only the last is not inlined.
    fn frames(&mut self, image: &str, address: u64) -> Vec<String> {
        let path = self.dir.join(image);
        let loader = self.images.entry(image.to_owned()).or_insert_with(|| Loader::new(path).ok());
        let Some(loader) = loader else { return Vec::new() };
        let mut frames = Vec::new();
        if let Ok(mut found) = loader.find_frames(address) {
            while let Ok(Some(frame)) = found.next() {
                let function = frame
                    .function
                    .and_then(|function| Some(function.demangle().ok()?.into_owned()));
                let function = function.unwrap_or_else(|| "?".to_owned());
                let place = frame.location.and_then(|place| Some((place.file?, place.line?)));
                frames.push(match place {
                    Some((file, line)) => format!("{function} ({}:{line})", shorten(file)),
                    None => function,
                });
            }
        }
        if frames.is_empty() {
            let symbol = loader.find_symbol(address);
            frames.extend(
                symbol.map(|name| addr2line::demangle_auto(name.into(), None).into_owned()),
            );
        }
        frames
    }
}

impl<'a> Backtrace<'a> {
    /// Reads `SPEAKER: backtrace: IMAGE ADDRESS…`; the speaker may be lying, so
    /// the image must be a plain file name.
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once(": backtrace: ")?;
        let mut words = rest.split_whitespace();
        let image = words.next()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !image.bytes().all(plain) {
            return None;
        }
        let addresses =
            words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        Some(Self { image, addresses: addresses.take(64).collect() })
    }
}

/// A source path without what is the same for all of them.
fn shorten(file: &str) -> &str {
    let root = workspace::root().to_str().and_then(|root| file.strip_prefix(root));
    if let Some(within) = root {
        return within.trim_start_matches('/');
    }
    // Crates of a registry, and the standard library: from the crate's directory on.
    let crates = file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    let library = file.split_once("/rustc/").and_then(|(_, rest)| rest.split_once('/'));
    crates.or(library).map_or(file, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_backtrace_lines_only() {
        let parse = |line| Backtrace::parse(line).map(|found| (found.image, found.addresses));
        assert_eq!(
            parse("exo: backtrace: exokernel 0xffffffff80212345 0x10"),
            Some(("exokernel", vec![0xffff_ffff_8021_2345, 0x10]))
        );
        assert_eq!(parse("root: backtrace: kvstore"), Some(("kvstore", vec![])));
        assert_eq!(parse("root: backtrace: kvstore 0x1 and more"), Some(("kvstore", vec![1])));
        assert_eq!(parse("kvstore: backtrace: ../../etc/passwd 0x1"), None);
        assert_eq!(parse("kvstore: serving"), None);
        assert_eq!(parse("exo: backtrace: "), None);
    }

    #[test]
    fn an_unknown_program_leaves_the_addresses() {
        let mut symboliser = Symboliser::new(Path::new("/nonexistent"));
        assert_eq!(symboliser.explain("root: backtrace: ghost 0x10"), ["   0: 0x10 (no symbol)"]);
        assert!(symboliser.explain("root: no such thing").is_empty());
    }

    /// Looks up an address in this very test program: it has debug information, and
    /// says itself where it was loaded.
    #[test]
    fn finds_function_file_and_line() {
        #[inline(never)]
        fn marked() -> u32 {
            line!()
        }
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
        let base = u64::from_str_radix(line.split_once('-').unwrap().0, 16).unwrap();

        // The test program's name is too free for a backtrace line; look inside.
        let mut symboliser = Symboliser::new(program.parent().unwrap());
        let image = program.file_name().unwrap().to_str().unwrap();
        let frames = symboliser.frames(image, marked as fn() -> u32 as usize as u64 - base);
        let frame = frames.last().expect("no frame");
        assert!(frame.contains("marked"), "{frame}");
        // The first instruction may belong to the head, the body or the closing brace.
        let place = |line: u32| frame.ends_with(&format!("qemu/src/symbols.rs:{line})"));
        assert!((marked() - 1..=marked() + 1).any(place), "{frame}");
    }

    #[test]
    fn paths_are_short() {
        let own = workspace::root().join("exo/src/main.rs");
        assert_eq!(shorten(own.to_str().unwrap()), "exo/src/main.rs");
        assert_eq!(shorten("/rustc/59807616/library/core/src/num.rs"), "library/core/src/num.rs");
        assert_eq!(shorten("/c/registry/src/index-1/x-1.0/src/a.rs"), "x-1.0/src/a.rs");
    }
}
