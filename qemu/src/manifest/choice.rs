//! Which manifest a verb takes: by name, by file, or that of an application outside of this tree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;

use super::Manifest;
use crate::{shell, workspace};

/// What to boot.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Choice {
    /// What to boot: boot/manifests/NAME.toml, or apps/NAME/NAME.toml, which an application of
    /// one's own has
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// What to boot: a boot manifest anywhere
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    manifest: Option<PathBuf>,
    /// What to boot: an application outside of this tree; the folder of its package, in which its
    /// manifest is called as the package is
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["name", "manifest"])]
    app: Option<PathBuf>,
}

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) manifest: Manifest,
    /// The file that it was read from.
    pub(crate) path: PathBuf,
    /// The folder of a package outside of this tree that has some of its programs.
    pub(crate) package: Option<PathBuf>,
}

impl Choice {
    /// The manifest of that name.
    pub(crate) fn of_name(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::default() }
    }

    /// The application outside of this tree.
    pub(crate) fn of_app(folder: &Path) -> Self {
        Self { app: Some(folder.to_owned()), ..Self::default() }
    }

    /// The same as arguments, as one types them, with a blank behind each.
    pub(crate) fn typed(&self) -> String {
        let quoted = |path: &PathBuf| shell::quote(path.as_os_str());
        let manifest = self.manifest.as_ref().map(|path| format!("--manifest {} ", quoted(path)));
        let app = self.app.as_ref().map(|folder| format!("--app {} ", quoted(folder)));
        self.name.iter().map(|name| format!("{name} ")).chain(manifest).chain(app).collect()
    }

    /// Reads the manifest that was asked for, otherwise `boot/manifests/USUAL.toml`.
    pub(crate) fn read(&self, usual: &str) -> Result<Chosen> {
        let (path, package) = self.find(usual)?;
        Ok(Chosen { manifest: super::read(&path)?, path, package })
    }

    fn find(&self, usual: &str) -> Result<(PathBuf, Option<PathBuf>)> {
        if let Some(folder) = &self.app {
            let (folder, name) = package(folder)?;
            return Ok((folder.join(format!("{name}.toml")), Some(folder)));
        }
        if let Some(path) = &self.manifest {
            return Ok((path.clone(), None));
        }
        let name = self.name.as_deref().unwrap_or(usual);
        let places = [workspace::manifest(name), workspace::manifest_of_app(name)];
        match places.into_iter().find(|path| path.is_file()) {
            Some(path) => Ok((path, None)),
            None => bail!(
                "no manifest is called \"{name}\"; there are: {}\n(`cargo exo new app {name}` makes \
                 an application with one)",
                names().join(", ")
            ),
        }
    }
}

/// The folder of a package, and the package's name.
pub(crate) fn package(folder: &Path) -> Result<(PathBuf, String)> {
    let folder =
        folder.canonicalize().with_context(|| format!("no folder {}", folder.display()))?;
    let mut command = MetadataCommand::new();
    command.no_deps().manifest_path(folder.join("Cargo.toml")).current_dir(workspace::root());
    let metadata = command.exec().with_context(|| format!("no package in {}", folder.display()))?;
    let packages = metadata.workspace_packages();
    let package = packages
        .iter()
        .find(|package| package.manifest_path.parent().is_some_and(|at| at == folder));
    let package = package.with_context(|| format!("no package in {}", folder.display()))?;
    Ok((folder, package.name.to_string()))
}

/// The names that manifests of this tree have.
fn names() -> Vec<String> {
    let stem = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    let folders = |at: &str| std::fs::read_dir(workspace::root().join(at)).into_iter().flatten();
    let paths = |at: &str| folders(at).filter_map(|entry| Some(entry.ok()?.path()));
    let shared = paths("boot/manifests").filter_map(|path| stem(&path));
    let own = paths("apps").filter_map(|path| stem(&path));
    let own = own.filter(|name| workspace::manifest_of_app(name).is_file());
    let mut names: Vec<_> = shared.chain(own).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(name: Option<&str>, app: Option<&str>) -> Choice {
        Choice { name: name.map(Into::into), app: app.map(Into::into), manifest: None }
    }

    #[test]
    fn a_name_is_a_manifest_of_the_tree() {
        let chosen = choice(Some("bench"), None).read("default").unwrap();
        assert_eq!((chosen.path, chosen.package), (workspace::manifest("bench"), None));
        let usual = choice(None, None).read("default").unwrap();
        assert_eq!(usual.path, workspace::manifest("default"));
        let error = choice(Some("nothing-such"), None).read("default").unwrap_err().to_string();
        assert!(error.contains("there are: attack, bench, "), "{error}");
    }

    #[test]
    fn a_folder_must_hold_a_package() {
        for folder in ["/nowhere/at/all", "boot/manifests"] {
            let folder = workspace::root().join(folder);
            let error = choice(None, folder.to_str()).read("default").unwrap_err().to_string();
            assert!(error.starts_with("no "), "{error}");
        }
    }
}
