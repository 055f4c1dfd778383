//! Which crates from elsewhere are linked into a package, and which features it asks for.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package, PackageId};

use super::cfg::Config;
use crate::workspace;

/// A crate that does not come from this workspace.
pub(super) struct Foreign {
    /// Name and version.
    pub(super) name: String,
    /// The file that its modules begin in.
    pub(super) root: PathBuf,
    /// With which features it is built. Those that other packages of the workspace ask for are
    /// among them.
    pub(super) config: Config,
}

/// The crates that do not come from this workspace and that `package` depends on, for
/// any target, directly or not; what only builds or tests it does not count.
pub(super) fn third_party(package: &str) -> Result<Vec<Foreign>> {
    let mut foreign = Vec::new();
    for (package, features) in linked(package)? {
        // Macros run in the compiler.
        let library = package.targets.iter().find(|target| target.is_lib());
        let Some(library) = library.filter(|_| package.source.is_some()) else { continue };
        let name = format!("{} {}", package.name, package.version);
        let root = library.src_path.clone().into_std_path_buf();
        foreign.push(Foreign { name, root, config: Config { features } });
    }
    foreign.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(foreign)
}

/// The features of crates of this workspace that `package` asks for, directly or not, as
/// `crate/feature`, and those crates have by default. Built alone, it has no others.
pub(super) fn features(package: &str) -> Result<Vec<String>> {
    let linked = linked(package)?;
    let own =
        || linked.iter().map(|(package, _)| package).filter(|package| package.source.is_none());
    let asked = own().flat_map(|package| &package.dependencies).filter(|dependency| {
        dependency.kind == DependencyKind::Normal
            && own().any(|package| *package.name == dependency.name)
    });
    let asked = asked.flat_map(|dependency| {
        dependency.features.iter().map(|feature| format!("{}/{feature}", dependency.name))
    });
    let default = own().filter(|package| package.features.contains_key("default"));
    Ok(asked.chain(default.map(|package| format!("{}/default", package.name))).collect())
}

/// `package` and the packages that it depends on when it is built, not tested, each with
/// the features that are on.
fn linked(package: &str) -> Result<Vec<(Package, BTreeSet<String>)>> {
    let mut command = MetadataCommand::new();
    command.manifest_path(workspace::root().join("Cargo.toml"));
    let metadata = command.exec().context("cannot ask cargo for the dependencies")?;
    let resolve = metadata.resolve.as_ref().context("cargo resolved no dependencies")?;
    let package = metadata
        .workspace_packages()
        .into_iter()
        .find(|candidate| candidate.name == package)
        .with_context(|| format!("there is no package {package}"))?;

    let mut seen: BTreeSet<&PackageId> = BTreeSet::new();
    let mut left = vec![&package.id];
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == *id);
        let dependencies = node.map_or(&[][..], |node| &node.deps);
        left.extend(dependencies.iter().filter_map(|dependency| {
            let linked =
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            linked.then_some(&dependency.pkg)
        }));
    }
    let packages = metadata.packages.iter().filter(|package| seen.contains(&package.id));
    let features = |id: &PackageId| {
        let node = resolve.nodes.iter().find(|node| node.id == *id);
        let features = node.map_or(&[][..], |node| &node.features);
        features.iter().map(ToString::to_string).collect()
    };
    Ok(packages.map(|package| (package.clone(), features(&package.id))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_is_linked_only() {
        let own = third_party("exo-cmd").unwrap();
        assert!(own.iter().any(|name| name.name.starts_with("syn ")));
        // Indirect: libc's replacement beneath tempfile.
        assert!(own.iter().any(|name| name.name.starts_with("rustix ")));
        // A dependency of tests.
        assert!(!own.iter().any(|name| name.name.starts_with("proptest ")));
        assert!(third_party("no-such-package").is_err());
    }

    #[test]
    fn knows_who_asks_for_features() {
        // An application writes filters; ring 0 only takes them.
        let mut of_applications = features("libos").unwrap();
        of_applications.dedup();
        assert_eq!(of_applications, ["dpf/language"]);
        assert!(features("exo").unwrap().is_empty());
    }
}
