//! Every instruction of the guest with its function and row, from the programs'
//! debug information.
//!
//! At an address there may be a chain of functions, each inlined into the next.
//! The row is that of the innermost one in this source tree that has one; the
//! function by which it is listed is the innermost one in this source tree.

use std::collections::HashMap;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSection, SectionFlags};

use super::layout::{self, FIXED, NEUTRAL, Place, Section};
use super::rows::{self, Charge, Row};
use super::steps::Steps;
use crate::signals::Signals;
use crate::workspace;

/// The guest's code.
#[derive(Debug, Default)]
pub(crate) struct Table {
    sections: Vec<Section>,
    functions: Functions,
}

/// A function that instructions are counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    /// The program it is part of, or what stands in its place.
    pub(crate) image: String,
    /// Its name and, if it is in this source tree, its file.
    pub(crate) name: String,
}

/// Functions by number; those with a fixed meaning first.
#[derive(Debug)]
struct Functions {
    all: Vec<Function>,
    numbers: HashMap<Function, u32>,
}

/// A function of the chain at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) function: &'a str,
    /// The file, from the root of the source tree; none if it is not in there.
    pub(crate) file: Option<&'a str>,
}

/// The chain of functions at an address, innermost first: what debug information says.
#[derive(Debug)]
pub(crate) struct Chain(Vec<(String, Option<String>)>);

impl Chain {
    /// Reads that of `address`.
    pub(crate) fn at(loader: &Loader, address: u64) -> Self {
        let mut chain = Vec::new();
        if let Ok(mut frames) = loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let function =
                    frame.function.and_then(|function| function.demangle().ok().map(Into::into));
                let file = frame.location.and_then(|location| location.file).map(ToOwned::to_owned);
                chain.push((function.unwrap_or_default(), file));
            }
        }
        Self(chain)
    }

    /// Its functions, with files from `root` on.
    pub(crate) fn frames(&self, root: &str) -> Vec<Frame<'_>> {
        self.0.iter().map(|(function, file)| Frame::of(function, file, root)).collect()
    }
}

impl<'a> Frame<'a> {
    fn of(function: &'a str, file: &'a Option<String>, root: &str) -> Self {
        let file = file.as_deref().and_then(|file| within(root, file));
        Self { function, file }
    }
}

/// The symbol at an address, as people write it.
pub(crate) fn symbol_at(loader: &Loader, address: u64) -> String {
    let symbol = loader.find_symbol(address).unwrap_or("no symbol");
    addr2line::demangle_auto(symbol.into(), None).into_owned()
}

impl Default for Functions {
    fn default() -> Self {
        let mut functions = Self { all: Vec::new(), numbers: HashMap::new() };
        functions.number("no program", "code of the firmware, or made at run time");
        functions.number("some program", "code that two programs have at one address");
        debug_assert_eq!(functions.all.len(), FIXED as usize);
        functions
    }
}

impl Functions {
    fn number(&mut self, image: &str, name: &str) -> u32 {
        let function = Function { image: image.to_owned(), name: name.to_owned() };
        if let Some(number) = self.numbers.get(&function) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.all.push(function.clone());
        self.numbers.insert(function, number);
        number
    }
}

impl Table {
    /// Reads the programs, which must have been built.
    pub(crate) fn of_programs<'a>(
        images: impl IntoIterator<Item = &'a str>,
        steps: &Steps,
        interrupt: &Signals,
    ) -> Result<Self> {
        let mut table = Self::default();
        for image in images {
            let path = workspace::guest_elf(image);
            table
                .add(image, &path, steps, interrupt)
                .with_context(|| format!("{}", path.display()))?;
        }
        Ok(table)
    }

    /// A table of one function in one row.
    #[cfg(test)]
    pub(crate) fn of_code(address: u64, code: &[u8], row: Row) -> Self {
        let mut table = Self::default();
        let place = Place::new(table.functions.number("test", "f"), row.index() as u8);
        let section = Section { address, code: code.to_vec(), places: vec![place; code.len()] };
        table.sections.push(section);
        table
    }

    /// All functions; their places are their numbers.
    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions.all
    }

    /// The table as the plugin reads it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        layout::encode(&self.sections)
    }

    fn add(&mut self, image: &str, path: &Path, steps: &Steps, interrupt: &Signals) -> Result<()> {
        let root = workspace::root().to_str().context("the source tree's path is not text")?;
        let bytes = std::fs::read(path).context("cannot read it")?;
        let elf = object::File::parse(&*bytes).context("not an ELF file")?;
        // What it returns is not an error that other threads could be told of.
        let loader = Loader::new(path).map_err(|error| anyhow!("debug information: {error}"))?;
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            if !sh_flags.contains(object::elf::SHF_EXECINSTR) {
                continue;
            }
            let code = section.data()?.to_vec();
            let address = section.address();
            // A program takes seconds.
            let place = |address| -> Result<_> {
                interrupt.check()?;
                Ok(self.place(image, &loader, address, root, steps))
            };
            let places = (address..).take(code.len()).map(place).collect::<Result<_>>()?;
            self.sections.push(Section { address, code, places });
        }
        Ok(())
    }

    fn place(
        &mut self,
        image: &str,
        loader: &Loader,
        address: u64,
        root: &str,
        steps: &Steps,
    ) -> Place {
        let chain = Chain::at(loader, address);
        let (frames, symbol) = (chain.frames(root), symbol_at(loader, address));
        let (function, charge) = judge(&frames, &symbol, steps);
        let row = match charge {
            Charge::To(row) => row.index() as u8,
            Charge::Neutral => NEUTRAL,
        };
        Place::new(self.functions.number(image, &function), row)
    }
}

/// The function to list an instruction under, and how it counts. `frames` is its
/// chain of functions, innermost first.
pub(crate) fn judge(frames: &[Frame<'_>], symbol: &str, steps: &Steps) -> (String, Charge) {
    let own = || frames.iter().filter_map(|frame| Some((frame.function, frame.file?)));
    let Some((function, file)) = own().next() else {
        let outermost = frames.last().map(|frame| frame.function);
        let function = outermost.filter(|function| !function.is_empty()).unwrap_or(symbol);
        return (function.to_owned(), rows::of_symbol(symbol));
    };
    let of_source =
        |file, function| steps.of_source(file, function).or(rows::of_source(file, function));
    let charge = own().find_map(|(function, file)| match of_source(file, function) {
        Some(Charge::To(row)) => Some(Charge::To(row)),
        Some(Charge::Neutral) => None,
        None => Some(Charge::To(Row::Other)),
    });
    let name = format!("{file} {}", rows::last_part(function));
    (name, charge.unwrap_or(Charge::Neutral))
}

/// The path from `root` on, if `file` is in there and not in what cargo keeps there.
fn within<'a>(root: &str, file: &'a str) -> Option<&'a str> {
    let path = file.strip_prefix(root)?.strip_prefix('/')?;
    (!path.starts_with("target/")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own<'a>(function: &'a str, file: &'a str) -> Frame<'a> {
        Frame { function, file: Some(file) }
    }

    fn foreign(function: &str) -> Frame<'_> {
        Frame { function, file: None }
    }

    #[test]
    fn the_innermost_row_counts() {
        let receive = own("exo::net::receive", "exo/src/net/mod.rs");
        let sync = own("exo::calls::network::net_sync", "exo/src/calls/network.rs");
        let get = own("exo::frames::object::get", "exo/src/frames/object.rs");
        let min = foreign("core::cmp::min");
        let walk = own("walk<exo::A, B>", "dpf/src/trie.rs");
        let classify = own("exo::net::filter::look_up", "exo/src/net/filter.rs");
        let closure = own("{closure#0}", "exo/src/net/nic.rs");
        for (frames, name, charge) in [
            (&[receive, sync][..], "exo/src/net/mod.rs receive", Charge::To(Row::Receive)),
            (&[get, sync], "exo/src/frames/object.rs get", Charge::To(Row::Crossing)),
            (&[min, get, receive, sync], "exo/src/frames/object.rs get", Charge::To(Row::Receive)),
            (&[min, walk, classify, receive], "dpf/src/trie.rs walk", Charge::To(Row::Classify)),
            (&[closure, classify], "exo/src/net/nic.rs {closure#0}", Charge::To(Row::Classify)),
            // Not inlined: the caller is known when it runs.
            (&[walk], "dpf/src/trie.rs walk", Charge::Neutral),
            (&[min, foreign("core::fmt::write")], "core::fmt::write", Charge::Neutral),
            (&[foreign("")], "symbol", Charge::Neutral),
            (&[], "symbol", Charge::Neutral),
            (&[own("f", "new/src/lib.rs"), sync], "new/src/lib.rs f", Charge::To(Row::Other)),
        ] {
            assert_eq!(
                judge(frames, "symbol", &Steps::default()),
                (name.to_owned(), charge),
                "{frames:?}"
            );
        }
        let entry = "exo::arch::syscall::syscall_entry";
        assert_eq!(
            judge(&[], entry, &Steps::default()),
            (entry.to_owned(), Charge::To(Row::Crossing))
        );
    }

    #[test]
    fn only_this_tree_is_own() {
        assert_eq!(within("/src/exo", "/src/exo/dpf/src/lib.rs"), Some("dpf/src/lib.rs"));
        assert_eq!(within("/src/exo", "/src/exokernel/lib.rs"), None);
        assert_eq!(within("/src/exo", "/rustc/1/library/core/src/num.rs"), None);
        assert_eq!(within("/src/exo", "/src/exo/target/debug/build/x/out/gen.rs"), None);
    }

    #[test]
    fn functions_have_one_number_each() {
        let mut functions = Functions::default();
        let first = functions.number("kvstore", "f");
        assert_eq!(first, FIXED);
        assert_eq!(functions.number("root", "f"), first + 1);
        assert_eq!(functions.number("kvstore", "f"), first);
        assert_eq!(functions.all[first as usize].image, "kvstore");
    }
}
