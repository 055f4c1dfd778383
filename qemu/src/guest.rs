//! Builds what runs in the guest: the kernel, root, the applications, the bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Metadata;
use root::manifest::Manifest;

use crate::bundle::{self, Image};
use crate::workspace;

/// The name of the kernel's program, as in backtraces.
pub const KERNEL: &str = "exokernel";
/// What programs in ring 3 are built on.
const LIBRARY_OS: &str = "libos";
/// The package it is built from.
pub(crate) const KERNEL_PACKAGE: &str = "exo";
/// The image the kernel starts.
pub const ROOT: &str = "root";

/// Builds the kernel, root and the programs that `manifest` names; cargo shows its
/// progress on standard error. Done once per process for each set of programs.
///
/// The kernel is built alone: cargo would otherwise give the crates it shares with
/// the applications every feature that any application asks for.
pub fn build(manifest: &Manifest) -> Result<()> {
    build_with(manifest, None)
}

/// The same, if some of the programs are those of the package in the folder `outside`, which
/// is not part of this tree.
pub fn build_with(manifest: &Manifest, outside: Option<&Path>) -> Result<()> {
    static BUILT: Mutex<BTreeSet<Vec<String>>> = Mutex::new(BTreeSet::new());
    let images = images(manifest);
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if built.contains(&images) {
        return Ok(());
    }
    let known = programs(workspace::metadata()?);
    let own = outside.map(|folder| own_programs(folder, &known)).transpose()?.unwrap_or_default();
    run(kernel_cargo("build"), "building the kernel")?;
    let mut command = workspace::guest_cargo("build");
    command.arg("--bins");
    for image in images.iter().filter(|image| !own.contains(image)) {
        command.args(["--package", package_of(&known, image)?]);
    }
    run(command, "building the guest's programs")?;
    if let Some(folder) = outside {
        let mut command = workspace::guest_cargo("build");
        command.arg("--bins").args(outside_arguments(folder)?);
        run(command, "building the application")?;
    }
    built.insert(images);
    Ok(())
}

/// The program of each application of `manifest`, and root's, by the application's name.
pub(crate) fn images_by_name(manifest: &Manifest) -> BTreeMap<String, String> {
    let apps = manifest.apps.iter().map(|app| (app.name.clone(), app.image.clone()));
    apps.chain([(ROOT.to_owned(), ROOT.to_owned())]).collect()
}

/// Makes the boot bundle for `manifest` from what [`build`] has built.
pub fn bundle(manifest: &Manifest) -> Result<Vec<u8>> {
    manifest.check()?;
    let images = images(manifest)
        .iter()
        .map(|name| Image::from_elf_file(name, &workspace::guest_elf(name)))
        .collect::<Result<Vec<_>>>()?;
    bundle::write(&images, &manifest.encode())
}

/// The file for a bundle that stays, of the manifest in a file: `target/guest/bundle-NAME.bin`.
#[must_use]
pub fn kept_bundle(manifest: &Path) -> PathBuf {
    let mut name = OsString::from("bundle-");
    name.push(manifest.file_stem().unwrap_or_default());
    name.push(".bin");
    workspace::guest_target_dir().join(name)
}

/// Writes a bundle to a file that stays. A machine that has the file before open keeps that.
pub fn write_bundle(path: &Path, bundle: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let directory = path.parent().context("no directory")?;
        let readable = std::fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().permissions(readable).tempfile_in(directory)?;
        file.write_all(bundle)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A cargo command `verb` for the kernel with the guest's flags.
pub(crate) fn kernel_cargo(verb: &str) -> Command {
    let mut command = workspace::guest_cargo(verb);
    command.args(["--package", KERNEL_PACKAGE, "--bins"]);
    command
}

/// Every program of the workspace that runs in ring 3, as (package, program): those of the
/// packages under `apps/` that are built on the library OS.
pub(crate) fn programs(metadata: &Metadata) -> Vec<(String, String)> {
    let apps = metadata.workspace_root.join("apps");
    let packages = metadata.workspace_packages().into_iter();
    packages
        .filter(|package| package.manifest_path.starts_with(&apps))
        .filter(|package| package.dependencies.iter().any(|needed| needed.name == LIBRARY_OS))
        .flat_map(|package| {
            let bins = package.targets.iter().filter(|target| target.is_bin());
            bins.map(|target| (package.name.to_string(), target.name.clone()))
        })
        .collect()
}

/// What leads a cargo command for the guest to the package in `folder`, outside of this tree,
/// and has it built as the tree's own are: profiles are those of a workspace's root.
pub(crate) fn outside_arguments(folder: &Path) -> Result<Vec<OsString>> {
    let mut arguments = vec!["--manifest-path".into(), folder.join("Cargo.toml").into()];
    let tree = std::fs::read_to_string(workspace::root().join("Cargo.toml"))?;
    let tree: toml::Table = toml::from_str(&tree).context("the tree's Cargo.toml")?;
    for profile in ["release", workspace::GUEST_PROFILE] {
        let fields = tree.get("profile").and_then(|profiles| profiles.get(profile)?.as_table());
        // What is meant for a package of this tree alone is in tables.
        let own = fields.into_iter().flatten().filter(|(_, value)| !value.is_table());
        for (field, value) in own {
            arguments
                .extend(["--config".into(), format!("profile.{profile}.{field}={value}").into()]);
        }
    }
    Ok(arguments)
}

/// The programs of the package in `folder`. None may be called as one of `known` is: both
/// would be built to one file.
fn own_programs(folder: &Path, known: &[(String, String)]) -> Result<Vec<String>> {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.no_deps().manifest_path(folder.join("Cargo.toml")).current_dir(workspace::root());
    let metadata = command.exec().with_context(|| format!("no package in {}", folder.display()))?;
    let packages = metadata.workspace_packages();
    let targets = packages.iter().flat_map(|package| &package.targets);
    let own: Vec<_> =
        targets.filter(|target| target.is_bin()).map(|target| target.name.clone()).collect();
    if let Some((_, taken)) = known.iter().find(|(_, program)| own.contains(program)) {
        bail!("{}: a program of this tree is called \"{taken}\", too", folder.display());
    }
    Ok(own)
}

/// Runs a command whose output people see.
pub(crate) fn run(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("{what}: cannot start"))?;
    // That a signal ended it, the command itself does not tell.
    if let Some(signal) = status.signal() {
        bail!("{what}: ended by signal {signal}");
    }
    ensure!(status.success(), "{what} failed");
    Ok(())
}

/// The images of a bundle: root first, then each program once.
fn images(manifest: &Manifest) -> Vec<String> {
    let own = manifest.apps.iter().flat_map(|app| [&app.image].into_iter().chain(&app.images));
    let programs: BTreeSet<_> = own.cloned().collect();
    let others = programs.into_iter().filter(|image| image != ROOT);
    std::iter::once(ROOT.to_owned()).chain(others).collect()
}

fn package_of<'a>(programs: &'a [(String, String)], image: &str) -> Result<&'a str> {
    let Some((package, _)) = programs.iter().find(|(_, program)| program == image) else {
        let known: Vec<_> = programs.iter().map(|(_, program)| program.as_str()).collect();
        bail!(
            "manifest: no program is called \"{image}\"; there are: {}\n\
             (`cargo exo new app {image}` makes one of your own, a package under apps/)",
            known.join(", ")
        );
    };
    Ok(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told() {
        let of = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run(command, "it").unwrap_err().to_string()
        };
        assert_eq!(of("kill -KILL $$"), "it: ended by signal 9");
        assert_eq!(of("exit 3"), "it failed");
    }

    #[test]
    fn programs_of_ring_3_are_not_those_of_linux() {
        let programs = programs(workspace::metadata().unwrap());
        let has = |name: &str| programs.iter().any(|(_, program)| program == name);
        assert!(has(ROOT) && has("kvstore") && has("attacker"), "{programs:?}");
        assert!(!has("kvstore-linux"), "{programs:?}");
    }
}
