//! Debian packages, fetched once and kept unpacked below `target/linux`.
//!
//! A *set* of packages that are used together is unpacked into one tree, so that their
//! files find each other: `target/linux/NAME/root`, and beside it `versions`, which says
//! what it was made of. A set that is there is used as it is, without a network, until its
//! directory is removed. It appears whole or not at all: it is made under another name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use super::apt::{self, Apt};
use crate::output::note;
use crate::workspace;

/// Packages to be unpacked together.
#[derive(Clone, Debug)]
pub struct Set<'a> {
    /// What the set is called: a directory below `target/linux`.
    pub name: &'a str,
    /// The packages that are wanted.
    pub roots: &'a [&'a str],
    /// With them comes what they depend on, directly or not, if its name begins with one
    /// of these: `lib` is what programs need.
    pub follow: &'a [&'a str],
    /// About how much there is to fetch, in MB; for the message that says so.
    pub megabytes: u32,
}

/// An unpacked set.
#[derive(Clone, Debug)]
pub struct Packages {
    directory: PathBuf,
    versions: Vec<(String, String)>,
}

impl Packages {
    /// The packages of `set`: those kept, or those that apt has now.
    ///
    /// **Blocking** while they are fetched, with progress on standard error; also while
    /// another process fetches packages for the same directory.
    ///
    /// # Errors
    /// They are not kept and cannot be fetched. Nothing is left half done then.
    pub fn require(set: &Set<'_>) -> Result<Self> {
        Self::require_in(&directory(), set)
    }

    fn require_in(kept: &Path, set: &Set<'_>) -> Result<Self> {
        let directory = kept.join(set.name);
        if let Some(packages) = Self::read(&directory, set) {
            return Ok(packages);
        }
        fs::create_dir_all(kept).with_context(|| format!("cannot make {}", kept.display()))?;
        let lock = File::create(kept.join("lock")).context("cannot make a lock")?;
        if lock.try_lock().is_err() {
            note!("linux: waiting for another process that fetches packages");
            lock.lock().context("cannot wait for another process that fetches packages")?;
        }
        if let Some(packages) = Self::read(&directory, set) {
            return Ok(packages);
        }
        Self::fetch(kept, &directory, set).map_err(|error| {
            anyhow!(
                "no {} from Debian's archive: {error:#}\n\
                 This takes apt and dpkg, as Debian and Ubuntu have them, and a network; both \
                 only the first time: what was fetched is kept in {}",
                set.roots.join(" "),
                directory.display()
            )
        })
    }

    /// What is kept in `directory`, if it is what `set` asks for.
    fn read(directory: &Path, set: &Set<'_>) -> Option<Self> {
        let text = fs::read_to_string(directory.join("versions")).ok()?;
        let (request, versions) = text.split_once('\n')?;
        if request != set.request() {
            return None;
        }
        let versions = versions.lines().filter_map(|line| line.split_once(' '));
        let versions = versions.map(|(name, version)| (name.to_owned(), version.to_owned()));
        Some(Self { directory: directory.to_owned(), versions: versions.collect() })
    }

    /// Fetches a set and puts it in place.
    fn fetch(kept: &Path, directory: &Path, set: &Set<'_>) -> Result<Self> {
        let apt = Apt::with_fresh_lists(kept.join("apt"))?;
        let roots: Vec<String> = set.roots.iter().map(|&root| root.to_owned()).collect();
        let wanted = apt.closure(&roots, set.follow)?;
        note!(
            "linux: fetching {} packages for {}, about {} MB, once",
            wanted.len(),
            set.name,
            set.megabytes
        );
        let scratch = tempfile::Builder::new().prefix("fetch-").tempdir_in(kept)?;
        let archives = scratch.path().join("archives");
        let made = scratch.path().join("made");
        fs::create_dir_all(made.join("root"))?;
        fs::create_dir(&archives)?;
        let mut versions = Vec::new();
        for package in apt.download(&wanted, &archives)? {
            let (name, version) = apt::name_and_version(&package)?;
            note!("linux: unpacking {name} {version}");
            apt::unpack(&package, &made.join("root"))?;
            versions.push((name, version));
        }
        let mut text = set.request() + "\n";
        text.extend(versions.iter().map(|(name, version)| format!("{name} {version}\n")));
        fs::write(made.join("versions"), text)?;
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::rename(&made, directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Self::read(directory, set).context("what was fetched cannot be read")
    }

    /// The directory that stands for `/`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The file that would be `/path`.
    ///
    /// # Errors
    /// No package of the set holds it.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let file = resolve(&self.root(), path)?;
        ensure!(file.is_file(), "{} hold no /{path}", self.summary());
        Ok(file)
    }

    /// Each package with its version.
    #[must_use]
    pub fn versions(&self) -> &[(String, String)] {
        &self.versions
    }

    /// The version of one package.
    #[must_use]
    pub fn version(&self, package: &str) -> Option<&str> {
        self.versions.iter().find(|(name, _)| name == package).map(|(_, version)| version.as_str())
    }

    fn summary(&self) -> String {
        let names: Vec<_> = self.versions.iter().map(|(name, _)| name.as_str()).collect();
        format!("the packages {} in {}", names.join(", "), self.directory.display())
    }
}

impl Set<'_> {
    /// What is asked for, as a line: kept packages for another line are not these.
    fn request(&self) -> String {
        format!("{} with {}", self.roots.join(" "), self.follow.join(" "))
    }
}

/// Where packages and all else about Linux guests is kept: `target/linux`.
#[must_use]
pub fn directory() -> PathBuf {
    workspace::target_dir().join("linux")
}

/// The file `path` of the system in `root`, its symbolic links followed as that system
/// would: an absolute one begins at `root`.
fn resolve(root: &Path, path: &str) -> Result<PathBuf> {
    let mut open: Vec<String> = path.split('/').rev().map(ToOwned::to_owned).collect();
    let mut found = root.to_owned();
    let mut links = 0;
    while let Some(part) = open.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." if found == root => continue,
            ".." => {
                found.pop();
                continue;
            }
            _ => found.push(&part),
        }
        let Ok(target) = fs::read_link(&found) else { continue };
        links += 1;
        ensure!(links <= 16, "too many symbolic links on the way to /{path}");
        let target = target.to_str().with_context(|| format!("{}", found.display()))?;
        if target.starts_with('/') {
            found = root.to_owned();
        } else {
            found.pop();
        }
        open.extend(target.split('/').rev().map(ToOwned::to_owned));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_kept_needs_no_network_and_what_is_not_is_an_error() {
        let kept = tempfile::tempdir().unwrap();
        let set =
            Set { name: "tools", roots: &["no-such-package-42"], follow: &["lib"], megabytes: 1 };
        let root = kept.path().join("tools/root/bin");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("tool"), "").unwrap();
        let versions = "no-such-package-42 with lib\nno-such-package-42 1:2.3\nlibx 4\n";
        fs::write(kept.path().join("tools/versions"), versions).unwrap();

        let packages = Packages::require_in(kept.path(), &set).unwrap();
        assert_eq!(packages.version("no-such-package-42"), Some("1:2.3"));
        assert_eq!(packages.versions().len(), 2);
        assert_eq!(packages.file("bin/tool").unwrap(), root.join("tool"));
        let error = packages.file("bin/other").unwrap_err().to_string();
        assert!(error.contains("hold no /bin/other") && error.contains("libx"), "{error}");

        // Another request is another set.
        let other = Set { follow: &[], ..set };
        assert!(Packages::read(&kept.path().join("tools"), &other).is_none());
    }

    #[test]
    fn links_stay_within_the_tree() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib/libc.so"), "").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/lib/libc.so", root.join("usr/absolute")).unwrap();
        symlink("../../../../lib/libc.so", root.join("usr/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let library = root.join("usr/lib/libc.so");
        for path in ["lib/libc.so", "/usr/absolute", "usr/up", "./lib//../lib/libc.so"] {
            assert_eq!(resolve(root, path).unwrap(), library, "{path}");
        }
        assert!(resolve(root, "loop").is_err());
        assert_eq!(resolve(root, "lib/none").unwrap(), root.join("usr/lib/none"));
    }
}
