//! Which modules of a crate refer to each other in a circle.
//!
//! A module refers to another if a path in its code leads there, wherever it stands: in an
//! import, in an expression or in what a macro is given. A name that is re-exported leads to
//! the module it comes from, so that `pub use` neither makes a circle nor hides one. Tests and
//! all that the guest does not have are left out, and so is the crate's root, which only says
//! which modules there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::cfg::Config;
use super::count::excluded;

/// The name of a module, or of something in one: `a::b` as `["a", "b"]`.
type Name = Vec<String>;

/// The modules of the largest circle in the crate whose source is in `directory` and consists
/// of `files`; one that is in no circle, if there is none.
pub(super) fn largest<'a>(
    directory: &Path,
    files: impl Iterator<Item = &'a PathBuf>,
    config: &Config,
) -> Result<Vec<String>> {
    let mut modules = BTreeMap::new();
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let parse = || -> syn::Result<_> {
            let (file, tokens) = (syn::parse_file(&text)?, text.parse::<TokenStream>()?);
            Ok((excluded(&file, config), tokens))
        };
        let parsed = parse().with_context(|| format!("{}", path.display()))?;
        modules.insert(name(path.strip_prefix(directory).unwrap_or(path)), parsed);
    }
    let known: BTreeSet<Name> = modules.keys().cloned().collect();
    let found: BTreeMap<_, _> = modules
        .into_iter()
        .map(|(module, (excluded, tokens))| {
            let mut scan = Scan { module, known: &known, excluded, found: Found::default() };
            scan.tokens(tokens);
            (scan.module, scan.found)
        })
        .collect();
    let reached: BTreeMap<_, _> =
        found.keys().map(|from| (from, reach(&found, &known, from))).collect();
    let circle = |module: &Name| {
        let others = reached[module].iter().filter(|other| reached[*other].contains(module));
        others.chain([module]).cloned().collect::<BTreeSet<_>>()
    };
    let circles = found.keys().filter(|name| !name.is_empty()).map(circle);
    let largest = circles.max_by_key(BTreeSet::len).unwrap_or_default();
    Ok(largest.iter().map(|name| name.join("::")).collect())
}

/// The modules that `from` leads to, directly or not.
fn reach(found: &BTreeMap<Name, Found>, known: &BTreeSet<Name>, from: &Name) -> BTreeSet<Name> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = left.pop() {
        for path in found.get(&module).into_iter().flat_map(|found| &found.paths) {
            let to = home(found, known, path);
            if !to.is_empty() && to != module && reached.insert(to.clone()) {
                left.push(to);
            }
        }
    }
    reached
}

/// The module in which `path` is defined, behind all re-exports.
fn home(found: &BTreeMap<Name, Found>, known: &BTreeSet<Name>, path: &[String]) -> Name {
    let length = (0..=path.len()).rev().find(|length| known.contains(&path[..*length]));
    let (module, rest) = path.split_at(length.unwrap_or(0));
    let again = rest.first().and_then(|name| found.get(module)?.exports.get(name));
    again.map_or_else(|| module.to_vec(), |target| home(found, known, target))
}

/// The module of a source file, whose path is relative to the crate's.
fn name(path: &Path) -> Name {
    let mut name: Name =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(name.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        // A `main.rs` below the root is a module like any other.
        let is_root = name.len() == 1 || name.last().is_some_and(|last| last == "mod");
        if is_root {
            name.pop();
        }
    }
    name
}

/// What the code of a module says of others.
#[derive(Default)]
struct Found {
    /// Paths from the crate's root.
    paths: BTreeSet<Name>,
    /// What is re-exported, by the name it has here.
    exports: BTreeMap<String, Name>,
    /// Modules that have a name of their own here.
    names: BTreeMap<String, Name>,
}

struct Scan<'a> {
    module: Name,
    known: &'a BTreeSet<Name>,
    excluded: Vec<Range<usize>>,
    found: Found,
}

impl Scan<'_> {
    fn tokens(&mut self, stream: TokenStream) {
        let tokens: Vec<_> = stream
            .into_iter()
            .filter(|token| {
                let start = token.span().byte_range().start;
                !self.excluded.iter().any(|range| range.contains(&start))
            })
            .collect();
        let (mut index, mut exported, mut imported) = (0, false, false);
        while let Some(token) = tokens.get(index) {
            index += 1;
            match token {
                TokenTree::Ident(word) if word == "use" => imported = true,
                TokenTree::Ident(word) if word == "pub" => {
                    let scoped = matches!(tokens.get(index), Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis);
                    let next = tokens.get(index + usize::from(scoped));
                    exported = matches!(next, Some(TokenTree::Ident(word)) if word == "use");
                    index += usize::from(scoped);
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => {
                    (exported, imported) = (false, false);
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(word) => {
                    let leads = separator(&tokens, index);
                    let inside = index >= 3 && separator(&tokens, index - 3);
                    let start = self.start(&word.to_string()).filter(|_| leads && !inside);
                    if let Some(start) = start {
                        index = self.path(&tokens, index, start, exported, imported);
                    }
                }
                _ => {}
            }
        }
    }

    /// Where a path leads that begins with `word`: none if not to this crate.
    fn start(&self, word: &str) -> Option<Name> {
        match word {
            "crate" => Some(Name::new()),
            "self" => Some(self.module.clone()),
            "super" => Some(self.module[..self.module.len().saturating_sub(1)].to_vec()),
            _ => self.found.names.get(word).cloned().or_else(|| {
                let child = [&self.module[..], &[word.to_owned()]].concat();
                self.known.contains(&child).then_some(child)
            }),
        }
    }

    /// Follows a path from `::` at `index` on. Returns where it ends.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut index: usize,
        mut path: Name,
        exported: bool,
        imported: bool,
    ) -> usize {
        while separator(tokens, index) {
            match tokens.get(index + 2) {
                Some(TokenTree::Ident(word)) if word == "super" => {
                    path.pop();
                }
                Some(TokenTree::Ident(word)) if word == "self" => {}
                Some(TokenTree::Ident(word)) => path.push(word.to_string()),
                Some(TokenTree::Group(group)) if imported => {
                    let tokens: Vec<_> = group.stream().into_iter().collect();
                    let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
                    for entry in tokens.split(comma).filter(|entry| !entry.is_empty()) {
                        let mut path = path.clone();
                        if let TokenTree::Ident(word) = &entry[0]
                            && word != "self"
                        {
                            path.push(word.to_string());
                        }
                        self.path(entry, 1, path, exported, imported);
                    }
                    return index + 3;
                }
                _ => break,
            }
            index += 3;
        }
        let here = match (tokens.get(index), tokens.get(index + 1)) {
            (Some(TokenTree::Ident(renamed)), Some(name)) if renamed == "as" => name.to_string(),
            _ => path.last().cloned().unwrap_or_default(),
        };
        if exported {
            self.found.exports.insert(here, path);
        } else if imported && self.known.contains(&path) {
            // What is used of it counts.
            self.found.names.insert(here, path);
        } else {
            self.found.paths.insert(path);
        }
        index
    }
}

/// Whether there is a `::` at `index`.
fn separator(tokens: &[TokenTree], index: usize) -> bool {
    let colon = |index: usize| matches!(tokens.get(index), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(index) && colon(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = files.iter().map(|(path, _)| dir.path().join(path)).collect();
        for (path, (_, text)) in paths.iter().zip(files) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        largest(dir.path(), paths.iter(), &Config::default()).unwrap()
    }

    #[test]
    fn a_circle_is_found_wherever_its_paths_stand() {
        let members = circle(&[
            ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
            ("a/mod.rs", "pub mod x;\npub use x::deep;\nuse crate::{b::{self, Thing}, e};"),
            ("a/x.rs", "pub fn deep() { asm!(\"\", sym crate::c::f) }"),
            ("b.rs", "use super::a;\nfn f() { a::deep() }"),
            ("c.rs", "use crate::b::Thing as Other;\nfn f(t: crate::d::T) {}"),
            ("d.rs", "#[cfg(test)]\nmod tests { use crate::a::x; }\nfn f() { std::a::b() }"),
            ("e.rs", "pub fn nothing() {}"),
        ]);
        assert_eq!(members, ["a::x", "b", "c"]);
    }

    #[test]
    fn without_a_circle_it_is_one_module() {
        let members = circle(&[("a.rs", "use crate::b::f;"), ("b.rs", "fn f() {}")]);
        assert_eq!(members.len(), 1);
    }
}
