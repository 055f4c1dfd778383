//! What `cargo exo new` makes: packages that build, run and conform as they are.
//!
//! A package is a folder with everything in it, its boot manifest included; nothing is added
//! elsewhere, so removing the folder undoes it. In `apps/` it is a member of this workspace; in a
//! folder outside of the tree it is a workspace of its own, held to the same lints, formatted
//! alike and built with the same profile and versions.
//!
//! The files lie in `templates/`, as they are but for the name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use root::manifest::NAME_LEN;

use crate::workspace;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// An application that does nothing yet
    App,
    /// A service on a UDP port that the host reaches
    Service,
    /// A policy that orders threads
    Scheduler,
    /// A pager: what is in a page that is touched
    Pager,
    /// A heap
    Heap,
    /// A policy that chooses page frames
    Frames,
    /// A UDP stack, under a service
    Stack,
    /// Two applications that share memory and wake each other
    Pair,
    /// Two applications, one of which serves the other's calls
    Protected,
    /// An application that asks its child for page frames, and a child that chooses which to give
    Revocation,
}

/// A file of a package: its path there, and its text.
type File = (&'static str, &'static str);

macro_rules! files {
    ($kind:literal: $($name:literal),*) => {
        &[$((concat!("src/", $name), include_str!(concat!("templates/", $kind, "/", $name)))),*]
    };
}

impl Kind {
    /// What it is, as `description` in Cargo.toml.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::App => "An application",
            Self::Service => "A service on a UDP port",
            Self::Scheduler => "Threads in an order of its own",
            Self::Pager => "A pager of its own",
            Self::Heap => "A heap of its own",
            Self::Frames => "A frame policy of its own",
            Self::Stack => "A UDP stack of its own",
            Self::Protected => "A protected service",
            Self::Pair => "Two applications that meet",
            Self::Revocation => "Frames that are given back when asked for",
        }
    }

    /// Whether it has tests, of conformance above all.
    pub(crate) fn is_tested(self) -> bool {
        self.sources().iter().any(|(_, text)| text.contains("#[cfg(test)]"))
    }

    /// Whether the library has another that can be measured by the same operations.
    pub(crate) fn is_in_stock(self) -> bool {
        !matches!(self, Self::App | Self::Service | Self::Pair | Self::Protected | Self::Revocation)
    }

    fn sources(self) -> &'static [File] {
        match self {
            Self::App => files!("app": "main.rs"),
            Self::Service => files!("service": "main.rs", "service.rs"),
            Self::Scheduler => files!("scheduler": "main.rs", "policy.rs"),
            Self::Pager => files!("pager": "main.rs", "pager.rs"),
            Self::Heap => files!("heap": "main.rs", "heap.rs"),
            Self::Frames => files!("frames": "main.rs", "policy.rs"),
            Self::Stack => files!("stack": "main.rs", "stack.rs"),
            Self::Protected => files!("protected": "main.rs", "tickets.rs"),
            Self::Pair => files!("pair": "main.rs", "ring.rs"),
            Self::Revocation => files!("revocation": "main.rs", "cache.rs"),
        }
    }

    fn manifest(self) -> &'static str {
        match self {
            Self::Service | Self::Stack => include_str!("templates/reached.toml"),
            Self::Protected => include_str!("templates/protected.toml"),
            Self::Pair => include_str!("templates/pair.toml"),
            Self::Revocation => include_str!("templates/revocation.toml"),
            Self::App | Self::Scheduler | Self::Pager | Self::Heap | Self::Frames => {
                include_str!("templates/alone.toml")
            }
        }
    }
}

/// Makes the package `name` in `folder`, which must not be there yet or be empty; `outside` of
/// this tree as a workspace of its own. If it cannot be made, nothing stays of it.
pub(crate) fn make(kind: Kind, name: &str, folder: &Path, outside: bool) -> Result<()> {
    check_name(name)?;
    let is_new = !folder.exists();
    let is_empty = || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(is_new || is_empty(), "{} is there already", folder.display());
    let made = write(kind, name, folder, outside);
    if made.is_err() && is_new {
        let _ = fs::remove_dir_all(folder);
    }
    made
}

/// A name that a program, a package and an application of a manifest can have.
fn check_name(name: &str) -> Result<()> {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    ensure!(
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest),
        "\"{name}\": a name is small letters, digits, - and _, and begins with a letter"
    );
    ensure!(name.len() <= NAME_LEN, "\"{name}\": a name has at most {NAME_LEN} letters");
    // Names of Rust's own crates, and what the console calls the kernel.
    ensure!(
        !["alloc", "core", "exo", "proc_macro", "std", "test"].contains(&name),
        "\"{name}\" is taken"
    );
    let metadata = workspace::metadata()?;
    if metadata.workspace_packages().iter().any(|package| package.name == name) {
        // Outside of the tree, too: a manifest finds a program by its name.
        bail!(
            "a package of this tree is called \"{name}\" already, and a manifest finds its program \
             by that name"
        );
    }
    Ok(())
}

fn write(kind: Kind, name: &str, folder: &Path, outside: bool) -> Result<()> {
    let put = |path: &str, text: &str| {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = written.and_then(|()| fs::write(&path, text));
        written.with_context(|| format!("cannot write {}", path.display()))
    };
    for (path, text) in kind.sources() {
        put(path, text)?;
    }
    put(&format!("{name}.toml"), &kind.manifest().replace("NAME", name))?;
    if outside {
        put("Cargo.toml", &outer_package(kind, name)?)?;
        put("build.rs", &outer_build()?)?;
        for path in ["rustfmt.toml", "Cargo.lock"] {
            put(path, &fs::read_to_string(workspace::root().join(path))?)?;
        }
        put(".gitignore", "/target\n")
    } else {
        put("Cargo.toml", &inner_package(kind, name))?;
        put("build.rs", INNER_BUILD)
    }
}

/// A member of this workspace.
fn inner_package(kind: Kind, name: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\ndescription = \"{}\"\nversion.workspace = true\n\
         edition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n\
         publish.workspace = true\n\n[dependencies]\nlibos.workspace = true\n\n[lints]\n\
         workspace = true\n",
        kind.about()
    )
}

const INNER_BUILD: &str = "//! Links the program for the machine.\n\n\
    include!(\"../../boot/link.rs\");\n\nfn main() {\n    link_application();\n}\n";

/// A workspace of its own, with the lints of this one.
fn outer_package(kind: Kind, name: &str) -> Result<String> {
    let tree = fs::read_to_string(workspace::root().join("Cargo.toml"))?;
    let tree: toml::Table = toml::from_str(&tree).context("the tree's Cargo.toml")?;
    let table = |name: &str| tree.get("workspace")?.get(name)?.as_table();
    let package = table("package").context("the tree's Cargo.toml has no package")?;
    let edition = package.get("edition").context("the tree's Cargo.toml has no edition")?;
    let mut lints = toml::Table::new();
    lints.insert("lints".to_owned(), table("lints").cloned().unwrap_or_default().into());
    let libos = toml::Value::from(in_tree("libos")?);
    Ok(format!(
        "[package]\nname = \"{name}\"\ndescription = \"{}\"\nversion = \"0.1.0\"\n\
         edition = {edition}\npublish = false\n\n# Not a member of any workspace above it.\n\
         [workspace]\n\n[dependencies]\n# Or by its repository: {{ git = \"…\" }}.\n\
         libos = {{ path = {libos} }}\n\n# Those of Exo.\n{}",
        kind.about(),
        toml::to_string(&lints)?
    ))
}

fn outer_build() -> Result<String> {
    let (link, tree) = (in_tree("boot/link.rs")?, in_tree("")?);
    Ok(format!(
        "//! Links the program for the machine.\n\ninclude!({link:?});\n\nfn main() {{\n    \
         link_application_of({tree:?});\n}}\n"
    ))
}

/// The whole path of a place in this tree.
fn in_tree(path: &str) -> Result<String> {
    let path = workspace::root().join(path);
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::manifest;

    #[test]
    fn names_are_those_of_programs() {
        for name in ["a", "own-heap", "t_1", "sixteen-letters1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in
            ["", "A", "1a", "-a", "a b", "a/b", "seventeen-letters", "core", "libos", "echo"]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "").unwrap();
        let error = make(Kind::App, "mine", folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_kind_has_a_manifest_that_is_good() {
        for kind in Kind::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            make(*kind, "mine", folder.path(), false).unwrap();
            let manifest = manifest::read(&folder.path().join("mine.toml")).unwrap();
            let two = matches!(kind, Kind::Pair | Kind::Protected);
            assert_eq!(manifest.apps.len(), if two { 2 } else { 1 });
            assert_eq!(manifest.apps[0].name, "mine");
            let package = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
            let package: toml::Table = toml::from_str(&package).unwrap();
            assert_eq!(package["package"]["name"].as_str(), Some("mine"));
        }
    }
}
