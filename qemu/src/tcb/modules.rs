//! Finds a crate's source files the way the compiler does: along `mod`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quote::ToTokens;
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

use super::cfg::Config;
use super::count::{Count, assembly_lines, count};

/// The source files reachable from those of `roots` that exist, each with what is in it.
pub(super) fn files(roots: &[PathBuf], config: &Config) -> Result<BTreeMap<PathBuf, Count>> {
    let mut walk = Walk { config, files: BTreeMap::new() };
    for root in roots.iter().filter(|root| root.exists()) {
        // A crate's root owns the directory it is in, as a `mod.rs` does.
        let directory = root.parent().unwrap_or(Path::new("")).to_owned();
        walk.module(root, &directory)?;
    }
    Ok(walk.files)
}

struct Walk<'a> {
    config: &'a Config,
    files: BTreeMap<PathBuf, Count>,
}

impl Walk<'_> {
    /// Takes in the file `path`, whose modules are in `directory`.
    fn module(&mut self, path: &Path, directory: &Path) -> Result<()> {
        if self.files.contains_key(path) {
            return Ok(());
        }
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let parsed = || -> syn::Result<_> {
            let file = syn::parse_file(&text)?;
            let count = count(&text, &file, self.config)?;
            Ok((file, count))
        };
        let (file, count) = parsed().with_context(|| format!("{}", path.display()))?;
        let here = path.parent().unwrap_or(Path::new(""));
        let includes = count.includes.clone();
        self.files.insert(path.to_owned(), count);
        for include in includes {
            self.include(&here.join(include))?;
        }
        self.items(&file.items, here, directory)
    }

    fn items(&mut self, items: &[Item], here: &Path, directory: &Path) -> Result<()> {
        for item in items {
            let Item::Mod(module) = item else { continue };
            if self.config.excludes_item(module.to_token_stream()) {
                continue;
            }
            let name = module.ident.to_string();
            let name = name.trim_start_matches("r#");
            if let Some((_, items)) = &module.content {
                self.items(items, here, &directory.join(name))?;
            } else if let Some(path) = module.attrs.iter().find_map(path_attribute) {
                let path = here.join(path);
                let directory = path.parent().unwrap_or(here).to_owned();
                self.module(&path, &directory)?;
            } else {
                let within = directory.join(name);
                let flat = within.with_extension("rs");
                let path = if flat.exists() { flat } else { within.join("mod.rs") };
                self.module(&path, &within)?;
            }
        }
        Ok(())
    }

    /// Takes in a file that is included: code if it is Rust or assembly, else data.
    fn include(&mut self, path: &Path) -> Result<()> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => self.module(path, path.parent().unwrap_or(Path::new(""))),
            Some("S" | "s" | "asm") => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let count = Count { lines: assembly_lines(&text), ..Count::default() };
                self.files.insert(path.to_owned(), count);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The value of `#[path = "…"]`.
fn path_attribute(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(value), .. }) if pair.path.is_ident("path") => {
            Some(value.value())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_modules_as_the_compiler_does() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("lib.rs", "mod a; mod b; mod inline { mod c; }\n#[cfg(test)]\nmod tests;\n"),
            ("main.rs", "#[path = \"lib.rs\"]\nmod library;\n#[path = \"odd/x.rs\"]\nmod odd;\n"),
            ("a.rs", "mod deep;\n"),
            ("a/deep.rs", "global_asm!(include_str!(\"e.S\"));\n"),
            ("a/e.S", "nop\n# no\nhlt\n"),
            ("b/mod.rs", "mod e;\n"),
            ("b/e.rs", "fn f() {}\n"),
            ("inline/c.rs", ""),
            ("odd/x.rs", "mod y;"),
            ("odd/y.rs", ""),
            ("unused.rs", "fn no() {}\n"),
            ("tests.rs", "fn no() {}\n"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let roots = [dir.path().join("lib.rs"), dir.path().join("main.rs"), dir.path().join("no")];
        let found: Vec<_> = files(&roots, &Config::default())
            .unwrap()
            .iter()
            .map(|(path, count)| {
                let path = path.strip_prefix(dir.path()).unwrap();
                (path.to_str().unwrap().to_owned(), count.lines)
            })
            .collect();
        let expected = [
            ("a/deep.rs", 1),
            ("a/e.S", 2),
            ("a.rs", 1),
            ("b/e.rs", 1),
            ("b/mod.rs", 1),
            ("inline/c.rs", 0),
            ("lib.rs", 1),
            ("main.rs", 4),
            ("odd/x.rs", 1),
            ("odd/y.rs", 0),
        ];
        assert_eq!(found, expected.map(|(path, lines)| (path.to_owned(), lines)));
    }

    #[test]
    fn a_missing_module_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lib.rs");
        fs::write(&root, "mod gone;").unwrap();
        assert!(files(&[root], &Config::default()).is_err());
    }
}
